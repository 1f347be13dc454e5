"""The MPI-INF-3DHP protocol against the MATLAB evaluation of D3DP and P-STMO, and what it refuses."""

import pytest
import torch

from noise2pose.errors import InputError
from noise2pose.metrics import AUC, MPJPE, PCK
from noise2pose.metrics.mpi_inf_3dhp import SKELETON, Errors, evaluate
from tests.parity.procedural import read_fixture
from tests.places import PARITY

FIXTURE = PARITY / "diffpose_metrics_3dhp.safetensors"
PELVIS = SKELETON.index("pelvis")
LIMBS = tuple(range(14))
DTYPES = [torch.float32, torch.float64]


def fixture(dtype: torch.dtype) -> tuple[dict, dict[str, torch.Tensor]]:
    """The sequences in metres, and everything that was recorded (mm and per cent)."""
    data = {key: torch.from_numpy(value) for key, value in read_fixture(FIXTURE)[0].items()}
    sequences = {}
    for i in range(3):
        pred, target = (data[f"input/seq{i}/{name}_mm"].to(dtype) / 1000 for name in ("pred_rootrel", "gt"))
        sequences[f"TS{i + 1}"] = (pred, target, None)
    return sequences, data


def close(found: Errors, expected: torch.Tensor) -> None:
    torch.testing.assert_close(torch.tensor(found, dtype=torch.float64), expected.double(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_parity(dtype: torch.dtype) -> None:
    sequences, data = fixture(dtype)
    result = evaluate(sequences, "annot3")
    for i, errors in enumerate(result.sequences.values()):
        close(errors, torch.stack([data[f"output/{name}"][i] for name in ("mpjpe", "pck150", "auc")]))
    close(result.mean_over_sequences, data["output/mean_over_sequences"])
    close(result.mean_over_frames, data["output/mean_over_frames"])
    assert result.num_frames == {"TS1": 7, "TS2": 12, "TS3": 4}
    assert result.published == result.mean_over_sequences
    other = evaluate(sequences, "univ_annot3")
    assert other.sequences == result.sequences and other.published == result.mean_over_frames


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_metrics_of_a_run_agree(dtype: torch.dtype) -> None:
    sequences, data = fixture(dtype)
    metrics = (MPJPE(root=PELVIS), PCK(LIMBS, PELVIS), AUC(LIMBS, PELVIS))
    for pred, target, _ in sequences.values():
        for metric in metrics:
            metric.update(pred, target)
    close(Errors(*(metric.compute().item() for metric in metrics)), data["output/mean_over_frames"])


def test_only_valid_frames_count() -> None:
    sequences, _ = fixture(torch.float64)
    expected = evaluate(sequences, "annot3")
    pred, target, _ = sequences["TS2"]
    garbage = torch.full((3, 17, 3), torch.nan)
    valid = torch.tensor([1] * 12 + [0] * 3)
    sequences["TS2"] = (torch.cat((pred, garbage)), torch.cat((target, garbage)), valid)
    assert evaluate(sequences, "annot3") == expected


def test_a_perfect_prediction() -> None:
    sequences, _ = fixture(torch.float64)
    target = sequences["TS1"][1]
    result = evaluate({"TS1": (target - target[:, PELVIS, None], target, None)}, "annot3")
    assert result.published == pytest.approx(Errors(0.0, 100.0, 100.0 * 30 / 31))


@pytest.mark.parametrize("joint, counts", [("pelvis", False), ("spine", False), ("head", False), ("head_top", True)])
def test_which_joints_count(joint: str, counts: bool) -> None:
    target = torch.zeros(1, 17, 3)
    pred = target.clone()
    pred[:, SKELETON.index(joint), 0] = 0.0 if joint == "pelvis" else 0.34
    errors = evaluate({"TS1": (pred, target, None)}, "annot3").published
    assert errors.mpjpe == pytest.approx(0.0 if joint == "pelvis" else 340.0 / 17)
    assert errors.pck == pytest.approx(100.0 * 13 / 14 if counts else 100.0)


def test_what_is_refused() -> None:
    sequences, _ = fixture(torch.float32)
    pred, target, _ = sequences["TS2"]
    spoilt = pred.clone()
    spoilt[3, 5] = torch.nan
    cases = {
        r"TS2: the prediction has shape \(12, 16, 3\), expected \(F, 17, 3\)": (pred[:, :16], target, None),
        r"TS2: the ground truth has shape \(17, 3\), expected \(F, 17, 3\)": (pred, target[0], None),
        r"TS2: the prediction has 5 frames, the ground truth 12": (pred[:5], target, None),
        r"TS2: the mask of valid frames has shape \(11,\), expected \(12,\)": (pred, target, torch.ones(11)),
        r"TS2: no frame is valid": (pred, target, torch.zeros(12)),
        r"TS2: the prediction holds NaN or infinity in 1 of 204 joints": (spoilt, target, None),
        r"TS2: the prediction's pelvis lies up to 3 m off": (pred + 3.0, target, None),
    }
    for message, sequence in cases.items():
        with pytest.raises(InputError, match=message):
            evaluate({**sequences, "TS2": sequence}, "annot3")
    with pytest.raises(InputError, match="unknown convention annot2; known are annot3, univ_annot3"):
        evaluate(sequences, "annot2")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no sequence"):
        evaluate({}, "annot3")
