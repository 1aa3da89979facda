"""Shipped weights."""
