-- Registration tokens that were made through us: who made them and for whom, so that their maker
-- can be told. digest is SHA-256 of the token, which itself is not kept. uses is what it allowed
-- before it was switched off (-1: any number).
CREATE TABLE admin_token (
    digest TEXT PRIMARY KEY,
    creator TEXT NOT NULL,
    note TEXT NOT NULL,
    made_ms BIGINT NOT NULL,
    uses BIGINT,
    told_expiry INTEGER NOT NULL DEFAULT 0,
    told_used INTEGER NOT NULL DEFAULT 0
);
