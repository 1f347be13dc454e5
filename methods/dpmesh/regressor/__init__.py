"""From backbone features to a body: volume, transformer, pose heads and camera."""
