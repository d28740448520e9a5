-- What adminbot keeps of a room: how things were before they were changed for a while, and what
-- its admins have it say there.
CREATE TABLE admin_room_note (
    room_id TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (room_id, name)
);
CREATE INDEX admin_room_note_name ON admin_room_note (name);

-- What adminbot is about to do in a room by itself because of an event there: greet somebody,
-- answer a word, take back what was written too fast. key names it, so that it is done once.
CREATE TABLE admin_reaction (
    key TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    room_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    event_id TEXT NOT NULL,
    text TEXT NOT NULL,
    at_ms BIGINT NOT NULL
);
CREATE INDEX admin_reaction_at ON admin_reaction (at_ms);
