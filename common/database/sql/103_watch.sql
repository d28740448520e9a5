-- Events that are known of and not recorded: late, or lost. "found_by" is 'graph' (another event
-- names it as its parent) or 'sample' (the homeserver told of it when it was asked).
CREATE TABLE audit_missing (
    event_id TEXT PRIMARY KEY,
    room_id TEXT NOT NULL,
    found_by TEXT NOT NULL,
    noticed_ms BIGINT NOT NULL
);
CREATE INDEX audit_missing_noticed ON audit_missing (noticed_ms);
-- How deep in its room's graph the first event was whose parents were told: what lies no deeper
-- follows what was there before the record.
CREATE TABLE audit_floor (
    room_id TEXT PRIMARY KEY,
    depth BIGINT NOT NULL
);
-- Which rooms were compared with the homeserver on which UTC day, over one hour taken by chance:
-- how many events it told of, how many of them were not recorded, and why it could not be asked.
CREATE TABLE audit_sample (
    day INTEGER NOT NULL,
    room_id TEXT NOT NULL,
    events BIGINT NOT NULL,
    missing BIGINT NOT NULL,
    trouble TEXT,
    PRIMARY KEY (day, room_id)
);
-- The same for people, stored beside the document, which names its hash.
ALTER TABLE audit_statement ADD COLUMN page {blob};
-- Whether each day's objects are encrypted to a key of the day's own, which can be destroyed.
ALTER TABLE audit_stream ADD COLUMN erasable INTEGER NOT NULL DEFAULT 0;
-- Those keys: the public half, and the secret half wrapped for the officers ("state" 'made'), which
-- nobody else can open, until it is stored ('stored') and later destroyed ('erased').
CREATE TABLE audit_day_key (
    stream TEXT NOT NULL,
    day INTEGER NOT NULL,
    public_key TEXT NOT NULL,
    object_key TEXT NOT NULL,
    wrapped {blob},
    sha256 TEXT NOT NULL,
    size BIGINT NOT NULL,
    version_id TEXT,
    manifest BIGINT,
    state TEXT NOT NULL,
    PRIMARY KEY (stream, day)
);
-- Time stamps of checkpoints by an authority: its answer, decided ('made'), then stored ('stored').
CREATE TABLE audit_stamp (
    object_key TEXT PRIMARY KEY,
    stream TEXT NOT NULL,
    body {blob} NOT NULL,
    sha256 TEXT NOT NULL,
    version_id TEXT,
    manifest BIGINT,
    state TEXT NOT NULL
);
