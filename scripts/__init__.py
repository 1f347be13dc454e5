"""The commands, each a short composition root; `noise2pose COMMAND` reaches them too."""
