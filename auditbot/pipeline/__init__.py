"""The pure stages from an event to a sealed segment, in reading order."""
