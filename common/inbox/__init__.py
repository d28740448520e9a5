"""What the homeserver told us, durably, in order, once."""
