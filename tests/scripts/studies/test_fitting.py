"""The study of fitting: what its rows see, and that weights are chosen on other people."""

import pytest
import torch

from datamodules.base import batch_of
from methods.hmr import HMR
from methods.pose_prior import PosePrior
from methods.pose_prior.views import Views
from scripts.studies import fitting
from scripts.studies.fitting import Fitters, Measured, People, errors, hidden, measure, noisy, study, table, turned_view
from tests.tiny import TinyPeople

PEOPLE = People(TinyPeople().load("val"), TinyPeople().load("test"))
FEW = People(*(batch_of(people, torch.arange(4)) for people in PEOPLE))


@pytest.fixture(scope="module")
def fitters():
    torch.manual_seed(0)
    prior = PosePrior(width=16, num_blocks=1, guidance_iterations=4, num_starts=1)
    front_end = HMR(input="keypoints", width=16, hidden=16)
    return Fitters(prior.eval(), front_end.eval(), TinyPeople().load("train")["smpl"]["body_pose"])


def test_every_row_is_measured(fitters, monkeypatch):
    monkeypatch.setattr(fitting, "_ITERATIONS", (1, 2))
    monkeypatch.setattr(fitting, "INPUTS", {"exact": dict})
    with torch.no_grad():
        rows = study(fitters, FEW, weights=(100.0,))
    assert len(rows) == 2 * 4 + 4 and len({row.name for row in rows}) == len(rows)
    by_name = {row.name: row for row in rows}
    assert by_name["exact, search: guided"].mpjpe < by_name["exact, search: the start itself"].mpjpe
    assert by_name["exact, 4 views: guided"].mpjpe < by_name["exact, search: guided"].mpjpe
    assert all(row.pa_mpjpe < row.mpjpe and row.milliseconds > 0 for row in rows)
    assert table(rows).count("\n") == len(rows) + 1


def test_the_choice_is_made_on_validation_people():
    def row(batch, weight):
        best = 10.0 if len(batch["sample_id"]) == 32 else 100.0  # validation has 32 people
        return batch["keypoints_3d"][..., :3] * (1.0 + 0.01 * abs(weight - best))

    found = measure("row", [row], PEOPLE, (10.0, 100.0))
    assert isinstance(found, Measured) and found.weight == 10.0 and found.mpjpe > 1.0


def test_a_limb_is_hidden_and_noise_belongs_to_the_person():
    keypoints = hidden(PEOPLE.test)["keypoints_2d"]
    assert ((keypoints[..., 2] == 0).sum(dim=-1) == 2).all()
    assert torch.equal(keypoints[..., :2], PEOPLE.test["keypoints_2d"][..., :2])
    off = (noisy(PEOPLE.test)["keypoints_2d"] - PEOPLE.test["keypoints_2d"])[..., :2] / PEOPLE.test["box"][:, None, 2:]
    assert off.std() == pytest.approx(0.02, rel=0.1)
    assert torch.equal(noisy(PEOPLE.test)["keypoints_2d"], noisy(PEOPLE.test)["keypoints_2d"])


def test_a_turned_view_shows_the_same_people():
    joints = PEOPLE.test["keypoints_3d"][..., :3]
    views = Views.joined([Views.of(PEOPLE.test), turned_view(PEOPLE.test, 90.0)])
    relative = joints - joints[:, :1]
    assert views.distance(relative, views.place(relative), 0.1).max() < 1e-4
    assert errors(relative, PEOPLE.test)[0].max() < 1e-3
