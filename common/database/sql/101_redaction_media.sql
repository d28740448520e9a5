-- Which file a message of ours brought that is taken back: it is deleted then.
ALTER TABLE admin_redaction ADD COLUMN media TEXT;
