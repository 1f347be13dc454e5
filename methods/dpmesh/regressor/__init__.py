"""From the feature map of the backbone to a body: volume, transformer, pose heads and camera."""
