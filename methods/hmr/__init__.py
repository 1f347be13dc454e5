"""HMR: End-to-end Recovery of Human Shape and Pose (Kanazawa et al., CVPR 2018). See README.md in this folder."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from methods.hmr.module import HMR

__all__ = ["HMR"]


def __getattr__(name: str) -> Any:
    """Imports the method, and Lightning with it, only when asked: reading published weights needs no Trainer."""
    if name == "HMR":
        from methods.hmr.module import HMR

        return HMR
    raise AttributeError(f"module {__name__} has no attribute {name}")
