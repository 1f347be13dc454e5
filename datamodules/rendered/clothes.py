"""Clothes, skin and hair of rendered people, painted on the rest pose of the body.

What a point of the surface is made of follows from the body part that it belongs to and from where it lies in the rest
pose (a T-pose, y up, facing +z), so hems, cuffs and patterns move with the body and fit every body of the project.

Shape letters: V vertices, P points on the surface.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int

from noise2pose.bodies import BodyModel

TORSO, ARM, HAND, LEG, FOOT, HEAD = range(6)
# Of the 22 joints of SMPL with which every body begins; the others are hands.
_PARTS = [TORSO, LEG, LEG, TORSO, LEG, LEG, TORSO, FOOT, FOOT, TORSO, FOOT, FOOT, HEAD, TORSO, TORSO, HEAD]
_PARTS += [ARM, ARM, ARM, ARM, HAND, HAND]
_PELVIS, _KNEE, _SPINE, _ANKLE, _SHOULDER, _WRIST = 0, 4, 3, 7, 16, 20
_SKIN, _HAIR, _SHIRT, _TROUSERS, _SHOES = range(5)
_SKIN_TONES = np.array(
    [[0.98, 0.82, 0.71], [0.90, 0.70, 0.56], [0.74, 0.53, 0.38], [0.58, 0.40, 0.28], [0.38, 0.26, 0.2]]
)
_HAIR_TONES = np.array([[0.06, 0.05, 0.05], [0.2, 0.12, 0.07], [0.42, 0.27, 0.13], [0.8, 0.65, 0.4], [0.62, 0.6, 0.6]])


class Surface(NamedTuple):
    """The rest pose, as `wear` needs it.

    Attributes:
        points: (V, 3) metres.
        part: (V,) body part of each vertex.
        joints: (22, 3) metres.
        head: lowest and highest y, and backmost and foremost z of the head without the neck.
    """

    points: Float32[np.ndarray, "V 3"]
    part: Int[np.ndarray, " V"]
    joints: Float32[np.ndarray, "22 3"]
    head: tuple[float, float, float, float]


class Cloth(NamedTuple):
    """Two colours and how they alternate.

    Attributes:
        colours: (2, 3) RGB in [0, 1].
        kind: 0 plain, 1 stripes around, 2 stripes along, 3 checks, 4 spots.
        period: metres.
        share: of the second colour.
    """

    colours: np.ndarray
    kind: int
    period: float
    share: float


class Clothes(NamedTuple):
    """What one person wears.

    Attributes:
        skin, hair, shoes: (3,) RGB in [0, 1].
        shirt, trousers: cloth.
        waist, hem, cuff: heights of the waist and of the trousers' hem; how far out the cuffs are, metres.
        hairline: how far the hair comes to the front and down, larger is more; negative is bald.
        folds: (2, 6) of two waves over the cloth: wave vector in 1 / metre, tilt of the normal.
    """

    skin: np.ndarray
    hair: np.ndarray
    shoes: np.ndarray
    shirt: Cloth
    trousers: Cloth
    waist: float
    hem: float
    cuff: float
    hairline: float
    folds: np.ndarray


def surface(body: BodyModel) -> Surface:
    """The rest pose of a body with mean shape."""
    points = body.template.float().cpu().numpy()
    joints = body.rest_joints(body.template.new_zeros(body.shape_directions.shape[-1])).float().cpu().numpy()[:22]
    dominant = body.skinning_weights.argmax(dim=1).cpu().numpy()
    part = np.array(_PARTS + [HAND] * (body.skinning_weights.shape[1] - len(_PARTS)))[dominant]
    head = points[dominant == 15]
    limits = head[:, 1].min(), head[:, 1].max(), head[:, 2].min(), head[:, 2].max()
    low, high, back, front = (float(limit) for limit in limits)
    return Surface(points, part, joints, (low, high, back, front))


def clothes(on: Surface, generator: np.random.Generator) -> Clothes:
    """Draws what a person wears."""
    joints = on.joints
    shoulder, wrist = abs(joints[_SHOULDER, 0]), abs(joints[_WRIST, 0])
    pelvis, spine, knee, ankle = (joints[joint, 1] for joint in (_PELVIS, _SPINE, _KNEE, _ANKLE))
    sleeve, length = generator.uniform(size=2)
    # A third of the sleeves and half of the trousers are long, some people wear neither.
    cuff = shoulder + (wrist - shoulder) * (0.97 if sleeve < 0.4 else generator.uniform(-0.15, 0.6))
    hem = ankle + 0.02 if length < 0.55 else generator.uniform(knee - 0.2, pelvis - 0.15)
    skin = _blend(_SKIN_TONES, generator) * generator.uniform(0.92, 1.05)
    return Clothes(
        skin=skin,
        hair=_blend(_HAIR_TONES, generator),
        shoes=skin if generator.uniform() < 0.15 else _colour(generator) * generator.uniform(0.2, 1.0),
        shirt=_cloth(generator),
        trousers=_cloth(generator, plain=0.75),
        waist=float(pelvis + generator.uniform(0.0, 1.2) * (spine - pelvis)),
        hem=float(hem),
        cuff=float(cuff),
        hairline=-1.0 if generator.uniform() < 0.12 else generator.uniform(0.3, 0.8),
        folds=np.concatenate((generator.normal(scale=22.0, size=(2, 3)), generator.normal(scale=0.12, size=(2, 3))), 1),
    )


def wear(
    on: Surface, worn: Clothes, points: Float32[np.ndarray, "P 3"], part: Int[np.ndarray, " P"]
) -> tuple[Float32[np.ndarray, "P 3"], Float32[np.ndarray, "P 3"]]:
    """Colours of points of the surface, and how folds tilt their normals.

    Args:
        on: the rest pose.
        worn: what the person wears.
        points: in the rest pose.
        part: body part of each.

    Returns:
        RGB in [0, 1], and what to add to the unit normals: zero on skin, hair and shoes.
    """
    x, y, z = points.T
    low, high, back, front = on.head
    made_of = np.full(len(points), _SKIN)
    made_of[((part == TORSO) & (y > worn.waist)) | ((part == ARM) & (np.abs(x) < worn.cuff))] = _SHIRT
    made_of[(y <= worn.waist) & ((part == TORSO) | ((part == LEG) & (y > worn.hem)))] = _TROUSERS
    made_of[part == FOOT] = _SHOES
    # Hair ends at a slanted plane: low at the back of the head, high at the front.
    slant = (y - low) / (high - low) - 0.75 * (z - back) / (front - back)
    made_of[(part == HEAD) & (slant > 0.75 - worn.hairline) & (y > low)] = _HAIR
    plain = np.stack((worn.skin, worn.hair, worn.skin, worn.skin, worn.shoes)).astype(np.float32)
    colours = plain[made_of]
    tilt = np.zeros_like(points)
    for number, cloth in ((_SHIRT, worn.shirt), (_TROUSERS, worn.trousers)):
        where = np.flatnonzero(made_of == number)
        around, along = x[where], y[where]
        arm = part[where] == ARM
        around, along = np.where(arm, along, around), np.where(arm, around, along)
        colours[where] = _pattern(cloth, around, along, z[where])
        for fold in worn.folds.astype(np.float32):
            tilt[where] += np.sin(points[where] @ fold[:3])[:, None] * fold[3:]
    return colours, tilt


def _pattern(cloth: Cloth, around: np.ndarray, along: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Colours (P, 3) of cloth."""
    first, second = cloth.colours.astype(np.float32)
    if cloth.kind == 0:
        return np.broadcast_to(first, (len(around), 3))
    rows, columns = ((at / cloth.period) % 1.0 < cloth.share for at in (along, around))
    if cloth.kind == 4:
        turns = 2.0 * np.pi / cloth.period
        chosen = np.sin(turns * around) + np.sin(turns * along) + np.sin(turns * depth) > 3.0 - 4.0 * cloth.share
    else:
        chosen = (rows, columns, rows ^ columns)[cloth.kind - 1]
    return np.where(chosen[:, None], second, first)


def _cloth(generator: np.random.Generator, plain: float = 0.45) -> Cloth:
    colours = np.stack((_colour(generator), _colour(generator)))
    kind = 0 if generator.uniform() < plain else int(generator.integers(1, 5))
    return Cloth(colours, kind, float(generator.uniform(0.03, 0.16)), float(generator.uniform(0.25, 0.6)))


def _colour(generator: np.random.Generator) -> np.ndarray:
    """RGB of cloth: any hue, often grey or dark."""
    hue, saturation, value = generator.uniform(size=3)
    wheel = np.clip(np.abs((6.0 * hue + np.array([0.0, 4.0, 2.0])) % 6.0 - 3.0) - 1.0, 0.0, 1.0)
    return (0.08 + 0.88 * value) * (1.0 - 0.85 * saturation**1.5 * (1.0 - wheel))


def _blend(tones: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A colour between two neighbours of a scale."""
    at = generator.uniform(0, len(tones) - 1)
    lower = min(int(at), len(tones) - 2)
    return tones[lower] + (at - lower) * (tones[lower + 1] - tones[lower])
