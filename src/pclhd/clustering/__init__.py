"""From embeddings to pseudo labels, and from one modality's clusters to the other's."""
