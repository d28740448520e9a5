-- What was deleted of the archive is noted by its name.
CREATE INDEX audit_segment_key ON audit_segment (object_key);
CREATE INDEX audit_object_key ON audit_object (object_key);
