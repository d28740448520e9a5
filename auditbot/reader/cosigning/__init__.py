"""Cosignatures: what a second party says that it saw of an archive, out of Steward's reach."""
