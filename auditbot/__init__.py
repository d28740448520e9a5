"""auditbot: reads every room and keeps a complete archive of what was said."""
