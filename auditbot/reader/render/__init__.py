"""Messages → what people and other programs take in."""
