"""Glassdock in Jupyter."""
