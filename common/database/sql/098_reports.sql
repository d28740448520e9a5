-- What standing work has to remember: how far a watcher has come.
CREATE TABLE admin_memory (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);
-- What became of reports: who cares for one, and whether it is closed. kind is event, user or room.
CREATE TABLE admin_report (
    kind TEXT NOT NULL,
    report_id BIGINT NOT NULL,
    claimed_by TEXT,
    closed_by TEXT,
    changed_ms BIGINT NOT NULL,
    PRIMARY KEY (kind, report_id)
);
-- Plans that another server admin has to approve, and who did.
ALTER TABLE admin_plan ADD COLUMN second INTEGER NOT NULL DEFAULT 0;
ALTER TABLE admin_plan ADD COLUMN approved_by TEXT;
