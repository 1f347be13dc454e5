"""The commands, each a short composition root: `noise2pose COMMAND`, or `python scripts/COMMAND.py`."""
