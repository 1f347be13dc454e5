"""D3DP: Diffusion-Based 3D Human Pose Estimation (Shan et al., ICCV 2023). See README.md in this folder."""

from methods.d3dp.module import D3DP

__all__ = ["D3DP"]
