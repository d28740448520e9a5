-- Devices that were told why they do not get a room key of ours (m.room_key.withheld), so that
-- each is told once. Empty room and session: no Olm session could be made (code m.no_olm).
CREATE TABLE crypto_withheld_told (
    bot_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    room_id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    recipient_device TEXT NOT NULL,
    PRIMARY KEY (bot_id, device_id, room_id, session_id, user_id, recipient_device)
);
