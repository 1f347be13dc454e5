"""The metrics against the numbers of VideoPose3D, mmhuman3d and SPIN (`test_evaluation`: those of D3DP and P-STMO)."""

import pytest
import torch

from noise2pose.metrics import functional
from noise2pose.metrics.pose_errors import MPJPE, MPJVE, NMPJPE, PAMPJPE
from tests.parity.procedural import read_fixture
from tests.places import PARITY


def read(name: str) -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(value) for key, value in read_fixture(PARITY / name)[0].items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_videopose3d(dtype: torch.dtype) -> None:
    data = read("diffpose_metrics.safetensors")
    pred, target = data["input/pred"].to(dtype), data["input/gt"].to(dtype)
    found = {
        "mpjpe": functional.mpjpe(pred, target).mean(),
        "n_mpjpe": functional.n_mpjpe(pred, target).mean(),
        "p_mpjpe": functional.pa_mpjpe(pred, target).mean(),
        "p_mpjpe_per_pose": functional.pa_mpjpe(pred, target).flatten(),
        "mpjve_per_sequence": functional.mpjve(pred, target).mean(-1),
        "mpjve_flat": functional.mpjve(pred.flatten(0, 1), target.flatten(0, 1)).mean(),
        "weighted_mpjpe": (data["input/w"] * functional.joint_error(pred, target)).mean(),
    }
    for name, value in found.items():
        torch.testing.assert_close(value.double(), data[f"output/{name}"].double(), rtol=1e-5, atol=1e-7, msg=name)
    for metric, name in ((MPJPE, "mpjpe"), (NMPJPE, "n_mpjpe"), (PAMPJPE, "p_mpjpe")):
        value = metric(root=None)(data["input/pred"], data["input/gt"])
        assert value == pytest.approx(1000 * data[f"output/{name}"].item(), rel=1e-6)
    value = MPJVE(root=None)(data["input/pred"], data["input/gt"])
    assert value == pytest.approx(1000 * data["output/mpjve_per_sequence"].mean().item(), rel=1e-6)


def test_mmhuman3d_and_spin() -> None:
    data = read("hmr_metrics.safetensors")
    pred, target, mask = (data[f"input/{name}"] for name in ("pred", "gt", "mask"))
    aligned = functional.procrustes_align(pred, target)
    torch.testing.assert_close(aligned, data["output/aligned"], rtol=1e-6, atol=1e-6)
    per_pose = functional.pa_mpjpe(pred, target)
    for name in ("pa_mpjpe_per_sample", "spin_reconstruction_per_sample"):
        torch.testing.assert_close(per_pose, data[f"output/{name}"], rtol=1e-6, atol=1e-6)
    assert functional.n_mpjpe(pred, target).mean() == pytest.approx(data["output/mpjpe_scale"].item(), rel=1e-6)
    for name, pose in (("none", pred), ("procrustes", aligned)):
        error = functional.joint_error(pose, target)
        found = {
            f"mpjpe_{name}": functional.mpjpe(pose, target).mean(),
            f"mpjpe_{name}_masked": error[mask].mean(),
            f"pck150_{name}": 100 * functional.pck(pose / 1000, target / 1000).mean(),
            f"auc_{name}": 100 * functional.auc(pose / 1000, target / 1000).mean(),
        }
        for key, value in found.items():
            assert value.item() == pytest.approx(data[f"output/{key}"].item(), rel=1e-6), key
