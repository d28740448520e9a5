-- Devices of the bots that were deleted from outside or became unusable, and were replaced;
-- "recorded" and "told" are 1 once the archive has it and the admins were told.
CREATE TABLE identity_lost_device (
    user_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    noticed_ms BIGINT NOT NULL,
    recorded INTEGER NOT NULL DEFAULT 0,
    told INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (user_id, device_id)
);
