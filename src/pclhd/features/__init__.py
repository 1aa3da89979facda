"""Files of features and of pseudo labels."""
