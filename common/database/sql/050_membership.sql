-- The device each bot has on the homeserver.
CREATE TABLE identity_device (
    user_id TEXT PRIMARY KEY,
    device_id TEXT NOT NULL
);
-- Rooms a bot should be in or should have power in, but is not; with the reason, in words.
CREATE TABLE membership_problem (
    room_id TEXT PRIMARY KEY,
    problem TEXT NOT NULL,
    since_ms BIGINT NOT NULL
);
-- How far the running sweep of all rooms has come; empty between two sweeps.
CREATE TABLE membership_sweep (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    after_room TEXT NOT NULL
);
-- Accounts that were server admins only for the moment of making adminbot one; those still
-- here have to be closed.
CREATE TABLE identity_helper (
    user_id TEXT PRIMARY KEY
);
