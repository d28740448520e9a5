"""``steward doctor``: is everything reachable and configured, and if not, what to mend."""
