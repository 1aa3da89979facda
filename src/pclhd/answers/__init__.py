"""From similarities to answers: probabilities, thresholds, "nobody here", and measures of all three."""
