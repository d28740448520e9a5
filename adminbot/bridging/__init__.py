"""What is done with bridges: finding, watching, asking, speaking, limiting."""
