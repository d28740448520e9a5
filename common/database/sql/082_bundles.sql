-- Bundles of room keys that an inviting client offered and that were not fetched yet; "sealed"
-- holds the description of the encrypted file.
CREATE TABLE crypto_key_bundle (
    bot_id TEXT NOT NULL,
    room_id TEXT NOT NULL,
    sender TEXT NOT NULL,
    sender_key TEXT NOT NULL,
    signing_key TEXT NOT NULL,
    sealed {blob} NOT NULL,
    received_ms BIGINT NOT NULL,
    due_ms BIGINT NOT NULL,
    PRIMARY KEY (bot_id, room_id, sender)
);
