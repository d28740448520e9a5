-- From which addresses accounts of this server were used lately, and on which device: personal data,
-- deleted after adminbot.seen_from_days. address is '' where the homeserver tells none that can be
-- read, place is the same in an order in which a network's addresses follow one another. device_id
-- is '' where only the account is known; device_name is its name in small letters.
CREATE TABLE admin_seen_from (
    user_id TEXT NOT NULL,
    address TEXT NOT NULL,
    device_id TEXT NOT NULL,
    place TEXT NOT NULL,
    device_name TEXT NOT NULL,
    user_agent TEXT NOT NULL,
    last_ms BIGINT NOT NULL,
    PRIMARY KEY (user_id, address, device_id)
);
CREATE INDEX admin_seen_from_place ON admin_seen_from (place);
CREATE INDEX admin_seen_from_device ON admin_seen_from (device_id);
CREATE INDEX admin_seen_from_last ON admin_seen_from (last_ms);
-- Since when that is written down without a gap, and up to which visit it has been.
CREATE TABLE admin_seen_from_watch (
    id INTEGER PRIMARY KEY,
    since_ms BIGINT NOT NULL,
    visits_ms BIGINT NOT NULL
);
