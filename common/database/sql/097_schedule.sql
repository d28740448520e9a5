-- Commands that are given at set times. rule is at:MOMENT, every:SECONDS or cron:EXPRESSION;
-- missed says what becomes of runs that were due while Steward was down: once, skip or all.
CREATE TABLE admin_schedule (
    number BIGINT PRIMARY KEY,
    event_id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    room_id TEXT NOT NULL,
    text TEXT NOT NULL,
    formatted TEXT,
    rule TEXT NOT NULL,
    zone TEXT NOT NULL,
    missed TEXT NOT NULL,
    begun_ms BIGINT NOT NULL,
    next_ms BIGINT,
    last_ms BIGINT,
    runs BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX admin_schedule_next ON admin_schedule (next_ms);
