"""Bridges and integrations: kinds as data, discovery, conversations with their bots, limits."""
