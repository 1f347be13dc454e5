"""Who is in an image and how they are seen: pose, shape, camera and text of a sample.

Every choice is drawn from a stream of its own, keyed by the run's seed and the sample's number, so that a sample does
not depend on any other: not on those before it, nor on the process that draws it.

The camera is the paper's: with s, tx, ty and a field of view, f = 1 / tan(FoV / 2) and the pelvis at [tx, ty, f / s]
metres, so that s alone gives the size of the person in the image and f alone the strength of the perspective.

Shape letters: V vertices, J points.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import roma
import torch
from jaxtyping import Bool, Float, Float32

from methods.posepp.people.body import Body, fit_joints, split_pose
from methods.posepp.people.prompts import Writer
from methods.posepp.records import Record, Result, files_of
from methods.posepp.settings import Settings, View
from noise2pose.bodies.files import NUM_BETAS
from noise2pose.motion.pose_bank import PoseBank

BODY, CAMERA, PROMPT, NOISE, DETECTOR = range(5)  # streams of a sample
NO_VIEW = "no_view"
_LIMBS = [1, 2, 4, 5, 7, 8, 16, 17, 18, 19, 20, 21]  # hips, knees, ankles, shoulders, elbows and wrists of the tree
_FLIP = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))  # y up to y down; who faces +z faces us


class Camera(NamedTuple):
    """A square pinhole camera whose principal point is the image's centre.

    Attributes:
        s, tx, ty: scale, and place of the pelvis in metres.
        fov: degrees across the image.
        f: focal length in half image sides.
        size: pixels of a side.
    """

    s: float
    tx: float
    ty: float
    fov: float
    f: float
    size: int

    @property
    def pelvis(self) -> Float[np.ndarray, "3"]:
        """Where the pelvis is, metres."""
        return np.array([self.tx, self.ty, self.f / self.s])

    @property
    def matrix(self) -> Float[np.ndarray, "3 3"]:
        """K, pixels."""
        focal, centre = self.f * self.size / 2.0, self.size / 2.0
        return np.array([[focal, 0.0, centre], [0.0, focal, centre], [0.0, 0.0, 1.0]])


def stream(seed: int, sample: int, which: int) -> np.random.Generator:
    """The random numbers of one use by one sample.

    Args:
        seed: of the run.
        sample: its number.
        which: one of the streams of this module.
    """
    return np.random.default_rng(np.random.SeedSequence(entropy=seed, spawn_key=(sample, which)))


def _between(random: np.random.Generator, limits: Sequence[float]) -> float:
    return float(random.uniform(limits[0], limits[1]))


def draw_camera(random: np.random.Generator, settings: View, size: int) -> Camera:
    """A camera, from the distributions of the settings."""
    s = _between(random, settings.scale)
    reach = settings.shift / s
    tx, ty = random.uniform(-reach, reach), random.uniform(-reach, reach)
    fov = _between(random, settings.field_of_view)
    return Camera(s, tx, ty, fov, 1.0 / math.tan(math.radians(fov) / 2.0), size)


def project(
    points: Float[np.ndarray, "*batch J 3"], matrix: Float[np.ndarray, "3 3"]
) -> Float[np.ndarray, "*batch J 2"]:
    """Pixels of points in the camera frame."""
    turned = points @ matrix.T
    return turned[..., :2] / turned[..., 2:]


def inside(pixels: Float[np.ndarray, "*batch J 2"], size: int) -> Bool[np.ndarray, "*batch J"]:
    """Which pixels are in the image."""
    return np.all((pixels >= 0.0) & (pixels < size), axis=-1)


def yawed(rotvecs: Float32[np.ndarray, "K 3"], degrees: float) -> Float32[np.ndarray, "K 3"]:
    """A pose of a world with y up in the frame of a camera that looks horizontally, y down.

    Args:
        rotvecs: axis-angle; the root's comes first.
        degrees: by which the person is turned about the vertical, counter-clockwise seen from above.
    """
    turn = roma.rotvec_to_rotmat(torch.tensor([0.0, math.radians(degrees), 0.0], dtype=torch.float64))
    root = roma.rotvec_to_rotmat(torch.from_numpy(rotvecs[0].astype(np.float64)))
    turned = rotvecs.copy()
    turned[0] = roma.rotmat_to_rotvec(_FLIP @ turn @ root).numpy()
    return turned


def facing(global_orient: Float[np.ndarray, "3"]) -> float:
    """Degrees by which a pelvis is turned away from the camera: 0 to the camera, 180 away from it, positive leftwards.

    Args:
        global_orient: axis-angle in the camera frame.
    """
    matrix = roma.rotvec_to_rotmat(torch.from_numpy(np.asarray(global_orient, dtype=np.float64)))
    forward = matrix[:, 2]
    return math.degrees(math.atan2(float(forward[0]), -float(forward[2])))


class SampleStage:
    """Draws bodies, cameras and texts.

    Args:
        settings: of the data set.
        body: that is posed.
        bank: poses in a world with y up.
    """

    batch = 64

    def __init__(self, settings: Settings, body: Body, bank: PoseBank) -> None:
        self.settings = settings
        self.body = body
        self.bank = bank
        self.rotations = fit_joints(bank.rotations, body.joints)
        self.writer = Writer(settings.prompts)

    def process(self, records: Sequence[Record]) -> list[Result]:
        return [self.draw(record.id) for record in records]

    def draw(self, sample: int) -> Result:
        """Everything of one sample, or the reason that no camera sees it well enough."""
        settings, seed = self.settings, self.settings.seed
        random = stream(seed, sample, BODY)
        chosen = int(random.integers(len(self.rotations)))
        limit = settings.body.beta_limit
        betas = random.standard_normal(NUM_BETAS).clip(-limit, limit)
        yaw = random.uniform(-180.0, 180.0) if settings.body.random_yaw else 0.0
        parameters = split_pose(yawed(self.rotations[chosen], yaw))
        parameters["betas"] = betas.astype(np.float32)
        if self.body.model.num_expressions:
            expression = settings.body.expression * random.standard_normal(self.body.model.num_expressions)
            parameters["expression"] = expression.clip(-limit, limit).astype(np.float32)
        vertices, joints = self.body.pose(parameters)
        root = self.body.root(parameters["betas"])
        camera, redraws = self.look(stream(seed, sample, CAMERA), vertices - root, joints - root)
        if camera is None:
            return Result(sample, reason=NO_VIEW, notes={"redraws": redraws})
        translation = camera.pelvis - root
        gender = self.bank.genders[chosen] if self.body.model.gender == "neutral" else self.body.model.gender
        action = self.bank.actions[chosen]
        arrays = {
            **parameters,
            "transl": translation.astype(np.float32),
            **{name: np.float64(value) for name, value in camera._asdict().items() if name != "size"},
            "K": camera.matrix,
            "image_size": np.array([camera.size, camera.size]),
        }
        facts = {
            "text": self.writer.write(stream(seed, sample, PROMPT), gender, action),
            "negative": settings.prompts.negative,
            "action": action,
            "gender": gender,
            "body": self.body.model.model_type,
            "pose": self.bank.sources[chosen],
            "yaw": round(facing(parameters["global_orient"]), 3),
            "redraws": redraws,
            "seeds": {"run": seed, "sample": sample, "noise": noise_seed(seed, sample)},
        }
        return Result(sample, files_of(arrays, facts), notes={"redraws": redraws})

    def look(
        self, random: np.random.Generator, vertices: Float[np.ndarray, "V 3"], joints: Float[np.ndarray, "K 3"]
    ) -> tuple[Camera | None, int]:
        """The first camera that sees a body well enough, or None, and how many were drawn before it.

        Args:
            random: of the sample's cameras.
            vertices: metres, relative to the pelvis.
            joints: of the kinematic tree, the same.
        """
        view = self.settings.camera
        for redraws in range(view.redraws + 1):
            camera = draw_camera(random, view, self.settings.image_size)
            if (vertices[:, 2] + camera.pelvis[2]).min() < view.near:
                continue
            limbs = project(joints[_LIMBS] + camera.pelvis, camera.matrix)
            if int(inside(limbs, camera.size).sum()) >= view.least_inside:
                return camera, redraws
        return None, view.redraws


def noise_seed(seed: int, sample: int) -> int:
    """Of the generator that draws a sample's latent noise, below 2^63."""
    return int(np.random.SeedSequence(entropy=seed, spawn_key=(sample, NOISE)).generate_state(1, np.uint64)[0] >> 1)
