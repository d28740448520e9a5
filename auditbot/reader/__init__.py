"""Reading an archive; imports nothing of what writes it."""
