"""Runs side by side: read their folders, compare like with like, write a page."""
