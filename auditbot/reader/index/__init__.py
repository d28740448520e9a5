"""The local index: which records there are and what words are in them, rebuilt at any time."""
