"""Synapse's administration API, one frozen dataclass an endpoint; checked against 1.163."""
