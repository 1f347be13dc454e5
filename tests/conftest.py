import os

import pytest
import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)  # tiny tensors: more threads only get into each other's way

# The same examples everywhere, and none refused because the machine is busy.
settings.register_profile("suite", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


def pytest_collection_modifyitems(items):
    """Runs files with slow tests first: of several processes, none is left with one of them at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def environment():
    """Takes back variables that a test or its libraries set, such as the rank of a process."""
    before = dict(os.environ)
    yield
    if dict(os.environ) != before:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(autouse=True)
def seed():
    """Makes a test draw the same numbers whichever tests ran before it in the same process."""
    torch.manual_seed(0)
