"""Networks whose layers are looked at: pre-trained, with random parameters, or small ones of the literature."""
