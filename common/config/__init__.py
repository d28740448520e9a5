"""Settings: schema, loading, examples."""
