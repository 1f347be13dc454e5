import pytest
import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)  # tiny tensors: more threads only get into each other's way

# The same examples everywhere, and none refused because the machine is busy.
settings.register_profile("suite", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


@pytest.fixture(autouse=True)
def seed():
    """Makes a test draw the same numbers whichever tests ran before it in the same process."""
    torch.manual_seed(0)
