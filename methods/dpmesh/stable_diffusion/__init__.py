"""Stable Diffusion's networks, and the layouts of its published files."""
