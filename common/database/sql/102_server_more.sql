-- Why a job ended before its last step: it was cancelled, or who asked for it lost the right.
ALTER TABLE admin_job ADD COLUMN reason TEXT NOT NULL DEFAULT '';
-- Questions for a missing argument: lines are the commands that the numbers stand for, as JSON.
-- One for each person and room; who gives another command there has forgotten it. asked_ms is
-- when the command was sent, by the homeserver's clock.
CREATE TABLE admin_choice (
    room_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    lines TEXT NOT NULL,
    formatted TEXT,
    replies_to TEXT,
    asked_ms BIGINT NOT NULL,
    until_ms BIGINT NOT NULL,
    PRIMARY KEY (room_id, user_id)
);
-- What the server held at the end of each day (UTC, as 2026-11-26), or when it was last looked.
CREATE TABLE admin_storage_day (
    day TEXT PRIMARY KEY,
    files BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    rooms BIGINT NOT NULL,
    accounts BIGINT NOT NULL
);
-- How somebody wants to be answered: in a thread or as a reply; with formatting or as plain text.
ALTER TABLE admin_person ADD COLUMN replies TEXT;
ALTER TABLE admin_person ADD COLUMN formatting TEXT;
-- Rooms that a bot was asked to leave by their own admins: it does not come back by itself.
CREATE TABLE membership_dismissal (
    room_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    asked_by TEXT NOT NULL,
    since_ms BIGINT NOT NULL,
    PRIMARY KEY (room_id, user_id)
);
-- Until when a registration token was to be valid before it was switched off; NULL: without an end.
CREATE TABLE admin_token_end (
    digest TEXT PRIMARY KEY,
    until_ms BIGINT
);
