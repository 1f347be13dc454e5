"""What `doctor` reports: installation, prepared data, checkpoints, experiments."""
