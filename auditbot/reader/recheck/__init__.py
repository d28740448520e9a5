"""Decrypt what is archived once more, with the archive's own keys, and compare."""
