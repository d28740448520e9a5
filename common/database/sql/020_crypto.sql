-- The Olm account of each bot's device ("bot_id" is the bot's user ID everywhere below): its
-- encrypted pickle, and what of its published keys has to be renewed. "revision" changes with
-- every write of the pickle.
CREATE TABLE crypto_account (
    bot_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    revision TEXT NOT NULL,
    pickle TEXT NOT NULL,
    one_time_keys_due INTEGER NOT NULL DEFAULT 1,
    fallback_key_due INTEGER NOT NULL DEFAULT 1,
    fallback_key_ms BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (bot_id, device_id)
);

-- The private halves of each bot's cross-signing keys, sealed.
CREATE TABLE crypto_cross_signing (
    bot_id TEXT NOT NULL,
    usage TEXT NOT NULL,
    sealed_seed {blob} NOT NULL,
    PRIMARY KEY (bot_id, usage)
);

-- Olm sessions with other devices, as encrypted pickles.
CREATE TABLE crypto_olm_session (
    bot_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    sender_key TEXT NOT NULL,
    session_id TEXT NOT NULL,
    pickle TEXT NOT NULL,
    used_ms BIGINT NOT NULL,
    PRIMARY KEY (bot_id, device_id, sender_key, session_id)
);

-- Devices whose Olm messages could not be read, until a new Olm session was offered to them;
-- "sent_ms" is when that was last done.
CREATE TABLE crypto_wedged (
    bot_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    sender_key TEXT NOT NULL,
    due INTEGER NOT NULL,
    sent_ms BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (bot_id, device_id, user_id, sender_key)
);

-- Inbound Megolm sessions (room keys), as encrypted pickles. They belong to the bot, not to its
-- device: a new device still reads with them.
CREATE TABLE crypto_inbound_session (
    bot_id TEXT NOT NULL,
    room_id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    sender_key TEXT NOT NULL,
    sender TEXT NOT NULL,
    signing_key TEXT NOT NULL,
    source TEXT NOT NULL,
    first_index BIGINT NOT NULL,
    pickle TEXT NOT NULL,
    received_ms BIGINT NOT NULL,
    PRIMARY KEY (bot_id, session_id, room_id, sender_key)
);

-- Room keys that their senders said they would not give. Empty room and session: no Olm session
-- with that sender could be made (code m.no_olm).
CREATE TABLE crypto_withheld (
    bot_id TEXT NOT NULL,
    room_id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    sender TEXT NOT NULL,
    code TEXT NOT NULL,
    received_ms BIGINT NOT NULL,
    PRIMARY KEY (bot_id, session_id, room_id, sender)
);

-- Which event each message index of each Megolm session belongs to: the replay check. Digests
-- instead of names, because this table has a row for every encrypted event ever read.
CREATE TABLE crypto_message_index (
    slot {blob} PRIMARY KEY,
    event {blob} NOT NULL
);

-- Users whose devices a bot follows ("followed" is 0 once no room is shared with them). Their
-- devices are out of date while queried < changes.
CREATE TABLE crypto_user (
    bot_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    followed INTEGER NOT NULL DEFAULT 1,
    changes BIGINT NOT NULL DEFAULT 1,
    queried BIGINT NOT NULL DEFAULT 0,
    queried_ms BIGINT NOT NULL DEFAULT 0,
    retry_ms BIGINT NOT NULL DEFAULT 0,
    first_master_key TEXT NOT NULL DEFAULT '',
    master_key TEXT NOT NULL DEFAULT '',
    self_signing_key TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (bot_id, user_id)
);

-- Those users' devices. "signed_by" is the master key of the identity that signs the device, or
-- empty; "present" is 0 for a deleted device; "refused" is 1 if its keys were ever replaced.
CREATE TABLE crypto_device (
    bot_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    ed25519 TEXT NOT NULL,
    curve25519 TEXT NOT NULL,
    signed_by TEXT NOT NULL DEFAULT '',
    present INTEGER NOT NULL DEFAULT 1,
    refused INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (bot_id, user_id, device_id)
);

CREATE INDEX crypto_device_key ON crypto_device (bot_id, curve25519);

-- The Megolm session with which a bot's device sends to a room at present.
CREATE TABLE crypto_outbound_session (
    bot_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    room_id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    pickle TEXT NOT NULL,
    messages BIGINT NOT NULL DEFAULT 0,
    created_ms BIGINT NOT NULL,
    PRIMARY KEY (bot_id, device_id, room_id)
);

-- Which devices have been given that session.
CREATE TABLE crypto_outbound_share (
    bot_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    room_id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    recipient_device TEXT NOT NULL,
    ed25519 TEXT NOT NULL,
    curve25519 TEXT NOT NULL,
    PRIMARY KEY (bot_id, device_id, room_id, session_id, user_id, recipient_device)
);
