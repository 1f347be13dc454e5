"""Annotation sets: people, their cameras and bodies, and the files that hold them."""
