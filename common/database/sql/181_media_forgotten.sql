-- What attachments were that were sealed to a key that is destroyed: "clear_sha256" is NULL then. In an
-- encrypted archive it is sealed with the other two from now on.
UPDATE audit_object SET clear_sha256 = NULL, clear_bytes = 0, mime = NULL WHERE place IN (
    SELECT 'age ' || coalesce(endpoint_url, '') || ' ' || destination || ' ' || object_key
    FROM audit_content_key JOIN audit_stream ON audit_stream.id = stream WHERE state = 'erased'
);
DELETE FROM audit_media_source WHERE place IN (
    SELECT 'age ' || coalesce(endpoint_url, '') || ' ' || destination || ' ' || object_key
    FROM audit_content_key JOIN audit_stream ON audit_stream.id = stream WHERE state = 'erased'
);
UPDATE audit_object SET clear_sha256 = NULL, clear_bytes = 0, mime = NULL WHERE place IN (
    SELECT 'age ' || coalesce(endpoint_url, '') || ' ' || destination || ' ' || stream || ' '
        || CAST(day AS TEXT)
    FROM audit_day_key JOIN audit_stream ON audit_stream.id = stream WHERE state = 'erased'
);
DELETE FROM audit_media_source WHERE place IN (
    SELECT 'age ' || coalesce(endpoint_url, '') || ' ' || destination || ' ' || stream || ' '
        || CAST(day AS TEXT)
    FROM audit_day_key JOIN audit_stream ON audit_stream.id = stream WHERE state = 'erased'
);
