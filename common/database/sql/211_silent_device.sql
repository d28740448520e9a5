-- Devices whose messages could not be read since "since_ms", none of them; the row goes with the
-- first one that can. "told" is whether the admins know: 0 not yet, 1 by name, 2 counted among others.
CREATE TABLE audit_silent_device (
    sender TEXT NOT NULL,
    device_id TEXT NOT NULL,
    since_ms BIGINT NOT NULL,
    told INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (sender, device_id)
);
CREATE INDEX audit_silent_device_told ON audit_silent_device (told, since_ms);
CREATE INDEX audit_unread_device ON audit_unread (sender, device_id, received_ms);
