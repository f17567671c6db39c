"""Words of texts, and rewards measured on them."""
