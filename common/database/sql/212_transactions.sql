-- What the homeserver pushed on each UTC day, by the numbers of its transactions: how many were
-- stored, how many came again, how many numbers in between never came, how often they began anew.
-- "newest" is the name of the last one.
CREATE TABLE appservice_transaction (
    day INTEGER PRIMARY KEY,
    seen BIGINT NOT NULL,
    repeated BIGINT NOT NULL,
    skipped BIGINT NOT NULL,
    restarted BIGINT NOT NULL,
    newest TEXT NOT NULL
);
