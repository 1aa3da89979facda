"""Shipped settings, one YAML file a preset."""
