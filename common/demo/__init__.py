"""A whole Steward with real servers and clients, on one machine."""
