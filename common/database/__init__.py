"""One database, PostgreSQL or SQLite."""
