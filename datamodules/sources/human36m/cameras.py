"""The cameras of Human3.6M: where they stand, and what they see.

Sources: intrinsics and poses are those that VideoPose3D publishes (common/h36m_dataset.py), the layout of
`metadata.xml` is that of the official toolbox as EasyMocap and h36m-fetch read it.

Shape letters: F frames, J joints.
"""

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import torch

from noise2pose import cameras
from noise2pose.cameras import Intrinsics
from noise2pose.errors import InputError

H36M_INTRINSICS = (
    Intrinsics(
        "54138969",
        (1000.0, 1002.0),
        (1145.0494384765625, 1143.7811279296875),
        (512.54150390625, 515.4514770507812),
        (-0.20709891617298126, 0.24777518212795258, -0.0030751503072679043),
        (-0.0009756988729350269, -0.00142447161488235),
    ),
    Intrinsics(
        "55011271",
        (1000.0, 1000.0),
        (1149.6756591796875, 1147.5916748046875),
        (508.8486328125, 508.0649108886719),
        (-0.1942136287689209, 0.2404085397720337, 0.006819975562393665),
        (-0.0016190266469493508, -0.0027408944442868233),
    ),
    Intrinsics(
        "58860488",
        (1000.0, 1000.0),
        (1149.1407470703125, 1148.7989501953125),
        (519.8158569335938, 501.40264892578125),
        (-0.2083381861448288, 0.25548800826072693, -0.0024604974314570427),
        (0.0014843869721516967, -0.0007599993259645998),
    ),
    Intrinsics(
        "60457274",
        (1000.0, 1002.0),
        (1145.5113525390625, 1144.77392578125),
        (514.9682006835938, 501.88201904296875),
        (-0.19838409125804901, 0.21832367777824402, -0.008947807164365783),
        (-0.0005872055771760643, -0.0018133620033040643),
    ),
)
CAMERAS = tuple(camera.name for camera in H36M_INTRINSICS)  # in the order of every file of the community
FRONTAL = "60457274"  # the camera of HMR's protocol 2
INTRINSICS = {camera.name: camera for camera in H36M_INTRINSICS}
_NUM_SUBJECTS = 11  # in metadata.xml, four of whom are not published

# Orientation (w, x, y, z) and position (millimetres) of the four cameras in each subject's recordings, in the single
# precision that they are published in.
_POSES: dict[str, tuple[tuple[float, ...], ...]] = {
    "S1": (
        (0.14070565, -0.15007018, -0.7552408, 0.62232804, 1841.107, 4955.2847, 1563.4454),
        (0.6157188, -0.7648363, -0.14833826, 0.11794741, 1761.2786, -5078.007, 1606.265),
        (0.14651473, -0.14647852, 0.76530236, -0.60941756, -1846.7777, 5215.0464, 1491.9724),
        (0.58340085, -0.7853162, 0.14548823, -0.14749594, -1794.7897, -3722.699, 1574.8927),
    ),
    "S5": (
        (0.14673772, -0.16237096, -0.7551893, 0.6178939, 2097.3916, 4880.945, 1605.7324),
        (0.61597586, -0.7626792, -0.15728192, 0.1189815, 2031.7008, -5167.933, 1612.9231),
        (0.14291371, -0.12907842, 0.7678385, -0.6110143, -1620.5948, 5171.6587, 1496.437),
        (0.592048, -0.7814218, 0.12747486, -0.15036418, -1637.1737, -3867.3174, 1547.0332),
    ),
    "S6": (
        (0.13378978, -0.15692396, -0.75710905, 0.61988795, 1935.4518, 4950.2456, 1618.0839),
        (0.61471975, -0.7628813, -0.16174768, 0.11819245, 1969.804, -5128.739, 1632.7788),
        (0.15299481, -0.13529131, 0.76460963, -0.6112781, -1769.5964, 5185.3613, 1476.9934),
        (0.59161013, -0.7804774, 0.1283227, -0.15615939, -1721.6687, -3884.1313, 1540.4879),
    ),
    "S7": (
        (0.14352418, -0.16313368, -0.75483286, 0.6188825, 1974.513, 4926.3545, 1597.8326),
        (0.6141673, -0.76382625, -0.15966456, 0.117792994, 1937.0585, -5119.79, 1631.5665),
        (0.1455006, -0.12874816, 0.76605165, -0.61271393, -1741.8112, 5208.2495, 1464.8246),
        (0.5912848, -0.78217643, 0.12445474, -0.15196487, -1734.7106, -3832.4214, 1548.583),
    ),
    "S8": (
        (0.14110588, -0.15589868, -0.75619173, 0.61964405, 2150.6519, 4896.161, 1611.9047),
        (0.61696017, -0.7647668, -0.1484635, 0.11158158, 2219.9656, -5148.453, 1613.0441),
        (0.1471444, -0.1337712, 0.76701283, -0.61003697, -1571.2216, 5137.0186, 1498.1761),
        (0.59278244, -0.78258705, 0.12147816, -0.14631996, -1476.9133, -3896.7412, 1547.9722),
    ),
    "S9": (
        (0.15540588, -0.15548216, -0.75320953, 0.6199595, 2044.4585, 4935.117, 1481.2275),
        (0.6187845, -0.7634735, -0.14132239, 0.11933968, 1990.9597, -5123.8105, 1568.8048),
        (0.13357827, -0.13671005, 0.76894546, -0.61007386, -1670.9922, 5211.986, 1528.388),
        (0.5879399, -0.7823407, 0.14276144, -0.1479487, -1696.0435, -3827.0999, 1591.4127),
    ),
    "S11": (
        (0.15232472, -0.1544232, -0.75475633, 0.619107, 2098.4402, 4926.5547, 1500.2786),
        (0.61894494, -0.7600917, -0.15300633, 0.12552583, 2083.1824, -4912.173, 1561.0786),
        (0.14943229, -0.15650228, 0.7681234, -0.60263044, -1609.8153, 5177.336, 1537.8967),
        (0.58942515, -0.7818877, 0.13991211, -0.14715362, -1590.738, -3854.169, 1578.0176),
    ),
}


