"""A diffusion prior of body poses for several uses. See README.md in this folder."""

from methods.pose_prior.module import PosePrior

__all__ = ["PosePrior"]
