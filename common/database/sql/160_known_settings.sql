-- What config_hash is of, so that a change can be named; NULL in streams of before.
ALTER TABLE audit_stream ADD COLUMN settings TEXT;
-- When all rooms of the homeserver were gone through last, to the end.
CREATE TABLE membership_compared (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    compared_ms BIGINT NOT NULL
);
