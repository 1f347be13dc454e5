"""DPMesh: diffusion prior for occluded human mesh recovery (Zhu et al., CVPR 2024)."""
