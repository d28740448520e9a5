-- What was chosen at run time for the archive's destination, over the configuration, and what
-- the configuration said then: when that changes later, it is the newer word.
ALTER TABLE audit_head ADD COLUMN chosen INTEGER NOT NULL DEFAULT 0;
ALTER TABLE audit_head ADD COLUMN destination TEXT;
ALTER TABLE audit_head ADD COLUMN endpoint_url TEXT;
ALTER TABLE audit_head ADD COLUMN chosen_by TEXT;
ALTER TABLE audit_head ADD COLUMN chosen_ms BIGINT;
ALTER TABLE audit_head ADD COLUMN configured TEXT;
-- How a stream ended and what came next; "closed" is 1 once its last manifest is stored.
-- "recipients" are the age keys its objects are encrypted to, one a line; empty for none.
ALTER TABLE audit_stream ADD COLUMN stop_reason TEXT;
ALTER TABLE audit_stream ADD COLUMN next_stream TEXT;
ALTER TABLE audit_stream ADD COLUMN next_destination TEXT;
ALTER TABLE audit_stream ADD COLUMN previous_stream TEXT;
ALTER TABLE audit_stream ADD COLUMN closed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE audit_stream ADD COLUMN recipients TEXT NOT NULL DEFAULT '';
-- What a manifest says of a segment. "tree_hashes" is the compact range of its records, 32 bytes
-- each; "counts" is JSON; "manifest" is the number of the one that lists it. "removed_ms" is
-- when it was deleted from the store by retention.
ALTER TABLE audit_segment ADD COLUMN version_id TEXT;
ALTER TABLE audit_segment ADD COLUMN tree_hashes {blob};
ALTER TABLE audit_segment ADD COLUMN counts TEXT;
ALTER TABLE audit_segment ADD COLUMN first_ms BIGINT;
ALTER TABLE audit_segment ADD COLUMN last_ms BIGINT;
ALTER TABLE audit_segment ADD COLUMN manifest BIGINT;
ALTER TABLE audit_segment ADD COLUMN removed_ms BIGINT;
-- Manifests: every byte decided ('made'), then stored ('stored'). "tree_hashes" is the compact
-- range of all records of the stream up to "tree_size".
CREATE TABLE audit_manifest (
    stream TEXT NOT NULL,
    number BIGINT NOT NULL,
    object_key TEXT NOT NULL,
    body {blob} NOT NULL,
    sha256 TEXT NOT NULL,
    signature {blob} NOT NULL,
    key_id TEXT NOT NULL,
    note_key TEXT NOT NULL,
    note {blob} NOT NULL,
    created_ms BIGINT NOT NULL,
    tree_size BIGINT NOT NULL,
    tree_hashes {blob} NOT NULL,
    totals TEXT NOT NULL,
    closing INTEGER NOT NULL,
    state TEXT NOT NULL,
    PRIMARY KEY (stream, number)
);
CREATE INDEX audit_manifest_state ON audit_manifest (state, stream, number);
-- The keys that sign: the seeds are sealed; the one in use has no "retired_ms".
CREATE TABLE audit_signing_key (
    key_id TEXT PRIMARY KEY,
    public_key {blob} NOT NULL,
    sealed_seed {blob} NOT NULL,
    created_ms BIGINT NOT NULL,
    retired_ms BIGINT
);
-- Other signed documents: decided ('made'), then stored. The manifest that lists one is of the
-- stream that was open when it was made.
CREATE TABLE audit_statement (
    object_key TEXT PRIMARY KEY,
    destination TEXT NOT NULL,
    endpoint_url TEXT,
    stream TEXT,
    body {blob} NOT NULL,
    sha256 TEXT NOT NULL,
    signature {blob} NOT NULL,
    made_ms BIGINT NOT NULL,
    version_id TEXT,
    manifest BIGINT,
    state TEXT NOT NULL
);
CREATE INDEX audit_statement_state ON audit_statement (state, stream);
