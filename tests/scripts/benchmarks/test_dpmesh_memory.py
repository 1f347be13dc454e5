"""Memory of a training step, computed without allocating it."""

import pytest
import torch

from scripts.benchmarks import dpmesh_memory
from scripts.benchmarks.dpmesh_memory import Alive, Memory, training_memory


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


def test_the_command_prints_a_table(monkeypatch, capsys):
    asked = []

    def computed(*settings):
        asked.append(settings)
        return Memory(*(number * 10**9 for number in (4, 2, 0, 1, 9)))

    monkeypatch.setattr(dpmesh_memory, "training_memory", computed)
    dpmesh_memory.main(["--size", "tiny", "--batch", "1", "8"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 3 * 2 * 2 and len(set(asked)) == 12
    assert asked[-1] == (8, "tiny", True, True, True)
    assert lines[-1] == "| bf16 | yes | yes | 8 | 4.00 | 2.00 | 0.00 | 1.00 | 9.00 |"
