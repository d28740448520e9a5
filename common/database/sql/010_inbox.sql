-- The last position handed out. Locked by every writer until its commit, so that a lower
-- position never becomes visible after a higher one.
CREATE TABLE inbox_head (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    position BIGINT NOT NULL
);
INSERT INTO inbox_head (id, position) VALUES (1, 0);
-- What the homeserver told us and somebody has still to deal with.
CREATE TABLE inbox_entry (
    position BIGINT PRIMARY KEY,
    kind TEXT NOT NULL,
    recipient TEXT NOT NULL,
    source TEXT NOT NULL,
    source_pos TEXT NOT NULL,
    received_ms BIGINT NOT NULL,
    body {blob} NOT NULL
);
CREATE INDEX inbox_entry_kind ON inbox_entry (kind, position);
-- The name of every entry there ever was: the same event is never kept twice, however often
-- and by whichever feed it comes. Outlives the entry itself.
CREATE TABLE inbox_seen (
    key TEXT PRIMARY KEY
);
-- How far each reader has come.
CREATE TABLE inbox_cursor (
    reader TEXT PRIMARY KEY,
    position BIGINT NOT NULL
);
-- Entries that a reader could not deal with, and why; kept until a person has looked.
CREATE TABLE inbox_set_aside (
    reader TEXT NOT NULL,
    position BIGINT NOT NULL,
    kind TEXT NOT NULL,
    reason TEXT NOT NULL,
    set_aside_ms BIGINT NOT NULL,
    body {blob} NOT NULL,
    PRIMARY KEY (reader, position)
);
-- How far each feed has read on the homeserver: /sync tokens.
CREATE TABLE feed_token (
    feed TEXT PRIMARY KEY,
    token TEXT NOT NULL
);
-- Stretches of rooms' timelines that a sync left out and that have still to be read, forwards
-- from one token to another.
CREATE TABLE feed_gap (
    feed TEXT NOT NULL,
    room_id TEXT NOT NULL,
    from_token TEXT NOT NULL,
    to_token TEXT NOT NULL,
    refused INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (feed, room_id, to_token)
);
