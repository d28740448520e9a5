-- In which room something is missing, as far as that is known: its end is recorded there, too.
ALTER TABLE audit_gap ADD COLUMN room_id TEXT;
