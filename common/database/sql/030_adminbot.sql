-- Messages that are commands, from the moment they were recognised until they are answered.
-- trust is NULL for a message that was not encrypted. The texts are emptied when it is done.
CREATE TABLE admin_command (
    event_id TEXT PRIMARY KEY,
    room_id TEXT NOT NULL,
    sender TEXT NOT NULL,
    text TEXT NOT NULL,
    formatted TEXT,
    thread TEXT,
    addressed INTEGER NOT NULL,
    trust TEXT,
    origin_ms BIGINT NOT NULL,
    received_ms BIGINT NOT NULL,
    status TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    due_ms BIGINT NOT NULL
);
CREATE INDEX admin_command_status ON admin_command (status, due_ms);
-- Encrypted messages whose room key has not come yet; kept only as long as a command is obeyed.
CREATE TABLE admin_unreadable (
    event_id TEXT PRIMARY KEY,
    room_id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    body {blob} NOT NULL,
    direct INTEGER NOT NULL,
    received_ms BIGINT NOT NULL
);
CREATE INDEX admin_unreadable_session ON admin_unreadable (room_id, session_id);
-- What commands want to change: asked about, confirmed once, carried out once. Named after the
-- command's event. early_reaction is a confirmation that came before the homeserver had told
-- us the name of our own question.
CREATE TABLE admin_plan (
    event_id TEXT PRIMARY KEY REFERENCES admin_command (event_id),
    room_id TEXT NOT NULL,
    requester TEXT NOT NULL,
    summary TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    steps TEXT NOT NULL,
    code TEXT NOT NULL,
    typed INTEGER NOT NULL,
    question_id TEXT,
    early_reaction TEXT,
    status TEXT NOT NULL,
    expires_ms BIGINT NOT NULL
);
CREATE INDEX admin_plan_status ON admin_plan (status);
CREATE INDEX admin_plan_room ON admin_plan (room_id, status);
-- The trail: who asked for what, where, and what became of it. Rows are only ever added.
CREATE TABLE admin_action (
    event_id TEXT NOT NULL,
    phase TEXT NOT NULL,
    step INTEGER NOT NULL,
    at_ms BIGINT NOT NULL,
    room_id TEXT NOT NULL,
    sender TEXT NOT NULL,
    command TEXT NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (event_id, phase, step)
);
CREATE INDEX admin_action_time ON admin_action (at_ms);
