"""Photographs, crops, augmentation and mirroring."""
