"""From similarities to answers: probabilities, thresholds, "no one here", and measures of all three."""
