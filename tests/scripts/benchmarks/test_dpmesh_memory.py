"""Memory of a training step, computed without allocating it."""

import pytest
import torch

from scripts.benchmarks.dpmesh_memory import Alive, training_memory


def test_what_is_alive_is_counted_once():
    with Alive() as alive:
        kept = torch.zeros(100)
        view = kept.view(10, 10)
        for _ in range(3):
            (view + 1.0).sum()
    assert alive.now < 2 * kept.nbytes <= alive.peak < 3 * kept.nbytes


@pytest.mark.slow
def test_a_step_is_counted():
    plain = training_memory(1, "tiny")
    assert plain.teacher == 0
    assert plain.peak > plain.frozen + 5 * plain.trained  # weights, gradients, two of AdamW, averages
    saving = training_memory(1, "tiny", autocast=True, checkpointing=True, reasoning=True)
    assert saving.kept < plain.kept and saving.frozen == plain.frozen and saving.teacher == plain.trained
