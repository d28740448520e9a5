"""The access log that lies where the officers cannot change it: written, and checked."""
