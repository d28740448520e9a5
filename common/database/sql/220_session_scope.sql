-- Where content is sealed: who sent what a room key was first needed for, its retention class, and
-- the number of the record by which its key is chosen, so that the room key is sealed to the same one
-- and goes with it. NULL in streams whose segments are encrypted whole.
ALTER TABLE audit_session_key ADD COLUMN sender TEXT;
ALTER TABLE audit_session_key ADD COLUMN label TEXT;
ALTER TABLE audit_session_key ADD COLUMN said_seq BIGINT;
