-- Acts that were promised for later, such as lifting a lock that has a time: the step is sealed.
-- key is of the step that wrote it down, so that it is written down once; slot names what it is
-- about, and only one waits in each. job is the plan it belongs to, which is to be over before.
-- Rows that are over are kept for a while, without the step.
CREATE TABLE admin_later (
    key TEXT PRIMARY KEY,
    slot TEXT NOT NULL,
    job TEXT NOT NULL,
    due_ms BIGINT NOT NULL,
    requester TEXT NOT NULL,
    asked_in TEXT NOT NULL,
    status TEXT NOT NULL,
    step {blob} NOT NULL,
    detail TEXT NOT NULL,
    over_ms BIGINT
);
CREATE INDEX admin_later_due ON admin_later (status, due_ms);
CREATE INDEX admin_later_slot ON admin_later (slot, status);
-- How many steps of a bulk belong together; see adminbot.engine.plan.
ALTER TABLE admin_job ADD COLUMN chain INTEGER NOT NULL DEFAULT 1;
