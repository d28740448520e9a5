-- What a command was sent with: the message it answers, whether it captions a file, and how it
-- came to be: message, button or schedule.
ALTER TABLE admin_command ADD COLUMN replies_to TEXT;
ALTER TABLE admin_command ADD COLUMN captions INTEGER NOT NULL DEFAULT 0;
ALTER TABLE admin_command ADD COLUMN source TEXT NOT NULL DEFAULT 'message';
-- Plans that are carried out, with what is said when all is done (sealed: it may hold passwords).
-- number counts up, for people. progress_id is the message that shows how far it is.
CREATE TABLE admin_job (
    event_id TEXT PRIMARY KEY,
    number BIGINT NOT NULL UNIQUE,
    room_id TEXT NOT NULL,
    requester TEXT NOT NULL,
    command TEXT NOT NULL,
    summary TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    status TEXT NOT NULL,
    total BIGINT NOT NULL,
    bulk INTEGER NOT NULL,
    at_once INTEGER NOT NULL,
    per_second DOUBLE PRECISION,
    report TEXT,
    result {blob},
    progress_id TEXT,
    started_ms BIGINT NOT NULL,
    ended_ms BIGINT
);
CREATE INDEX admin_job_status ON admin_job (status);
-- The steps of a plan, sealed. task is the homeserver's own name for what it goes on with.
CREATE TABLE admin_job_step (
    event_id TEXT NOT NULL,
    number BIGINT NOT NULL,
    status TEXT NOT NULL,
    step {blob} NOT NULL,
    task TEXT,
    detail TEXT NOT NULL,
    PRIMARY KEY (event_id, number)
);
CREATE INDEX admin_job_step_status ON admin_job_step (event_id, status, number);
-- What people chose for themselves.
CREATE TABLE admin_person (
    user_id TEXT PRIMARY KEY,
    language TEXT
);
-- The direct chat in which somebody was last told something private; looked at again before use.
CREATE TABLE admin_direct_chat (
    user_id TEXT PRIMARY KEY,
    room_id TEXT NOT NULL
);
-- Messages of ours that hold a secret, and when they are taken back.
CREATE TABLE admin_redaction (
    event_id TEXT PRIMARY KEY,
    room_id TEXT NOT NULL,
    due_ms BIGINT NOT NULL
);
CREATE INDEX admin_redaction_due ON admin_redaction (due_ms);
-- Buttons under messages of ours: who may, and reacts with one, has given the command.
CREATE TABLE admin_button (
    card_id TEXT NOT NULL,
    key TEXT NOT NULL,
    room_id TEXT NOT NULL,
    command TEXT NOT NULL,
    until_ms BIGINT NOT NULL,
    PRIMARY KEY (card_id, key)
);
