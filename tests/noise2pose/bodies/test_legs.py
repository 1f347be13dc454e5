import numpy as np
import pytest
import torch

from noise2pose import skeletons
from noise2pose.bodies import BodyModel
from noise2pose.bodies.legs import PARTS, parts_of_mesh, unseen_vertices
from noise2pose.rendering.meshes import overlay, side_view

NAMES = skeletons.get("h36m_17").joints


@pytest.fixture(scope="module")
def body():
    model = BodyModel.load("free")
    upright = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    posed = model(upright, torch.eye(3).expand(23, 3, 3), torch.zeros(10), torch.tensor([0.0, 0.1, 3.0]))
    return model.skinning_weights.numpy(), posed.vertices.numpy(), model.faces.numpy(), posed.joints.numpy()


def test_parts_are_where_their_joints_are(body):
    weights, vertices, _, joints = body
    parts = parts_of_mesh(weights)
    for number, ((first, *_), joint) in enumerate(PARTS):
        mine = vertices[parts == number]
        assert len(mine) > 100 and (mine[:, 0] * joints[first, 0] > 0).mean() > 0.99, f"{joint} is on its side"
    assert vertices[parts == 1][:, 1].mean() > vertices[parts == 0][:, 1].mean(), "shanks are below thighs"
    assert (vertices[parts < 0][:, 1] < joints[4, 1]).all(), "nothing below the knees is of no leg"


def test_only_the_leg_that_was_not_seen_is_drawn_paler(body):
    weights, vertices, faces, _ = body
    seen = np.ones(17, dtype=bool)
    assert not unseen_vertices(weights, seen, NAMES).any()
    seen[NAMES.index("left_ankle")] = False
    shank = unseen_vertices(weights, seen, NAMES)
    assert np.array_equal(shank, parts_of_mesh(weights) == 1)
    white = np.full((300, 200, 3), 255, dtype=np.uint8)
    plain, pale = (overlay(white, vertices, faces, (250, 250), (100, 150), unseen=mask) for mask in (None, shank))
    changed = (plain != pale).any(axis=-1)
    assert changed.any() and (pale[changed].astype(int).sum(axis=1) > plain[changed].astype(int).sum(axis=1)).all()
    columns = 250 * vertices[shank, 0] / vertices[shank, 2] + 100
    assert np.nonzero(changed)[1].min() >= columns.min() - 2 and np.nonzero(changed)[1].max() <= columns.max() + 2
    assert (side_view(vertices, faces, (100, 100), shank) != side_view(vertices, faces, (100, 100))).any()
