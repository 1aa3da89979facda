"""Pseudo labels from embeddings, and the matching of clusters across the modalities."""
