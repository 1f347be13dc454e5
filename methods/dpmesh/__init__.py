"""DPMesh: diffusion prior for occluded human mesh recovery (Zhu et al., CVPR 2024). See README.md in this folder."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from methods.dpmesh.module import DPMesh

__all__ = ["DPMesh"]


def __getattr__(name: str) -> Any:
    """Imports a method, and Lightning with it, only when asked: reading published weights needs no Trainer."""
    if name == "DPMesh":
        from methods.dpmesh.module import DPMesh

        return DPMesh
    raise AttributeError(f"module {__name__} has no attribute {name}")
