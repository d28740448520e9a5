-- Record lines that are not in a sealed segment yet: those of one write are one row, because a row
-- each took a page each of SQLite's log. The lines from first_seq to last_seq without a gap, one
-- after the other, compressed; first_ms and last_ms are the earliest and the latest moment in
-- which one of them was received, and sizes has each line's bytes and milliseconds after
-- first_ms, as JSON: [[bytes, ms], …].
CREATE TABLE audit_lines (
    stream TEXT NOT NULL,
    last_seq BIGINT NOT NULL,
    first_seq BIGINT NOT NULL,
    first_ms BIGINT NOT NULL,
    last_ms BIGINT NOT NULL,
    written_ms BIGINT NOT NULL,
    sizes TEXT NOT NULL,
    lines {blob} NOT NULL,
    PRIMARY KEY (stream, last_seq)
);
-- A line that waits already becomes a row of its own, not compressed.
INSERT INTO audit_lines (stream, last_seq, first_seq, first_ms, last_ms, written_ms, sizes, lines)
    SELECT stream, seq, seq, received_ms, received_ms, written_ms, '[[' || size || ',0]]', line
    FROM audit_record;
DROP TABLE audit_record;
-- Bodies of segments until a manifest lists them; beside the segments, because a change of a
-- segment's state would write its whole row again.
CREATE TABLE audit_body (
    stream TEXT NOT NULL,
    first_seq BIGINT NOT NULL,
    body {blob} NOT NULL,
    PRIMARY KEY (stream, first_seq)
);
INSERT INTO audit_body (stream, first_seq, body)
    SELECT stream, first_seq, body FROM audit_segment WHERE body IS NOT NULL;
ALTER TABLE audit_segment DROP COLUMN body;
