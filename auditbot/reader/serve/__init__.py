"""The officers' page: local, read-only, without scripts, every look written down."""
