"""What can be asked of and changed in our own tables: one frozen dataclass each, SQL as data."""
