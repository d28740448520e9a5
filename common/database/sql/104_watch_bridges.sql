-- Since when a bridge does not answer, NULL while it does, and whether the admins were told;
-- what went wrong with the operator's hook when it was run last, and when that was.
ALTER TABLE bridge ADD COLUMN down_ms BIGINT;
ALTER TABLE bridge ADD COLUMN down_told INTEGER NOT NULL DEFAULT 0;
ALTER TABLE bridge ADD COLUMN hook_trouble TEXT;
ALTER TABLE bridge ADD COLUMN hook_tried_ms BIGINT;
