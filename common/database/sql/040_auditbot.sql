-- The one row that every writer of the ledger locks first; names the export period that is open.
CREATE TABLE audit_head (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    stream TEXT
);
INSERT INTO audit_head (id, stream) VALUES (1, NULL);
-- Export periods: one for each time a destination was set. What a stream still has to cut lies
-- between cut_seq and next_seq; open_bytes and open_since_ms describe it without reading it.
CREATE TABLE audit_stream (
    id TEXT PRIMARY KEY,
    destination TEXT NOT NULL,
    endpoint_url TEXT,
    config_hash TEXT NOT NULL,
    started_ms BIGINT NOT NULL,
    stopped_ms BIGINT,
    next_seq BIGINT NOT NULL,
    cut_seq BIGINT NOT NULL,
    open_bytes BIGINT NOT NULL,
    open_since_ms BIGINT
);
-- Record lines that are not in a sealed segment yet; seq has no gap within a stream.
CREATE TABLE audit_record (
    stream TEXT NOT NULL,
    seq BIGINT NOT NULL,
    size INTEGER NOT NULL,
    received_ms BIGINT NOT NULL,
    written_ms BIGINT NOT NULL,
    line {blob} NOT NULL,
    PRIMARY KEY (stream, seq)
);
-- What was recorded, for ever: the same event never gives a second record of the same kind.
CREATE TABLE audit_seen (
    kind TEXT NOT NULL,
    event_id TEXT NOT NULL,
    sub_key TEXT NOT NULL,
    stream TEXT NOT NULL,
    seq BIGINT NOT NULL,
    sender TEXT,
    PRIMARY KEY (kind, event_id, sub_key)
);
-- Segments: decided (cut), then with the body that is to be uploaded (sealed), then without it
-- (uploaded).
CREATE TABLE audit_segment (
    stream TEXT NOT NULL,
    first_seq BIGINT NOT NULL,
    last_seq BIGINT NOT NULL,
    day INTEGER NOT NULL,
    raw_bytes BIGINT NOT NULL,
    object_key TEXT NOT NULL,
    state TEXT NOT NULL,
    sha256 TEXT,
    body {blob},
    stored_bytes BIGINT,
    sealed_ms BIGINT,
    uploaded_ms BIGINT,
    PRIMARY KEY (stream, first_seq)
);
CREATE INDEX audit_segment_state ON audit_segment (state, stream, first_seq);
-- Events that could not be read yet, with their first record's line.
CREATE TABLE audit_pending (
    event_id TEXT PRIMARY KEY,
    room_id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    since_ms BIGINT NOT NULL,
    line {blob} NOT NULL
);
CREATE INDEX audit_pending_session ON audit_pending (room_id, session_id);
-- Rooms as of their last record; revision is random, so that a cached copy is known to be it.
CREATE TABLE audit_room (
    room_id TEXT PRIMARY KEY,
    revision TEXT NOT NULL,
    complete INTEGER NOT NULL,
    context {blob} NOT NULL
);
-- The people of those rooms, who left included.
CREATE TABLE audit_member (
    room_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    membership TEXT NOT NULL,
    name TEXT,
    since BIGINT NOT NULL,
    PRIMARY KEY (room_id, user_id)
);
