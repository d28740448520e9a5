-- What a bridge's own metrics said at the last look, as JSON: each figure's name and value.
ALTER TABLE bridge ADD COLUMN metrics TEXT NOT NULL DEFAULT '{}';
