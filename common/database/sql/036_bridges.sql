-- Bridges that the configuration names or that were found. expressions is a JSON list of the
-- namespaces of its ghosts. chat_limit is what was said in chat: -1 for no limit, NULL if nothing
-- was said and the configuration holds. paused_by is a person, or “limit”; told says whether the
-- last change of it (changed_ms) was told, stopped whether the operator's hook was run. checked_ms
-- is the last look: ping_ms how long the homeserver needed to reach it, trouble why it could not.
CREATE TABLE bridge (
    name TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    bot TEXT NOT NULL,
    source TEXT NOT NULL,
    expressions TEXT NOT NULL,
    vocabulary TEXT,
    config_limit BIGINT,
    chat_limit BIGINT,
    means TEXT NOT NULL,
    paused_by TEXT,
    paused_ms BIGINT,
    changed_ms BIGINT,
    told INTEGER NOT NULL DEFAULT 1,
    stopped INTEGER NOT NULL DEFAULT 0,
    warned_ms BIGINT,
    first_seen_ms BIGINT NOT NULL,
    checked_ms BIGINT,
    up INTEGER,
    ping_ms BIGINT,
    trouble TEXT,
    blocked INTEGER,
    answered_ms BIGINT
);
CREATE UNIQUE INDEX bridge_bot ON bridge (bot);
-- On which days (UTC, counted from 1970) each bridged account sent something, and when first.
CREATE TABLE bridge_active (
    ghost TEXT NOT NULL,
    day BIGINT NOT NULL,
    bridge TEXT NOT NULL,
    first_ms BIGINT NOT NULL,
    PRIMARY KEY (ghost, day)
);
CREATE INDEX bridge_active_bridge ON bridge_active (bridge, day);
-- Rooms a bridge is at work in: bridged people were seen in them, a bridge event says so, or we
-- connected them. in_ms and out_ms are the last message from and to the other network.
CREATE TABLE bridge_room (
    bridge TEXT NOT NULL,
    room_id TEXT NOT NULL,
    network TEXT,
    remote TEXT,
    remote_name TEXT,
    connected_by TEXT,
    in_ms BIGINT,
    out_ms BIGINT,
    seen_ms BIGINT NOT NULL,
    PRIMARY KEY (bridge, room_id)
);
CREATE INDEX bridge_room_room ON bridge_room (room_id);
-- Ghosts that we suspended, and no one else: exactly these are let go again.
CREATE TABLE bridge_suspended (
    ghost TEXT PRIMARY KEY,
    bridge TEXT NOT NULL,
    at_ms BIGINT NOT NULL
);
-- Chats of an account with a bridge's bot: its own, or one the bot opened for a network.
CREATE TABLE bridge_chat (
    bridge TEXT NOT NULL,
    user_id TEXT NOT NULL,
    place TEXT NOT NULL,
    room_id TEXT NOT NULL,
    PRIMARY KEY (bridge, user_id, place)
);
-- What is known of people's log-ins, from what the bridge said to them.
CREATE TABLE bridge_login (
    bridge TEXT NOT NULL,
    user_id TEXT NOT NULL,
    remote TEXT,
    state TEXT NOT NULL,
    at_ms BIGINT NOT NULL,
    PRIMARY KEY (bridge, user_id)
);
-- When rooms were last searched for bridges that nobody named.
CREATE TABLE bridge_search (
    id INTEGER PRIMARY KEY,
    at_ms BIGINT NOT NULL
);
