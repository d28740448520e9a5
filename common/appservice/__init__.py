"""The edge where the homeserver pushes to us."""
