"""The command line, and a person's own pictures."""
