"""Everything observable: log lines and metrics."""
