"""The homeserver's administration API, typed; this package itself imports no client."""
