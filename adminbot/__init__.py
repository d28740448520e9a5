"""adminbot: people manage a homeserver by typing commands to it."""
