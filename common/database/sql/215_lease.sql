-- Who writes to a place whose store replaces what is there: this database's own name there, and the
-- words its lease holds. "before" is the one that a write with "token" replaces.
CREATE TABLE audit_lease (
    place  TEXT PRIMARY KEY,
    writer TEXT NOT NULL,
    token  TEXT,
    before TEXT
);
