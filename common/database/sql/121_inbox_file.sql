-- SQLite: which file holds the inbox's entries; its inbox_of holds the same.
CREATE TABLE inbox_file (
    id TEXT PRIMARY KEY
);
-- Up to where entries were deleted.
ALTER TABLE inbox_head ADD COLUMN pruned BIGINT NOT NULL DEFAULT 0;
