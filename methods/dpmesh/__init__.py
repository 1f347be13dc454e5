"""DPMesh: Exploiting Diffusion Prior for Occluded Human Mesh Recovery (Zhu et al., CVPR 2024). See README.md here."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from methods.dpmesh.codebook_training import Codebook
    from methods.dpmesh.module import DPMesh
    from methods.dpmesh.prior import Prior

__all__ = ["Codebook", "DPMesh", "Prior"]

_FILES = {"Codebook": "codebook_training", "DPMesh": "module", "Prior": "prior"}


def __getattr__(name: str) -> Any:
    """Imports a method, and Lightning with it, only when asked: reading published weights needs no Trainer."""
    if name in _FILES:
        return getattr(import_module(f"methods.dpmesh.{_FILES[name]}"), name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
