-- What the admins are to be told unasked, by whichever part of Steward noticed it; "told" is 1
-- once they were.
CREATE TABLE alarm (
    number BIGINT PRIMARY KEY,
    sentence TEXT NOT NULL,
    at_ms BIGINT NOT NULL,
    told INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX alarm_untold ON alarm (told, number);
-- Since when a stream cannot be stored, and whether the admins were told so.
ALTER TABLE audit_stream ADD COLUMN outage_ms BIGINT;
ALTER TABLE audit_stream ADD COLUMN outage_told INTEGER NOT NULL DEFAULT 0;
