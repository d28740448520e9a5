-- Events that could not be read when they were recorded, for some weeks and for as long as they
-- wait: what is stated of a day counts them. "why" is as in the record; "read_ms" is when a key
-- came after all, NULL if none did.
CREATE TABLE audit_unread (
    event_id TEXT PRIMARY KEY,
    stream TEXT NOT NULL,
    seq BIGINT NOT NULL,
    received_ms BIGINT NOT NULL,
    room_id TEXT NOT NULL,
    sender TEXT NOT NULL,
    device_id TEXT NOT NULL,
    why TEXT NOT NULL,
    read_ms BIGINT
);
CREATE INDEX audit_unread_received ON audit_unread (received_ms);
