"""The diffusion backbone (ControlNet and U-Net in one step, with recorded attention) and its baselines."""
