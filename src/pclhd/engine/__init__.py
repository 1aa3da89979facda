"""The training loop: the alternation of labelling and training, its stages, and its records."""
