"""The second feed: each bot's own /sync, for room keys and for what the push lost."""
