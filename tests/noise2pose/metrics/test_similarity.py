import math

import numpy as np
import pytest
import torch

from noise2pose import skeletons
from noise2pose.errors import InputError
from noise2pose.keypoints.detectors.suppression import pose_similarity
from noise2pose.keypoints.noise import coco_sigmas
from noise2pose.metrics.similarity import THRESHOLDS, average_precision, oks

# As COCO publishes them, in its order.
PAIRS = (0.025, 0.035, 0.079, 0.072, 0.062, 0.107, 0.087, 0.089)  # eyes, ears, shoulders, ..., ankles
PUBLISHED = [0.026, *(sigma for sigma in PAIRS for _ in "lr")]


def people(number=5):
    generator = torch.Generator().manual_seed(0)
    target = 400.0 * torch.rand(number, 17, 2, generator=generator)
    pred = target + 15.0 * torch.randn(number, 17, 2, generator=generator)
    return (
        pred,
        target,
        2e4 + 4e4 * torch.rand(number, generator=generator),
        torch.rand(number, 17, generator=generator) > 0.2,
    )


def naive(pred, target, area, valid):
    found = []
    for person in range(len(pred)):
        values = []
        for joint in range(17):
            if valid[person, joint]:
                square = float(((pred[person, joint] - target[person, joint]) ** 2).sum())
                values.append(math.exp(-square / (2.0 * float(area[person]) * (2.0 * PUBLISHED[joint]) ** 2)))
        found.append(sum(values) / len(values))
    return found


def test_similarity_is_the_naive_loop_over_the_published_sigmas():
    given = people()
    assert coco_sigmas("coco_17").tolist() == PUBLISHED
    assert oks(*given).tolist() == pytest.approx(naive(*given), rel=1e-5)
    assert oks(*(part.double() for part in given)).tolist() == pytest.approx(naive(*given), rel=1e-7)


def test_similarity_is_that_of_pycocotools():
    from pycocotools.cocoeval import COCOeval

    evaluation = COCOeval(iouType="keypoints")
    pred, target, area, valid = people(3)
    for person in range(3):
        truth = torch.cat((target[person], 2.0 * valid[person, :, None]), dim=-1).flatten().numpy().astype(np.float64)
        found = torch.cat((pred[person], torch.ones(17, 1)), dim=-1).flatten().tolist()
        gt = {"id": 1, "keypoints": truth, "bbox": [0, 0, 400, 400], "area": float(area[person]), "ignore": 0}
        evaluation._gts, evaluation._dts = {(1, 1): [gt]}, {(1, 1): [{"keypoints": found, "score": 1.0}]}
        evaluation.params.useCats = 1
        expected = float(evaluation.computeOks(1, 1)[0, 0])
        assert float(oks(pred[person], target[person], area[person], valid[person])) == pytest.approx(
            expected, rel=1e-5
        )


def test_what_does_not_count_does_not_matter():
    pred, target, area, valid = people()
    changed = torch.where(valid[..., None], pred, torch.nan)
    assert torch.equal(oks(changed, target, area, valid), oks(pred, target, area, valid))
    assert oks(pred, target, area, torch.zeros(5, 17)).isnan().all()


def test_a_permutation_of_joints_is_seen():
    _, target, area, _ = people()
    swapped = target[:, list(skeletons.get("coco_17").flip_order)]
    assert (oks(swapped, target, area, torch.ones(5, 17)) < 0.6).all()
    assert torch.equal(oks(target, target, area, torch.ones(5, 17)), torch.ones(5))


def test_average_precision_counts_the_thresholds_that_are_passed():
    similarity = torch.tensor([0.49, 0.5, 0.52, 0.751, 0.95, 1.0, torch.nan])
    assert average_precision(similarity)[:-1].tolist() == pytest.approx([0.0, 0.1, 0.1, 0.6, 1.0, 1.0])
    assert average_precision(similarity)[-1].isnan()
    exact = torch.tensor(THRESHOLDS)
    assert average_precision(exact).tolist() == pytest.approx([(n + 1) / 10 for n in range(10)])


def test_other_skeletons_have_sigmas_or_are_refused():
    assert coco_sigmas("h36m_17")[skeletons.get("h36m_17").index("left_knee")] == 0.087
    with pytest.raises(InputError, match="no detection errors are known for"):
        coco_sigmas("halpe_26")


def test_the_detectors_compare_people_with_the_same_numbers():
    pred, target, _, _ = people()
    seen = torch.ones(5, 17, 1)
    low, high = torch.minimum(pred, target), torch.maximum(pred, target)
    assert (low <= high).all()
    areas = [(points.amax(dim=1) - points.amin(dim=1)).prod(dim=-1) for points in (pred, target)]
    expected = oks(pred, target, torch.minimum(*areas), torch.ones(5, 17))
    found = pose_similarity(torch.cat((pred, seen), dim=-1), torch.cat((target, seen), dim=-1)).diagonal()
    assert torch.allclose(found, expected, rtol=1e-5)
