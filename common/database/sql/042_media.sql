-- Attachments that are to be fetched: "sealed" is the description of the file, with its key.
-- "stream" and "seq" are the record that carries it.
CREATE TABLE audit_media (
    stream TEXT NOT NULL,
    seq BIGINT NOT NULL,
    event_id TEXT NOT NULL,
    sealed {blob} NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    since_ms BIGINT NOT NULL,
    due_ms BIGINT NOT NULL,
    PRIMARY KEY (stream, seq)
);
CREATE INDEX audit_media_due ON audit_media (due_ms);
-- Attachments that are stored, each once at each place; "id" is what its key is made of.
-- "manifest" is the number of the one that lists it, in "stream".
CREATE TABLE audit_object (
    place TEXT NOT NULL,
    id TEXT NOT NULL,
    object_key TEXT NOT NULL,
    version_id TEXT,
    sha256 TEXT NOT NULL,
    stored_bytes BIGINT NOT NULL,
    clear_sha256 TEXT,
    clear_bytes BIGINT NOT NULL,
    mime TEXT,
    stream TEXT NOT NULL,
    stored_ms BIGINT NOT NULL,
    manifest BIGINT,
    removed_ms BIGINT,
    PRIMARY KEY (place, id)
);
CREATE INDEX audit_object_unlisted ON audit_object (stream, manifest);
-- Which file of the homeserver was found to be which attachment, so that it is fetched once.
CREATE TABLE audit_media_source (
    place TEXT NOT NULL,
    source TEXT NOT NULL,
    id TEXT NOT NULL,
    PRIMARY KEY (place, source)
);
-- What is known to be missing; "seq" is the gap's record, "closed_ms" when it was closed.
CREATE TABLE audit_gap (
    name TEXT PRIMARY KEY,
    stream TEXT NOT NULL,
    seq BIGINT NOT NULL,
    opened_ms BIGINT NOT NULL,
    closed_ms BIGINT
);
-- How far the records of other tables' rows have come.
CREATE TABLE audit_position (
    feed TEXT PRIMARY KEY,
    position BIGINT NOT NULL
);
