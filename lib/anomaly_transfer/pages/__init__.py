"""What pages and notebooks show: figures, cards, what a chapter takes, and the order of the chapters."""
