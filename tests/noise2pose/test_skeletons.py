import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from noise2pose import skeletons
from noise2pose.errors import InputError

NAMES = list(skeletons.SKELETONS)


@pytest.mark.parametrize("name", NAMES)
def test_every_skeleton_is_a_tree_with_mirrored_pairs(name):
    skeleton = skeletons.get(name)
    assert skeleton.num_joints == len(set(skeleton.joints)) == len(skeleton.parents)
    for left, right in skeleton.pairs:
        assert skeleton.joints[left].replace("left_", "right_") == skeleton.joints[right]
    order = skeleton.flip_order
    assert [order[order[i]] for i in range(skeleton.num_joints)] == list(range(skeleton.num_joints))
    for joint in range(skeleton.num_joints):
        steps, at = 0, joint
        while skeleton.parents[at] >= 0:
            at, steps = skeleton.parents[at], steps + 1
            assert steps <= skeleton.num_joints
        left = skeleton.joints[joint].startswith("left_")
        parent = skeleton.parents[joint]
        if left and parent >= 0:
            mirrored = skeleton.parents[skeleton.index(skeleton.joints[joint].replace("left_", "right_", 1))]
            assert skeleton.joints[parent].replace("left_", "right_", 1) == skeleton.joints[mirrored]


@pytest.mark.parametrize(
    "name, count",
    [("h36m_17", 17), ("h36m_32", 32), ("mpi_inf_3dhp_17", 17), ("mpi_inf_3dhp_28", 28), ("coco_17", 17)]
    + [("halpe_26", 26), ("halpe_136", 136), ("openpose_18", 18), ("panoptic_19", 19), ("smpl_24", 24)]
    + [("lsp_14", 14), ("crowdpose_14", 14), ("muco_21", 21)],
)
def test_counts(name, count):
    assert skeletons.get(name).num_joints == count


def test_published_orders():
    h36m = skeletons.get("h36m_17")
    assert h36m.parents == (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15)
    assert h36m.pairs == ((4, 1), (5, 2), (6, 3), (11, 14), (12, 15), (13, 16))
    smpl = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)
    assert skeletons.get("smpl_24").parents == smpl
    assert skeletons.get("coco_17").index("left_ankle") == 15
    assert skeletons.get("halpe_26").index("head_top") == 17
    assert skeletons.get("mpi_inf_3dhp_17").root == 14
    # MuCo's people are MPI-INF-3DHP's, with hands and toes.
    assert skeletons.get("muco_21").joints[:17] == skeletons.get("mpi_inf_3dhp_17").joints
    assert skeletons.get("muco_21").joints[17:] == ("right_hand", "left_hand", "right_toe", "left_toe")
    assert skeletons.get("crowdpose_14").joints[:12] == skeletons.get("coco_17").joints[5:]
    assert skeletons.get("crowdpose_14").joints[12:] == ("head_top", "neck")
    limbs = [joint for joint in skeletons.get("lsp_14").joints if joint != "head_top"]
    of_panoptic = [skeletons.get("panoptic_19").index(joint) for joint in limbs]
    assert of_panoptic == [14, 13, 12, 6, 7, 8, 11, 10, 9, 3, 4, 5, 0]  # as Jiang et al. (CVPR 2020) read them
    assert skeletons.get("panoptic_19").root == 2


@pytest.mark.parametrize(
    "source, target, order",
    [
        ("h36m_32", "h36m_17", (0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27)),
        ("mpi_inf_3dhp_28", "mpi_inf_3dhp_17", (7, 5, 14, 15, 16, 9, 10, 11, 23, 24, 25, 18, 19, 20, 4, 3, 6)),
        ("mpi_inf_3dhp_17", "h36m_17", (14, 8, 9, 10, 11, 12, 13, 15, 1, 16, 0, 5, 6, 7, 2, 3, 4)),
    ],
)
def test_published_conversions(source, target, order):
    points = torch.randn(2, skeletons.get(source).num_joints, 3)
    assert torch.allclose(skeletons.convert(points, source, target), points[:, list(order)])


@given(st.sampled_from(NAMES), st.sampled_from(NAMES))
def test_a_conversion_follows_the_body_or_names_what_is_missing(source, target):
    """Weights add up to one, so moving the body moves every joint with it."""
    try:
        matrix = skeletons.conversion_matrix(source, target)
    except InputError as error:
        assert source in str(error) and target in str(error)
        return
    assert torch.allclose(matrix.sum(dim=1), torch.ones(len(matrix), dtype=matrix.dtype))
    points = torch.randn(3, skeletons.get(source).num_joints, 2)
    shift = torch.tensor([5.0, -2.0])
    moved = skeletons.convert(points + shift, source, target)
    assert torch.allclose(moved, skeletons.convert(points, source, target) + shift, atol=1e-5)
    if source == target:
        assert torch.equal(matrix, torch.eye(len(matrix), dtype=matrix.dtype))


def test_confidence_of_a_derived_joint_is_that_of_its_weakest_source():
    points = torch.rand(4, 17, 3)
    points[:, 11, 2], points[:, 12, 2] = 0.9, 0.2  # hips
    converted = skeletons.convert(points, "coco_17", "h36m_17", has_confidence=True)
    assert torch.equal(converted[:, 0, 2], torch.full((4,), 0.2))
    assert torch.allclose(converted[:, 0, :2], (points[:, 11, :2] + points[:, 12, :2]) / 2)


def test_refusals_name_the_joints():
    with pytest.raises(InputError, match="nothing gives chin, head_top"):
        skeletons.convert(torch.zeros(24, 3), "smpl_24", "h36m_17")
    with pytest.raises(InputError, match="unknown skeleton octopus; known are h36m_17"):
        skeletons.get("octopus")
    with pytest.raises(InputError, match=r"\(16, 3\) are not h36m_17: expected 17"):
        skeletons.convert(torch.zeros(16, 3), "h36m_17", "lsp_14")
    with pytest.raises(InputError, match="no joint tail"):
        skeletons.get("lsp_14").index("tail")


@pytest.mark.parametrize(
    ("skeleton", "middle"), [("halpe_26", "pelvis"), ("h36m_17", "thorax"), ("openpose_18", "neck")]
)
def test_a_hidden_middle_is_what_it_is_where_a_skeleton_has_none(skeleton, middle):
    generator = torch.Generator().manual_seed(0)
    points = 100.0 * torch.rand(2, skeletons.get(skeleton).num_joints, 3, generator=generator)
    points[..., 2] = 0.8
    hidden = points.clone()
    hidden[:, skeletons.get(skeleton).index(middle)] = torch.tensor([1e4, 0.0, 0.0])
    ends = "hip" if middle == "pelvis" else "shoulder"
    pair = [skeletons.get(skeleton).index(f"{side}_{ends}") for side in ("left", "right")]
    target = "pelvis" if middle == "pelvis" else "thorax"
    found = skeletons.to_input(hidden, skeleton, "h36m_17")[:, skeletons.get("h36m_17").index(target)]
    assert torch.allclose(found[:, :2], points[:, pair, :2].mean(dim=1)) and (found[:, 2] == points[0, 0, 2]).all()
    # With an end hidden as well, nothing is derived.
    hidden[:, pair[0], 2] = 0.0
    assert (skeletons.to_input(hidden, skeleton, "h36m_17")[:, skeletons.get("h36m_17").index(target), 2] == 0).all()
