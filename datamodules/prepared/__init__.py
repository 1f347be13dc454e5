"""Reads prepared folders: columns on disk, rows of a split, and the data modules that are made of them."""
