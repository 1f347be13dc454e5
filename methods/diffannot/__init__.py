"""DiffAnnot: diffusion as the second stage of an annotator of human meshes. See README.md in this folder."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from methods.diffannot.module import DiffAnnot

__all__ = ["DiffAnnot"]


def __getattr__(name: str) -> Any:
    """Imports the method, and Lightning with it, on first use: reading published weights needs no Trainer."""
    if name == "DiffAnnot":
        from methods.diffannot.module import DiffAnnot

        return DiffAnnot
    raise AttributeError(f"module {__name__} has no attribute {name}")
