"""The encoder's decisions about what a section codes; no decoder imports them."""
