"""Rank a gallery, measure the ranking, by the protocols of the field."""
