-- What people who verify a bot have to see at this moment, for whoever sits at Steward's terminal:
-- emoji and numbers are no secret, they only have to be compared. "outcome" is empty while it
-- lasts, then "verified" or why it ended. Rows go away when their time is over.
CREATE TABLE crypto_verification (
    bot_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    flow TEXT NOT NULL,
    device_id TEXT NOT NULL,
    emoji TEXT NOT NULL,
    numbers TEXT NOT NULL,
    shown_ms BIGINT NOT NULL,
    ends_ms BIGINT NOT NULL,
    outcome TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (bot_id, user_id, flow)
);
