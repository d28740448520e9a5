-- The days on which records speak of an attachment: it goes when all of them are gone.
CREATE TABLE audit_object_day (
    place TEXT NOT NULL,
    id TEXT NOT NULL,
    stream TEXT NOT NULL,
    day INTEGER NOT NULL,
    PRIMARY KEY (place, id, stream, day)
);
-- Legal holds; rooms and users are JSON lists, an empty one means all.
CREATE TABLE audit_hold (
    id TEXT PRIMARY KEY,
    reason TEXT NOT NULL,
    rooms TEXT NOT NULL,
    users TEXT NOT NULL,
    from_ms BIGINT,
    to_ms BIGINT,
    actor TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    released_ms BIGINT
);
