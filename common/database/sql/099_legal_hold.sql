-- What was looked through for each hold: the days of a stream, up to which record, and with which
-- rooms of the people it names. "held" is 1 once anything of the day is held.
CREATE TABLE audit_hold_day (
    hold_id TEXT NOT NULL,
    stream TEXT NOT NULL,
    day INTEGER NOT NULL,
    seen_seq BIGINT NOT NULL,
    rooms TEXT NOT NULL,
    held INTEGER NOT NULL,
    PRIMARY KEY (hold_id, stream, day)
);
-- Versions of objects on which the store's own legal hold is set, and for which of our holds;
-- "set_ms" is NULL until the store has confirmed it, "foreign_hold" 1 if somebody else had set it.
CREATE TABLE audit_hold_object (
    hold_id TEXT NOT NULL,
    destination TEXT NOT NULL,
    endpoint_url TEXT NOT NULL,
    object_key TEXT NOT NULL,
    version_id TEXT NOT NULL,
    set_ms BIGINT,
    foreign_hold INTEGER NOT NULL,
    PRIMARY KEY (hold_id, destination, endpoint_url, object_key, version_id)
);
CREATE INDEX audit_hold_object_version
    ON audit_hold_object (destination, endpoint_url, object_key, version_id);
-- What is done once a UTC day: on which day last, and what went wrong then that was told.
CREATE TABLE audit_daily (
    task TEXT PRIMARY KEY,
    day INTEGER NOT NULL,
    trouble TEXT
);
-- How the records of a segment turned out: read or not and why, attachments stored or why not.
ALTER TABLE audit_segment ADD COLUMN outcomes TEXT NOT NULL DEFAULT '{}';
