"""Whether an archive is complete and unchanged, and if not, where."""
