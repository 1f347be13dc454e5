"""DiffAnnot: diffusion as the second stage of a human mesh annotator. See README.md in this folder."""
