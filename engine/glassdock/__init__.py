"""Glassdock: containers you can see through."""
