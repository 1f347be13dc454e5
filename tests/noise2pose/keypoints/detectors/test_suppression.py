"""One detection for each person, against loops."""

import numpy as np
import pytest
import torch

from noise2pose.keypoints.detectors.suppression import overlaps, pose_similarity, suppress, suppress_boxes


def naive_overlap(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def naive_suppression(boxes, scores, most):
    """Picks the best one left, throws away what overlaps it, and so on."""
    left, kept = list(range(len(boxes))), []
    while left:
        best = max(left, key=lambda row: (scores[row], -row))
        kept.append(best)
        left = [row for row in left if row != best and naive_overlap(boxes[best], boxes[row]) <= most]
    return kept


@pytest.mark.parametrize("seed", range(4))
def test_suppression_is_that_of_a_loop(seed):
    generator = np.random.default_rng(seed)
    corner, extent = generator.uniform(0, 60, (40, 2)), generator.uniform(10, 40, (40, 2))
    boxes = np.concatenate([corner, corner + extent], axis=1)
    scores = generator.integers(0, 10, 40) / 10  # many are equal
    found = suppress_boxes(torch.from_numpy(boxes), torch.from_numpy(scores), 0.4).tolist()
    assert found == naive_suppression(boxes.tolist(), scores.tolist(), 0.4) and 5 < len(found) < 40
    matrix = overlaps(torch.from_numpy(boxes), torch.from_numpy(boxes[:7]))
    assert matrix[3, 5].item() == pytest.approx(naive_overlap(boxes[3], boxes[5])) and matrix.shape == (40, 7)


def test_nobody_is_suppressed_where_nobody_is():
    assert len(suppress_boxes(torch.zeros(0, 4), torch.zeros(0), 0.5)) == 0
    assert overlaps(torch.zeros(1, 4), torch.zeros(1, 4)).item() == 0  # no area: no overlap, and no NaN


def test_a_suppressed_detection_suppresses_nobody():
    """A and B are alike, B and C are alike, A and C are not: A suppresses B, so C stays."""
    similar = torch.tensor([[1, 1, 0], [1, 1, 1], [0, 1, 1]], dtype=torch.bool)
    assert suppress(similar, torch.tensor([0.9, 0.8, 0.7])).tolist() == [0, 2]


def pose(x, y, height):
    """A person who stands at a place: all joints along a line, half as wide as a person."""
    places = torch.stack((x + height / 8 * (torch.arange(17) % 2), y + height * torch.arange(17) / 16), dim=1)
    return torch.cat((places, torch.ones(17, 1)), dim=1)


def test_the_same_person_is_similar_and_a_neighbour_is_not():
    person, again, neighbour = pose(100, 50, 200), pose(103, 52, 196), pose(160, 50, 200)
    similar = pose_similarity(torch.stack([person]), torch.stack([person, again, neighbour]))[0]
    assert similar[0] == 1 and similar[1] > 0.8 and similar[2] < 0.2
    far = pose_similarity(
        4 * torch.stack([person]), 4 * torch.stack([again])
    )  # the confidence is scaled too: still seen
    assert far.item() == pytest.approx(similar[1].item(), rel=1e-5)  # of any size in the image


def test_only_joints_that_both_see_are_compared():
    upper, whole = pose(100, 50, 200), pose(100, 50, 200)
    upper[9:] = 0.0
    assert pose_similarity(upper[None], whole[None]).item() == 1
    upper[2:] = 0.0
    assert pose_similarity(upper[None], whole[None]).item() == 0  # two joints in common say nothing


def test_similarity_is_that_of_pycocotools():
    """Both poses see everything; pycocotools takes the area of the annotated one, here the smaller one."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth, found = pose(100, 50, 200), pose(104, 47, 208)
    low, high = truth[:, :2].amin(dim=0), truth[:, :2].amax(dim=0)
    area = float((high - low).prod())
    entry = {"image_id": 1, "category_id": 1, "id": 1, "num_keypoints": 17, "iscrowd": 0, "area": area, "bbox": [0] * 4}
    truths, answers = COCO(), COCO()
    for data, points in ((truths, truth), (answers, found)):
        values = points.clone()
        values[:, 2] = 2
        data.dataset = {
            "images": [{"id": 1}],
            "categories": [{"id": 1, "name": "person"}],
            "annotations": [{**entry, "keypoints": values.flatten().tolist(), "score": 1.0}],
        }
        data.createIndex()
    evaluation = COCOeval(truths, answers, "keypoints")
    evaluation._prepare()
    expected = evaluation.computeOks(1, 1)[0, 0]
    assert pose_similarity(found[None], truth[None]).item() == pytest.approx(float(expected), rel=1e-4)
