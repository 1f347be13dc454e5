"""The diffusion backbone: ControlNet and U-Net in one step, recorded attention, and the baselines beside it."""
