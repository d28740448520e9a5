-- What is stated of a day says how many manifests were made on it, and whether one was late.
CREATE INDEX audit_manifest_created ON audit_manifest (created_ms);
