"""Methods that are trained in two stages."""

from lightning.pytorch.strategies import DDPStrategy
from torch import distributed

from methods.diffpose import DiffPose
from tests.methods.diffpose.contract import SMALL_DIFFPOSE
from tests.methods.test_base import train


def test_one_process_may_be_a_data_parallel_one(tmp_path, monkeypatch):
    for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE"):  # which Lightning sets
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    strategy = DDPStrategy(process_group_backend="gloo")
    try:
        assert train(DiffPose(**SMALL_DIFFPOSE), tmp_path, devices=1, strategy=strategy).global_step == 6
    finally:
        distributed.destroy_process_group()