def extrinsics(subject: str, camera: str) -> tuple[np.ndarray, np.ndarray]:
    """Rotation (3, 3) and translation (3,) in metres, float64: X_camera = R X_world + t.

    Raises:
        InputError: if the pose of that camera is not published.
    """
    if subject not in _POSES or camera not in CAMERAS:
        known = ", ".join(_POSES)
        raise InputError(f"{subject}, camera {camera}: no pose of this camera is published; known are those of {known}")
    pose = np.array(_POSES[subject][CAMERAS.index(camera)], np.float32).astype(np.float64)
    w, x, y, z = pose[:4] / np.linalg.norm(pose[:4])
    orientation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    return orientation.T, -orientation.T @ pose[4:] / 1000.0


def to_camera(points: np.ndarray, rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """(F, J, 3) float32 in the camera frame, of points in the world; metres."""
    with np.errstate(invalid="ignore"):  # joints that are not finite are named elsewhere
        return (points.astype(np.float64) @ rotation.T + translation).astype(np.float32)


def project(points: np.ndarray, intrinsics: Intrinsics) -> np.ndarray:
    """(F, J, 2) float32 pixels of points in the camera frame, with the whole distortion."""
    screen = cameras.project_distorted(torch.from_numpy(points), intrinsics.normalised())
    return cameras.from_screen(screen, torch.tensor(intrinsics.size)).numpy()


def project_pinhole(points: np.ndarray, focal: np.ndarray, principal_point: np.ndarray) -> np.ndarray:
    """(F, J, 2) float32 pixels of points in the camera frame, without distortion."""
    return (points[..., :2] / points[..., 2:] * focal + principal_point).astype(np.float32)


def read_metadata(path: Path) -> dict[str, Intrinsics]:
    """The intrinsics of `metadata.xml`.

    Its element `w0` lists 6 numbers (angles, position) of each camera and subject, then 9 of each camera: focal length,
    principal point, k1, k2, k3, and the two tangential coefficients as OpenCV counts them, p1 before p2. VideoPose3D's
    formula, and so `Intrinsics`, has them the other way round: the first stretches along x.

    Raises:
        InputError: if it is not that file.
    """
    try:
        text = ElementTree.parse(path).getroot().findtext("w0") or ""
        numbers = [float(number) for number in re.split(r"[\s,;]+", text.strip().strip("[]").strip())]
    except (OSError, ValueError, ElementTree.ParseError) as error:
        raise InputError(f"{path}: cannot be read as metadata.xml ({error})") from None
    first = len(CAMERAS) * _NUM_SUBJECTS * 6
    if len(numbers) != first + len(CAMERAS) * 9 or not np.isfinite(numbers).all():
        raise InputError(f"{path}: w0 has {len(numbers)} numbers, expected {first + len(CAMERAS) * 9}")
    found = {}
    for camera, name in enumerate(CAMERAS):
        fx, fy, cx, cy, k1, k2, k3, p1, p2 = numbers[first + camera * 9 : first + camera * 9 + 9]
        found[name] = Intrinsics(name, INTRINSICS[name].size, (fx, fy), (cx, cy), (k1, k2, k3), (p2, p1))
    return found
