-- What else is needed to deal with an entry again that was set aside; "attempts" is how often that
-- was tried in vain, "due" is 1 if a person asked for it.
ALTER TABLE inbox_set_aside ADD COLUMN recipient TEXT NOT NULL DEFAULT '';
ALTER TABLE inbox_set_aside ADD COLUMN source TEXT NOT NULL DEFAULT 'transaction';
ALTER TABLE inbox_set_aside ADD COLUMN source_pos TEXT NOT NULL DEFAULT '';
ALTER TABLE inbox_set_aside ADD COLUMN received_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE inbox_set_aside ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE inbox_set_aside ADD COLUMN due INTEGER NOT NULL DEFAULT 0;
