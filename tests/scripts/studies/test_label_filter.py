import re

import lightning as L
import pytest
import torch

from datamodules.rendered_people import RenderedPeople
from methods.base import class_path_of
from methods.keypoint_estimator import KeypointEstimator
from methods.posepp import Refiner
from methods.posepp.labels.filtering import MIRROR, MISALIGNED, NO_PERSON, TWO_PERSONS, judge
from methods.posepp.labels.settings import Filter
from noise2pose import skeletons
from scripts.studies.label_filter import RATES, corrupt, detections_of, main, percent, rates, seen_of

FLIP = list(skeletons.get("coco_17").flip_order)


@pytest.fixture(scope="module")
def people():
    return RenderedPeople(images=False, num_people=3000, skeleton="coco_17").load("test")


def test_labels_are_wrong_at_the_rates_that_are_said(people):
    given = corrupt(people, 0)
    assert given.wrong == corrupt(people, 0).wrong != corrupt(people, 1).wrong
    for name, rate in RATES.items():
        assert given.wrong.count(name) / len(given.wrong) == pytest.approx(rate, abs=0.07)
    side = people["box"][:, 2]
    distance = (given.labels[..., :2] - given.truth[..., :2]).norm(dim=-1) / side[:, None]
    for row, wrong in enumerate(given.wrong):
        if wrong == "":
            assert distance[row].mean() < 0.03
        elif wrong == MIRROR:
            exchanged = (given.labels[row, FLIP, :2] - given.truth[row, :, :2]).norm(dim=-1) / side[row]
            assert exchanged.mean() < 0.03 and torch.equal(given.labels[row, FLIP, 2], given.truth[row, :, 2])
        elif wrong == MISALIGNED:
            assert distance[row].max() > 0.05


def test_faces_that_look_away_are_not_seen(people):
    seen, yaw = seen_of(people), corrupt(people, 0).yaw
    assert seen[yaw < 20][:, 0].float().mean() > 0.9 and seen[yaw > 160][:, 0].float().mean() < 0.1


def test_recall_and_precision_are_counted_over_the_right_people(people):
    given = corrupt(people, 0)
    found = detections_of(people, given, None, 0)
    assert [len(each) for each in found] == [{NO_PERSON: 0, TWO_PERSONS: 2}.get(wrong, 1) for wrong in given.wrong]
    verdicts = judge(given.labels, given.area, found, Filter())
    everybody = rates(given, verdicts)[0]
    assert everybody[:2] == ("0-180", str(len(verdicts)))
    kept = sum(v.kept for v, wrong in zip(verdicts, given.wrong, strict=True) if not wrong)
    assert everybody[2] == percent(kept, given.wrong.count(""))
    called = [wrong for v, wrong in zip(verdicts, given.wrong, strict=True) if v.reason == MIRROR]
    assert everybody[3] == percent(called.count(MIRROR), given.wrong.count(MIRROR))
    assert everybody[5] == percent(called.count(MIRROR), len(called))
    assert everybody[-4:-1] == ("100", "100", "100")  # nobody there is always seen
    assert percent(0, 0) == "-"


def test_the_command_measures_an_estimator_and_a_refiner(tmp_path, capsys):
    L.seed_everything(0, verbose=False)
    for name, method in (("e", KeypointEstimator(channels=8)), ("r", Refiner(channels=8, num_layers=1))):
        content = {"state_dict": method.state_dict(), "hyper_parameters": dict(method.hparams)}
        torch.save({**content, "class_path": class_path_of(type(method))}, tmp_path / f"{name}.ckpt")
    options = ["--num_people", "400", "--cache", str(tmp_path)]
    main([*options, "--refiner", str(tmp_path / "r.ckpt")])
    told = capsys.readouterr().out
    assert "20 people, seed 0, detector: simulated" in told and "label error before refinement" in told
    found = re.findall(r"refinement, % of the box: ([\d.]+); after: ([\d.]+)", told)
    before, after = (float(part) for part in found[0])
    assert 0.3 < before < 3.0 and after == pytest.approx(before, abs=0.2)  # untrained, it moves nothing
    main([*options, "--checkpoint", str(tmp_path / "e.ckpt")])
    told = capsys.readouterr().out
    assert "detector: Keypoint estimator" in told and "no right label was kept" in told
