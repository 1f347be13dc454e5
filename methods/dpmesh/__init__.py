"""DPMesh: Exploiting Diffusion Prior for Occluded Human Mesh Recovery (Zhu et al., CVPR 2024). See README.md here."""

from methods.dpmesh.codebook_training import Codebook
from methods.dpmesh.module import DPMesh
from methods.dpmesh.prior import Prior

__all__ = ["Codebook", "DPMesh", "Prior"]
