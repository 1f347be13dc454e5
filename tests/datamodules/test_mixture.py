"""Mixtures: shares, passes, processes, and what is filled in where a data set lacks something."""

from collections import Counter

import pytest
import torch

from datamodules.mixture import Mixture, MixtureOrder, join
from datamodules.synthetic_motion import SyntheticMotion
from noise2pose.batch import PoseBatch
from noise2pose.errors import InputError
from noise2pose.images.crops import box_of_keypoints
from noise2pose.metrics.protocols import Protocol
from tests.tiny import TinyPeople, TinyPoses


class Flat(TinyPoses):
    """A data set with 2-D annotations only."""

    def protocols(self, split):
        return [Protocol(name="flat", dataset="flat", split=split, skeleton="h36m_17", dimensions=2)]

    def load(self, split) -> PoseBatch:
        samples = super().load(split)
        samples["keypoints_3d"] = torch.zeros_like(samples["keypoints_3d"])
        return samples


def parts(module: Mixture):
    module.setup("fit")
    return module.train_dataloader()


def test_every_batch_has_the_shares_and_a_pass_holds_every_sample_once():
    loader = parts(Mixture([TinyPoses(40), Flat(10)], weights=[3.0, 1.0], batch_size=8, epoch_length=160))
    batches = list(loader)
    assert len(batches) == len(loader) == 20
    assert all([len(b["sample_id"]) for b in batch] == [6, 2] for batch in batches)
    seen = Counter(name for batch in batches for name in batch[0]["sample_id"])
    assert len(seen) == 40 and set(seen.values()) == {3}  # 120 samples of 40
    assert set(Counter(name for batch in batches for name in batch[1]["sample_id"]).values()) == {4}


def test_one_to_one_balances_3d_and_2d_whatever_the_sizes():
    module = Mixture([TinyPoses(60), TinyPoses(20), Flat(10)], rule="one_to_one", batch_size=16)
    loader = parts(module)
    assert [len(b["sample_id"]) for b in next(iter(loader))] == [6, 2, 8]
    assert len(loader) == 2 * 80 // 16  # the larger side decides
    with pytest.raises(InputError, match="no data set has 2-D annotations only"):
        parts(Mixture([TinyPoses(60)], rule="one_to_one"))


def test_processes_share_nothing_and_epochs_go_on():
    sizes, counts = [50, 30], [5, 3]

    def taken(rank: int, world_size: int, epochs: list[int]) -> list[list[int]]:
        order = MixtureOrder(sizes, counts, 4, seed=3, rank=rank, world_size=world_size)
        found = []
        for epoch in epochs:
            order.set_epoch(epoch)
            found += [batch.tolist() for batch in order.samples(0)]
        return found

    alone = taken(0, 1, [0, 1])
    assert sorted(number for batch in alone for number in batch)[:40] == sorted(set(sum(alone, [])))[:40]
    assert len(set(sum(alone, []))) == 40  # 8 batches of 5: no sample twice in a pass of 50
    assert alone[4:] == taken(0, 1, [1])  # as after resuming
    first, second = taken(0, 2, [0]), taken(1, 2, [0])
    assert not set(sum(first, [])) & set(sum(second, []))
    assert [batch for pair in zip(first, second, strict=True) for batch in pair] == alone  # the same run, dealt out


def test_other_seeds_give_other_orders():
    def batch(seed):
        return next(MixtureOrder([50], [5], 4, seed=seed).samples(0)).tolist()

    assert batch(0) == batch(0) != batch(1)


def test_joining_fills_in_what_teaches_nothing():
    people, poses = TinyPeople(num_samples=3).load("train"), TinyPoses(num_samples=2).load("train")
    people.pop("image")
    joined = join([people, poses])
    assert joined["has_smpl"].tolist()[-2:] == [False, False]
    assert torch.equal(joined["smpl"]["global_orient"][3:], torch.eye(3).expand(2, 3, 3))
    assert joined["smpl"]["betas"][3:].abs().sum() == 0
    assert torch.equal(joined["keypoints_2d"][3:], poses["keypoints_2d"])
    torch.testing.assert_close(joined["box"][3:], box_of_keypoints(poses["keypoints_2d"]))
    assert joined["sample_id"] == people["sample_id"] + poses["sample_id"]
    assert len({len(value) for value in joined.values() if not isinstance(value, dict)}) == 1


def test_what_does_not_fit_together_is_refused():
    with pytest.raises(InputError, match="some have images"):
        join([TinyPeople(num_samples=3).load("train"), TinyPoses(num_samples=2).load("train")])
    with pytest.raises(InputError, match="differ in shape"):
        join([TinyPoses(2, num_frames=3).load("train"), TinyPoses(2).load("train")])
    with pytest.raises(InputError, match="expected 2 numbers above 0"):
        Mixture([TinyPoses(), Flat()], weights=[1.0])
    with pytest.raises(InputError, match="data.epoch_length is 0, expected at least 1"):
        Mixture([TinyPoses()], epoch_length=0)
    with pytest.raises(InputError, match="data.evaluate_on has nothing"):
        Mixture([TinyPoses(), Flat()], evaluate_on=["nothing"])
    with pytest.raises(InputError, match="at least one sample of each"):
        parts(Mixture([TinyPoses(), Flat()], batch_size=1))


def test_each_data_set_is_evaluated_by_itself():
    module = Mixture(
        [TinyPoses(), SyntheticMotion(clips_per_activity=1, frames_per_clip=20), Flat()], evaluate_on=["tiny", "flat"]
    )
    module.setup("test")
    assert [protocol.dataset for protocol in module.protocols("test")] == ["tiny", "flat"]
    assert len(module.test_dataloader()) == 2
    turned = Mixture([TinyPoses(), Flat()], evaluate_on=["flat", "tiny"])  # the first decides which weights are best
    assert [protocol.dataset for protocol in turned.protocols("val")] == ["flat", "tiny"]
