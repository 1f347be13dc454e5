import pytest
import torch

torch.set_num_threads(1)  # tiny tensors: more threads only get into each other's way


@pytest.fixture(autouse=True)
def seed():
    """Makes a test draw the same numbers whichever tests ran before it in the same process."""
    torch.manual_seed(0)
