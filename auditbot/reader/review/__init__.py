"""Supervisory review: conversations chosen by chance, words to look for, and who looked at what."""
