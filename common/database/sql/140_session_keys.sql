-- Room keys with which recorded events were read, for the archive: once for each day of a stream, and
-- again where an earlier message was read. "session" is a hash of the room, the session, whose copy
-- it is and how it came; "seq" is the first record that was read with it, so that the segment with
-- that record carries it. "sealed" is what will be stored, NULL once it is in a sealed object.
CREATE TABLE audit_session_key (
    stream TEXT NOT NULL,
    day INTEGER NOT NULL,
    session TEXT NOT NULL,
    first_index BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    sealed {blob},
    PRIMARY KEY (stream, day, session, first_index)
);
CREATE INDEX audit_session_key_seq ON audit_session_key (stream, seq);
-- The object with a segment's room keys, if there are any: stored with it, listed and removed with it.
ALTER TABLE audit_segment ADD COLUMN sessions_key TEXT;
ALTER TABLE audit_segment ADD COLUMN sessions_sha256 TEXT;
ALTER TABLE audit_segment ADD COLUMN sessions_bytes BIGINT;
ALTER TABLE audit_segment ADD COLUMN sessions_version TEXT;
ALTER TABLE audit_body ADD COLUMN sessions {blob};
