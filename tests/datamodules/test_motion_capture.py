import pytest
import torch

from datamodules.motion_capture import MotionCapture, WeightedOrder, activity_of, split_by_person
from noise2pose.errors import InputError
from tests.datamodules import motion_folder


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """CMU by its own publisher without splits, and clips of UI-PRMD that say theirs."""
    home = tmp_path_factory.mktemp("motion")
    actions = {"01": "walk", "02": "walk", "05": "jump", "11": "run", "35": "unlisted"}
    cmu = [{"name": f"{subject}_01", "subject": subject, "action": actions[subject]} for subject in actions]
    splits = {"UIPRMD01": "train", "UIPRMD04": "val", "UIPRMD08": "test"}
    uiprmd = [
        {"name": f"{person}_{n}", "subject": person, "action": "deep squat (non-optimal)", "source": "uiprmd-vicon",
         "split": split}
        for person, split in splits.items()
        for n in range(3)
    ]  # fmt: skip
    motion_folder.write(home / "cmu", "cmu_mocap", cmu)
    motion_folder.write(home / "uiprmd", "motion_clips", uiprmd)
    return f"{home / 'cmu'},{home / 'uiprmd'}"


def test_people_are_apart_and_every_source_is_tested_by_itself(roots):
    data = MotionCapture(roots, eval_stride=20)
    people = {split: {clip.subject for clip in data.clips(split)} for split in ("train", "val", "test")}
    assert people == {
        "train": {"01", "05", "35", "UIPRMD01"},
        "val": {"11", "UIPRMD04"},
        "test": {"02", "UIPRMD08"},
    }
    assert [protocol.dataset for protocol in data.protocols("val")] == ["motion_people"]
    tests = data.protocols("test")
    assert [protocol.dataset for protocol in tests] == ["motion_people_cmu", "motion_people_uiprmd"]
    assert "cmu, people 02, every 20 frames" in tests[0].split
    data.setup("test")
    first, second = data.test_dataloader()
    assert {name for batch in first for name in batch["subject"]} == {"02"}
    assert {name for batch in second for name in batch["subject"]} == {"UIPRMD08"}
    assert {name for batch in data.val_dataloader() for name in batch["subject"]} == people["val"]


def test_activities_are_apart(roots):
    data = MotionCapture(roots, hold_out="activities")
    actions = {
        split: {activity_of({"action": c.action}) for c in data.clips(split)} for split in ("train", "val", "test")
    }
    assert not actions["train"] & (actions["val"] | actions["test"]) and "unlisted" in actions["train"]
    assert sum(map(len, actions.values())) == 5
    assert activity_of({"action": "Deep squat (non-optimal)"}) == "deep squat"
    assert activity_of({"action": "playground - climb, hang"}) == "playground"


def test_a_person_has_one_split_whoever_publishes_the_clips():
    def split(subject, publisher, **more):
        return split_by_person({"subject": subject, **more}, publisher)

    assert split("02", "cmu") == split("CMU02", "cmu") == "test" and split("94", "cmu") == "val"
    assert split("UIPRMD04", "uiprmd") == split("s04", "uiprmd") == "val"
    assert split("02", "cmu", split="train") == "train"
    splits = [split(f"p{number}", "other") for number in range(200)]
    assert (
        100 < splits.count("train") < 175
        and splits.count("val") > 5
        and splits == [split(f"p{number}", "other") for number in range(200)]
    )


@pytest.mark.parametrize("cameras", ["sampled", "fixed"])
def test_sources_have_their_shares(roots, cameras):
    data = MotionCapture(roots, weights="1,3", cameras=cameras, batch_size=8, train_stride=1)
    data.setup("fit")
    loader = data.train_dataloader()
    order = loader.sampler
    assert isinstance(order, WeightedOrder)
    sizes = order.sizes
    assert sum(sizes) == data.samples("train")[1] and order.counts == [sum(sizes) // 4, sum(sizes) - sum(sizes) // 4]
    drawn = order.order()
    assert len(drawn) == len(drawn.unique()) == sum(sizes)
    assert (drawn % sum(sizes) < sizes[0]).sum() == order.counts[0]
    often = torch.bincount(drawn % sum(sizes), minlength=sum(sizes))
    assert often[: sizes[0]].max() == 1 and often[sizes[0] :].max() - often[sizes[0] :].min() <= 1
    order.set_epoch(1)
    assert not torch.equal(drawn, order.order())
    order.set_epoch(0)
    assert torch.equal(drawn, order.order())
    assert next(iter(loader))["keypoints_2d"].shape == (8, 17, 3)


def test_a_sample_that_comes_twice_in_an_epoch_has_two_views(roots):
    data = MotionCapture(roots, weights="1,3", keypoints_2d="gt")
    take, number = data.samples("train")
    stream = data.streams("train")
    assert stream is not None
    first, again = next(stream(iter([take(torch.tensor([number - 1, 2 * number - 1]))]), 0))["keypoints_2d"]
    assert not torch.equal(first, again)


def test_validation_has_the_shares_of_the_training(roots):
    data = MotionCapture(roots, weights="1,1", eval_stride=10)
    data.setup("validate")
    subjects = [name for batch in data.val_dataloader() for name in batch["subject"]]
    assert subjects.count("11") == subjects.count("UIPRMD04") == 4 * 5


@pytest.mark.parametrize(
    "options, message",
    [
        ({"roots": "nowhere"}, "data.roots: nowhere/dataset.json does not exist; prepare it with `noise2pose prepare"),
        ({"roots": " , "}, "data.roots is ' , ', expected different folders"),
        ({"weights": "1,-1"}, "data.weights is '1,-1', expected 2 numbers above 0"),
        ({"weights": "1"}, "expected 2 numbers"),
        ({"weights": "a,b"}, "expected 2 numbers"),
        ({"hold_out": "cameras"}, "data.hold_out is cameras, expected people or activities"),
    ],
)
def test_wrong_options_are_named(roots, options, message):
    with pytest.raises(InputError, match=message):
        MotionCapture(**{"roots": roots, **options}).prepare_data()
