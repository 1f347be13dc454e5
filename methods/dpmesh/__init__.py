"""DPMesh: Exploiting Diffusion Prior for Occluded Human Mesh Recovery (Zhu et al., CVPR 2024). See README.md here."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from methods.dpmesh.codebook_training import Codebook

__all__ = ["Codebook"]


def __getattr__(name: str) -> Any:
    """Imports a method, and Lightning with it, only when asked: reading published weights needs no Trainer."""
    if name == "Codebook":
        from methods.dpmesh.codebook_training import Codebook

        return Codebook
    raise AttributeError(f"module {__name__} has no attribute {name}")
