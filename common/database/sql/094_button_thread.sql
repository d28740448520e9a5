-- A message with buttons may be in a thread; what comes of a button is said there too.
ALTER TABLE admin_button ADD COLUMN thread_id TEXT;
