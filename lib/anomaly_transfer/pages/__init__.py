"""What pages and notebooks show: figures, cards, and what a chapter takes."""
