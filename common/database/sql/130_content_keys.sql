-- What of a stream is encrypted: 'segments' whole (or nothing, without recipients), or of each
-- record its 'content'. "erasable" is 0, 1 (by day) or 2 (by person).
ALTER TABLE audit_stream ADD COLUMN seal TEXT NOT NULL DEFAULT 'segments';
-- The retention class of the record that carries an attachment; NULL from before.
ALTER TABLE audit_media ADD COLUMN label TEXT;
-- The keys that content is sealed to, each for a "scope": a person, or a day and retention class.
-- Of a scope whose key was destroyed the next one follows ("number"); "until_seq" is the first
-- record that the destroyed one is not for. States and columns are as in audit_day_key.
CREATE TABLE audit_content_key (
    object_key TEXT PRIMARY KEY,
    stream TEXT NOT NULL,
    scope TEXT NOT NULL,
    number INTEGER NOT NULL,
    day INTEGER,
    label TEXT,
    person TEXT,
    public_key TEXT NOT NULL,
    wrapped {blob},
    sha256 TEXT NOT NULL,
    size BIGINT NOT NULL,
    version_id TEXT,
    manifest BIGINT,
    until_seq BIGINT,
    state TEXT NOT NULL
);
CREATE UNIQUE INDEX audit_content_key_scope ON audit_content_key (stream, scope, number);
CREATE INDEX audit_content_key_made ON audit_content_key (stream) WHERE state = 'made';
CREATE INDEX audit_content_key_unlisted ON audit_content_key (stream) WHERE manifest IS NULL;
CREATE INDEX audit_content_key_person ON audit_content_key (person);
