"""What chapters compute from recorded studies."""
