"""What officers and operators do to the archive: destinations, retention, holds, keys."""
