"""What the verbs do, without the command line: each takes values and returns values."""
