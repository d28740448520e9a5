-- Records of a directory archive for DuckDB. Run it in the folder that holds README.txt.
CREATE OR REPLACE VIEW records AS
SELECT * FROM read_json(
    'events/*/*.jsonl.*[tz]',  -- .zst and .gz, and none that is encrypted (.age)
    format = 'newline_delimited',
    hive_partitioning = true,
    union_by_name = true,
    sample_size = -1,
    maximum_object_size = 33554432
);
-- What people wrote, with what became readable later.
CREATE OR REPLACE VIEW messages AS
SELECT e.time_utc, e.room_id, e.room_name, e.sender, e.sender_name, e.event_id,
       coalesce(d.event_type, e.event_type) AS event_type,
       coalesce(d.body, e.body) AS body,
       coalesce(d.enc_status, e.enc_status) AS enc_status, e.edit_of, e.stream, e.seq
FROM records e
LEFT JOIN records d ON d.kind = 'decryption' AND d.event_id = e.event_id
WHERE e.kind = 'event' AND e.state_key IS NULL;
-- The same records from the compacted copy, where one was made (steward audit parquet): much faster,
-- and not proved. SELECT * FROM records_parquet('*'), or of some days, records_parquet('2026-01-*').
CREATE OR REPLACE MACRO records_parquet(days) AS TABLE
SELECT * FROM read_parquet(
    'derived/parquet/dt=' || days || '/*.parquet', hive_partitioning = true, union_by_name = true
);
