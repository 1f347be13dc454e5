"""Writes prepared folders: what publishers ship, in parts that several processes read and an interruption keeps."""
