"""Selected records for somebody who has neither the archive nor Steward, with their proofs."""
