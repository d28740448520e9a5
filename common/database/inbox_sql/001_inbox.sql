-- Which database these entries belong to: its inbox_file holds the same.
CREATE TABLE inbox_of (
    id TEXT PRIMARY KEY
);
-- The following are as in 010_inbox.sql, where PostgreSQL has them.
CREATE TABLE inbox_head (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    position BIGINT NOT NULL,
    pruned BIGINT NOT NULL DEFAULT 0
);
INSERT INTO inbox_head (id, position) VALUES (1, 0);
CREATE TABLE inbox_entry (
    position BIGINT PRIMARY KEY,
    kind TEXT NOT NULL,
    recipient TEXT NOT NULL,
    source TEXT NOT NULL,
    source_pos TEXT NOT NULL,
    received_ms BIGINT NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX inbox_entry_kind ON inbox_entry (kind, position);
CREATE TABLE inbox_seen (
    key TEXT PRIMARY KEY
);
