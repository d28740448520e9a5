-- Of a registration token: the rooms that who comes with it is joined to (a JSON list), whose
-- account it is for, and what that account gets (JSON: displayname, email, type).
ALTER TABLE admin_token ADD COLUMN rooms TEXT NOT NULL DEFAULT '[]';
ALTER TABLE admin_token ADD COLUMN for_user TEXT;
ALTER TABLE admin_token ADD COLUMN profile TEXT NOT NULL DEFAULT '{}';
-- How many registration tokens a month somebody who is no server admin may make.
CREATE TABLE admin_token_grant (
    user_id TEXT PRIMARY KEY,
    per_month BIGINT NOT NULL,
    granted_by TEXT NOT NULL,
    granted_ms BIGINT NOT NULL
);
-- Tokens that were made within such a quota; month is UTC, as 2026-11.
CREATE TABLE admin_token_request (
    digest TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    month TEXT NOT NULL,
    made_ms BIGINT NOT NULL
);
CREATE INDEX admin_token_request_user ON admin_token_request (user_id, month);
-- New accounts of people, and with which token each came. came: open (not known yet), token, none
-- or unknown. state says what is still to be done because of the token: due, done or failed.
-- seen_ms is when we first saw it; told is 1 when who watches registrations knows.
CREATE TABLE admin_arrival (
    user_id TEXT PRIMARY KEY,
    created_ms BIGINT NOT NULL,
    seen_ms BIGINT NOT NULL,
    came TEXT NOT NULL,
    digest TEXT,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    told INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX admin_arrival_came ON admin_arrival (came);
CREATE INDEX admin_arrival_state ON admin_arrival (state);
CREATE INDEX admin_arrival_told ON admin_arrival (told);
CREATE INDEX admin_arrival_seen ON admin_arrival (seen_ms);
-- Where new accounts are told of: an admin room, or ('') the direct chat of who asked for it.
CREATE TABLE admin_registration_watch (
    room_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    since_ms BIGINT NOT NULL,
    PRIMARY KEY (room_id, user_id)
);
-- What is collected for the copy of somebody's data, sealed; gone when it is handed over.
CREATE TABLE admin_export_part (
    export TEXT NOT NULL,
    part TEXT NOT NULL,
    body {blob} NOT NULL,
    made_ms BIGINT NOT NULL,
    PRIMARY KEY (export, part)
);
