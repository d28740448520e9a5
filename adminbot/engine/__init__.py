"""How a message becomes an outcome; pure: no I/O, and time is an argument."""
