"""Two-stream networks: from image batches to embeddings."""
