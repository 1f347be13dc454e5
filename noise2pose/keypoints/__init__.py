"""2-D keypoints: files and formats, a detector, simulated detection errors, heat-maps."""
