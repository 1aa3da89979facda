"""Two-stream networks, which embed images."""
