import numpy as np
import pytest
import torch

from noise2pose.metrics.functional import pa_mpjpe
from scripts.benchmarks.bodies import comparisons, textbook_pa_mpjpe
from scripts.benchmarks.measure import measure


@pytest.mark.parametrize("row", comparisons(torch.device("cpu"), quick=True), ids=lambda row: row.name)
def test_both_sides_of_a_row_answer_the_same(row):
    measured = measure(row, repeats=1)
    assert measured["ratio"] > 0 and "differ" not in measured["result"]
    assert all(0 <= value < 1e-5 for value in measured["checks"].values())


def test_the_textbook_refuses_reflections_too():
    pred = np.random.default_rng(0).normal(size=(14, 3)).astype(np.float32)
    mirrored = pred * np.array([-1.0, 1.0, 1.0], np.float32)
    ours = float(pa_mpjpe(torch.from_numpy(pred), torch.from_numpy(mirrored)))
    assert ours > 0.1 and abs(textbook_pa_mpjpe(pred, mirrored) - ours) < 1e-5
