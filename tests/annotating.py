"""The prediction command with the method of tests/body_method.py, in a process of its own."""

import sys

import torch

from scripts.predict import main
from tests import body_method

sys.modules["methods.fake"] = body_method  # checkpoints name only classes of methods.

if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
