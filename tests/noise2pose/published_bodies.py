"""Random bodies in the layouts of SMPL, SMPL-H and SMPL-X, which may not be redistributed themselves."""

import functools
import pickle
import sys
import types

import numpy as np
import scipy.sparse

COUNTS = {"smpl": (6890, 24), "smplh": (6890, 52), "smplx": (10475, 55)}
_BODY = [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19]


def _hand(wrist, first):
    return [wrist if joint % 3 == 0 else first + joint - 1 for joint in range(15)]


PARENTS = {
    "smpl": [*_BODY, 20, 21],
    "smplh": [*_BODY, *_hand(20, 22), *_hand(21, 37)],
    "smplx": [*_BODY, 15, 15, 15, *_hand(20, 25), *_hand(21, 40)],
}


def published(kind, num_betas=10):
    """The entries of a model file: a cloud of vertices with random weights. Change entries, never an array in place."""
    return dict(_published(kind, num_betas))


@functools.cache
def _published(kind, num_betas):
    generator = np.random.default_rng(0)
    vertices, joints = COUNTS[kind]
    weights = generator.random((vertices, joints)) * (generator.random((vertices, joints)) < 0.1)
    weights[np.arange(vertices), generator.integers(joints, size=vertices)] += 0.5
    regressor = np.zeros((joints, vertices))
    for row in regressor:
        row[generator.choice(vertices, 20, replace=False)] = generator.random(20)
    table = np.array([PARENTS[kind], range(joints)]).astype(np.uint32)
    assert table[0, 0] == 4294967295
    entries = {
        "v_template": generator.uniform(-1, 1, (vertices, 3)),
        "shapedirs": 0.02 * generator.normal(size=(vertices, 3, num_betas)),
        "posedirs": 0.001 * generator.normal(size=(vertices, 3, 9 * (joints - 1))),
        "weights": weights / weights.sum(axis=1, keepdims=True),
        "J_regressor": scipy.sparse.csc_matrix(regressor / regressor.sum(axis=1, keepdims=True)),
        "kintree_table": table,
        "f": generator.integers(vertices, size=(40, 3)).astype(np.uint32),
        "J": np.zeros((joints, 3)),
        "bs_style": "lbs",
        "bs_type": "lrotmin",
    }
    if kind != "smpl":
        entries.update(
            hands_componentsl=np.eye(45), hands_componentsr=np.eye(45), hands_meanl=np.ones(45), hands_meanr=np.ones(45)
        )
    if kind == "smplx":
        entries.update(
            J_regressor=np.asarray(entries["J_regressor"].todense()),
            lmk_faces_idx=np.zeros(51, np.int64),
            lmk_bary_coords=np.full((51, 3), 1 / 3),
            part2num=np.array({"hips": 0}, dtype=object),
        )
    return entries


# Where Human3.6M's joints lie, in the published order: the left leg first.
_H36M = [(0, 0), *[(0.1, -y) for y in (0.05, 0.4, 0.8)], *[(-0.1, -y) for y in (0.05, 0.4, 0.8)], (0, 0.2), (0, 0.45)]
_H36M += [(0, 0.55), (0, 0.7), *[(x, 0.4) for x in (0.2, 0.4, 0.6)], *[(-x, 0.4) for x in (0.2, 0.4, 0.6)]]


def h36m_regressor(template):
    """A (17, V) matrix that finds Human3.6M's joints, each from the vertices nearest to where it should be."""
    matrix = np.zeros((17, len(template)))
    for row, place in zip(matrix, _H36M, strict=True):
        row[np.linalg.norm(template[:, :2] - place, axis=1).argsort()[:6]] = 1 / 6
    return matrix


class Chumpy:
    """Classes that pickle as chumpy's do, in modules that are gone as soon as something was pickled."""

    MODULES = {"chumpy": (), "chumpy.ch": ("Ch", "MatVecMult"), "chumpy.reordering": ("Select",)}

    def __init__(self):
        self.classes = {
            kind: type(kind, (), {"__module__": name}) for name, kinds in self.MODULES.items() for kind in kinds
        }

    def make(self, kind, **fields):
        made = self.classes[kind]()
        vars(made).update(fields, _dirty_vars=set(), _itr=None, _depends_on_deps={}, _make_dense=False)
        return made

    def dumps(self, tree, protocol):
        try:
            for name, kinds in self.MODULES.items():
                sys.modules[name] = types.ModuleType(name)
                vars(sys.modules[name]).update({kind: self.classes[kind] for kind in kinds})
            return pickle.dumps(tree, protocol)
        finally:
            for name in self.MODULES:
                sys.modules.pop(name, None)
