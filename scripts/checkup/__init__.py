"""What `doctor` reports: prepared data, checkpoints, experiments."""
