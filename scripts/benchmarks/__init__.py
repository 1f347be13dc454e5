"""What `benchmark` measures: fast paths beside textbook twins, in one run."""
