"""DiffAnnot: diffusion as the second stage of an annotator of human meshes. See README.md in this folder."""

from methods.diffannot.module import DiffAnnot

__all__ = ["DiffAnnot"]
