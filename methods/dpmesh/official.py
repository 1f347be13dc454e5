"""Where published weights are renamed: everything that DPMesh's authors released."""

from methods.dpmesh.official_backbone import load_backbone

__all__ = ["load_backbone"]
