"""One conversation, or all that a person wrote, as a document that stands by itself."""
