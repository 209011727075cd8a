"""How good scores and heat maps are, with intervals."""
