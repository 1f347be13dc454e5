"""HMR: End-to-end Recovery of Human Shape and Pose (Kanazawa et al., CVPR 2018). See README.md in this folder."""

from methods.hmr.module import HMR

__all__ = ["HMR"]
