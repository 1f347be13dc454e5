"""Networks that several methods share, with the tensor names of their published weights."""
