-- Accounts of this server, so that it need not be asked one by one what they are. kind is person,
-- guest, bridged (an application service's) or bot. welcome says what a new account still gets:
-- old (was here before us), due, done or failed; attempts counts the tries.
CREATE TABLE admin_account (
    user_id TEXT PRIMARY KEY,
    created_ms BIGINT NOT NULL,
    kind TEXT NOT NULL,
    welcome TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    detail TEXT NOT NULL DEFAULT ''
);
CREATE INDEX admin_account_created ON admin_account (created_ms);
CREATE INDEX admin_account_welcome ON admin_account (welcome);
-- Since when accounts are watched, and up to when visits were read. One row.
CREATE TABLE admin_watch (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    since_ms BIGINT NOT NULL,
    complete INTEGER NOT NULL,
    visits_ms BIGINT NOT NULL
);
-- On which days of a month somebody was seen: bit 0 is the first. Months are UTC, as 2026-11.
CREATE TABLE admin_seen (
    month TEXT NOT NULL,
    user_id TEXT NOT NULL,
    days BIGINT NOT NULL,
    PRIMARY KEY (month, user_id)
);
-- Messages of this server's people on a day (UTC, as 2026-11-26).
CREATE TABLE admin_day (
    day TEXT PRIMARY KEY,
    messages BIGINT NOT NULL
);
-- When something was last sent in a room, to some minutes.
CREATE TABLE admin_room_activity (
    room_id TEXT PRIMARY KEY,
    last_ms BIGINT NOT NULL
);
-- Rooms and spaces that new accounts are joined to.
CREATE TABLE admin_default_room (
    room_id TEXT PRIMARY KEY,
    added_by TEXT NOT NULL,
    added_ms BIGINT NOT NULL
);
-- Rooms that were blocked through us: the homeserver has no list of them.
CREATE TABLE admin_blocked_room (
    room_id TEXT PRIMARY KEY,
    reason TEXT NOT NULL,
    blocked_by TEXT NOT NULL,
    blocked_ms BIGINT NOT NULL
);
-- What new people are told by the server. One row.
CREATE TABLE admin_motd (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    text TEXT NOT NULL,
    set_by TEXT NOT NULL
);
-- While there is a row, the bots enter no rooms: they were told to leave all.
CREATE TABLE membership_pause (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    since_ms BIGINT NOT NULL
);
