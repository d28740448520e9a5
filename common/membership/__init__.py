"""Being in every room."""
