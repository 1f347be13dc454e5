"""DPMesh: diffusion prior for occluded human mesh recovery (Zhu et al., CVPR 2024). See README.md in this folder."""
