"""Benchmarks: ``make bench``. They print figures and prove nothing; tests do that."""
