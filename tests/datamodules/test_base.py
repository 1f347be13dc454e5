from functools import partial

import pytest
import torch

from datamodules.base import BatchLoader, EpochOrder, batch_of, check_keypoints, move, select
from noise2pose.errors import InputError
from tests.tiny import TinyPoses


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("num_samples, batch_size", [(10, 4), (7, 16), (3, 1)])
def test_evaluation_sees_every_sample_once(num_samples, batch_size, world_size):
    orders = [
        EpochOrder(num_samples, batch_size, shuffle=False, rank=r, world_size=world_size) for r in range(world_size)
    ]
    batches = [list(order) for order in orders]
    assert all(len(found) == len(order) > 0 for found, order in zip(batches, orders, strict=True))
    assert sorted(torch.cat([index for found in batches for index in found]).tolist()) == list(range(num_samples))


def test_an_evaluation_batch_is_the_same_in_every_process():
    alone = [index.tolist() for index in EpochOrder(100, 10, shuffle=False)]
    shared = [
        [index.tolist() for index in EpochOrder(100, 10, shuffle=False, rank=rank, world_size=2)] for rank in (0, 1)
    ]
    assert shared[0] == alone[0::2] and shared[1] == alone[1::2]


def test_training_is_shuffled_by_seed_and_epoch_and_shared_evenly():
    orders = [EpochOrder(103, 10, shuffle=True, seed=5, rank=rank, world_size=2) for rank in (0, 1)]
    assert len(orders[0]) == len(orders[1]) == 5
    first = torch.cat([index for order in orders for index in order])
    assert len(set(first.tolist())) == 100
    again = torch.cat([index for order in orders for index in order])
    assert torch.equal(first, again)
    for order in orders:
        order.set_epoch(1)
    assert not torch.equal(first, torch.cat([index for order in orders for index in order]))


def test_more_processes_than_samples_are_refused():
    with pytest.raises(InputError, match="2 samples cannot be shared by 3"):
        EpochOrder(2, 4, shuffle=False, world_size=3)


def test_loader_cuts_batches_like_a_naive_loop():
    samples = TinyPoses(num_samples=20).load("val")
    loader = BatchLoader(partial(batch_of, samples), EpochOrder(10, 4, shuffle=False))
    batches = list(loader)
    assert [len(batch["sample_id"]) for batch in batches] == [4, 4, 2]
    for number, batch in enumerate(batches):
        for i, name in enumerate(batch["sample_id"]):
            row = number * 4 + i
            assert name == samples["sample_id"][row]
            assert torch.equal(batch["keypoints_3d"][i], samples["keypoints_3d"][row])
            assert torch.equal(batch["camera"]["focal"][i], samples["camera"]["focal"][row])


def test_select_and_move_keep_the_structure():
    samples = TinyPoses(num_samples=20).load("val")
    chosen = move(select(samples, torch.tensor([3, 3, 0])), torch.device("cpu"))
    assert chosen["sample_id"] == ["val_3", "val_3", "val_0"]
    assert chosen["camera"]["image_size"].shape == (3, 2)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda samples: samples["keypoints_3d"].__setitem__((2, 5, 1), torch.nan),
            "keypoints_3d of sample 2 holds NaN",
        ),
        (
            lambda samples: samples.update(keypoints_2d=samples["keypoints_2d"][:, :16]),
            "keypoints_2d has 16 joints, expected 17",
        ),
        (lambda samples: samples.update(keypoints_2d=samples["keypoints_2d"][:0]), "no samples in keypoints_2d"),
    ],
)
def test_unusable_samples_are_refused_by_name(change, message):
    samples = TinyPoses(num_samples=20).load("val")
    change(samples)
    with pytest.raises(InputError, match=f"some.npy: {message}"):
        check_keypoints(samples, "some.npy", num_joints=17)
