"""One training loop, its objectives, and when to stop."""
