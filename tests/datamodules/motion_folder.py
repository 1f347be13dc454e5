"""Small prepared folders of motion: people who walk and wave, one row a frame."""

import numpy as np

from datamodules.preparation import Part, Plan, Rows, prepare
from datamodules.sources.common.body_fitting import rotations_of_joints
from noise2pose import skeletons

FRAMES = 40
# Human3.6M-17 of somebody who stands, metres, z up, facing -y.
STANDING = np.array([
    [0, 0, 0.95], [-0.13, 0, 0.93], [-0.13, -0.02, 0.5], [-0.13, 0, 0.08], [0.13, 0, 0.93], [0.13, -0.02, 0.5],
    [0.13, 0, 0.08], [0, 0, 1.2], [0, 0, 1.45], [0, -0.08, 1.58], [0, 0, 1.72], [0.18, 0, 1.42], [0.22, 0, 1.15],
    [0.25, -0.1, 0.92], [-0.18, 0, 1.42], [-0.22, 0, 1.15], [-0.25, -0.1, 0.92],
])  # fmt: skip
SKELETON = skeletons.get("h36m_17")


def write(root, dataset, clips, frames=FRAMES, columns=("joints_world", "poses")):
    """A folder with a clip for each dictionary of name, subject, action and what else its sequence says."""
    generator = np.random.default_rng(len(clips))
    joints = []
    for _ in clips:
        walk = np.linspace(0, 1, frames)[:, None, None] * generator.normal(0, 0.3, (1, 1, 3)) * [1.0, 1.0, 0.0]
        pose = STANDING * generator.uniform(0.9, 1.1)
        wave = np.zeros((frames, 17, 3))
        wave[:, [12, 13], 2] = np.linspace(0, 0.3, frames)[:, None]
        joints.append(pose + walk + wave)
    everything = np.concatenate(joints)
    values = {"joints_world": everything, "poses": rotations_of_joints(everything)}
    rows = Rows(
        {column: values[column] for column in columns},
        list(clips),
        np.repeat(np.arange(len(clips)), frames),
        [],
        {},
        [],
    )
    prepare(Plan(dataset, "none", {}, None, [Part("all", rows_of, (rows,), ())], [], []), root, 0)
    return root


def rows_of(rows):
    return rows
