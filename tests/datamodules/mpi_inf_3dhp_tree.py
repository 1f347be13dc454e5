"""A small MPI-INF-3DHP in the layouts of its publisher and of P-STMO and D3DP: the same containers, random people.

Every camera is a pinhole that projects `annot3` exactly, as the published ones do to half a pixel; the universal
skeleton is scaled about the pelvis.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

SIZES = {"TS5": (192, 108), "TS6": (192, 108)}  # of the images; of others SIZE
SIZE = (128, 128)
UNIVERSAL = 0.9554
# The 17 joints of the test set among the 28 of the training set, as P-STMO publishes them.
OF_28 = [7, 5, 14, 15, 16, 9, 10, 11, 23, 24, 25, 18, 19, 20, 4, 3, 6]
PELVIS = 14
NUM_CAMERAS = 14


def intrinsics(camera: int, size: tuple[int, int] = SIZE) -> tuple[float, float, float, float]:
    """Focal lengths and principal point, a little different for each camera."""
    width, height = size
    return (0.73 * width + camera, 0.74 * width + camera, 0.5 * width + 0.1 * camera, 0.5 * height - 0.1 * camera)


def people(seed: int, frames: int, joints: int) -> np.ndarray:
    """A person that walks about in front of a camera, (F, joints, 3) mm in its frame."""
    rng = np.random.default_rng(seed)
    rest = rng.uniform((-350, -800, -250), (350, 800, 250), (joints, 3))
    walk = np.stack(
        (np.linspace(-600, 600, frames), rng.uniform(-300, 300, frames), np.linspace(4200, 5200, frames)), 1
    )
    return rest + walk[:, None] + rng.normal(0.0, 30.0, (frames, joints, 3))


def project(positions: np.ndarray, lens: Sequence[float]) -> np.ndarray:
    fx, fy, cx, cy = lens
    return positions[..., :2] / positions[..., 2:] * (fx, fy) + (cx, cy)


def universal(positions: np.ndarray, pelvis: int) -> np.ndarray:
    root = positions[:, pelvis, None]
    return root + UNIVERSAL * (positions - root)


def write_recording(
    folder: Path, frames: int = 12, *, videos: Iterable[int] = (), video_frames: int | None = None,
    images: Iterable[int] = (), optional: bool = True, broken: np.ndarray | None = None, seed: int = 0,
) -> None:  # fmt: skip
    """One `S*/Seq*`: annot.mat, camera.calibration, and videos or extracted images of some cameras.

    Args:
        folder: of the recording.
        frames: of the annotation.
        videos: cameras that have a video.
        video_frames: of the videos, if not as many.
        images: cameras whose frames somebody extracted.
        optional: whether annot.mat has `univ_annot3`, `frames` and `cameras`.
        broken: (K, 3) camera, frame and joint of 28 that are NaN in annot2 and annot3.
        seed: of the motion.
    """
    from scipy.io import savemat

    folder.mkdir(parents=True, exist_ok=True)
    cells = {name: np.empty((NUM_CAMERAS, 1), dtype=object) for name in ("annot2", "annot3", "univ_annot3")}
    for camera in range(NUM_CAMERAS):
        positions = people(100 * seed + camera, frames, 28)
        pixels, scaled = project(positions, intrinsics(camera)), universal(positions, 4)
        for where, frame, joint in np.zeros((0, 3), dtype=int) if broken is None else broken:
            if where == camera:
                pixels[frame, joint] = positions[frame, joint] = np.nan
        for name, values in (("annot2", pixels), ("annot3", positions), ("univ_annot3", scaled)):
            cells[name][camera, 0] = values.reshape(frames, -1)
    content = {"annot2": cells["annot2"], "annot3": cells["annot3"]}
    if optional:
        content |= {"univ_annot3": cells["univ_annot3"], "frames": np.arange(frames)[:, None]}
        content["cameras"] = np.arange(NUM_CAMERAS)[:, None]
    savemat(folder / "annot.mat", content, do_compression=True)
    lines = ["Skeletool Camera Calibration File V1.0"]
    for camera in range(NUM_CAMERAS):
        fx, fy, cx, cy = intrinsics(camera)
        lines += [
            f"name          {camera}",
            "  sensor      10 10",
            f"  size        {SIZE[0]} {SIZE[1]}",
            "  animated    0",
            f"  intrinsic   {fx} 0 {cx} 0 0 {fy} {cy} 0 0 0 1 0 0 0 0 1 ",
            "  extrinsic   1 0 0 12.5 0 1 0 -30 0 0 1 3000 0 0 0 1 ",
            "  radial      0",
        ]
    (folder / "camera.calibration").write_text("\n".join(lines) + "\n")
    for camera in videos:
        write_video(folder / "imageSequence" / f"video_{camera}.avi", video_frames or frames)
    for camera in images:
        for frame in range(frames):
            write_image(folder / "imageFrames" / f"video_{camera}" / f"frame_{frame + 1:06d}.jpg", SIZE, frame)


def write_test(
    folder: Path, frames: int = 20, *, valid: Sequence[int] | None = None, reverse: bool = False,
    people_axis: bool = True, images: bool = True, optional: bool = True, broken: Sequence[tuple[int, int]] = (),
    seed: int = 0,
) -> None:  # fmt: skip
    """One `TS*`: annot_data.mat in MATLAB's version 7.3, which is HDF5 behind 512 bytes, and its images.

    Args:
        folder: of the sequence; its name says the size of the images.
        frames: of the annotation.
        valid: 1 for frames that count; by default two of three.
        reverse: axes in the order of MATLAB instead of h5py's.
        people_axis: whether there is an axis of length one for the only person.
        images: whether there are any.
        optional: whether there are `univ_annot3` and `activity_annotation`.
        broken: frames and joints of 17 that are NaN in annot3.
        seed: of the motion.
    """
    import h5py

    folder.mkdir(parents=True, exist_ok=True)
    size = SIZES.get(folder.name, SIZE)
    positions = people(7000 + seed, frames, 17)
    arrays = {"annot2": project(positions, intrinsics(0, size)), "annot3": positions.copy()}
    if optional:
        arrays["univ_annot3"] = universal(positions, PELVIS)
    for frame, joint in broken:
        arrays["annot3"][frame, joint] = np.nan
    if people_axis:
        arrays = {name: values[:, None] for name, values in arrays.items()}
    flags = np.array([frame % 3 > 0 for frame in range(frames)] if valid is None else valid, dtype=np.float64)
    arrays["valid_frame"] = flags[:, None]
    if optional:
        arrays["activity_annotation"] = np.ones((frames, 1))
    path = folder / "annot_data.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in arrays.items():
            file[name] = values.T if reverse else values
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    for frame in range(frames if images else 0):
        write_image(folder / "imageSequence" / f"img_{frame + 1:06d}.jpg", size, frame)


def write_npz(
    folder: Path, suffix: str = "", *, universal_skeleton: bool = False, train: int = 12, test: int = 20
) -> None:
    """`data_train_3dhp.npz` and `data_test_3dhp.npz` with some frames of two recordings and two test sequences."""
    from noise2pose.safe_pickle import write_object_npz

    def arrays(seed: int, frames: int, size: tuple[int, int], camera: int) -> dict:
        positions = people(seed, frames, 17)
        pixels = project(positions, intrinsics(camera, size))
        given = universal(positions, PELVIS) if universal_skeleton else positions
        return {"data_2d": lambda: pixels, "data_3d": lambda: given}

    training = {
        f"S{subject} Seq1": [
            {str(camera): arrays(10 * subject + camera, train, (2048, 2048), camera) for camera in (0, 8)},
            lambda: np.array(25),
        ]
        for subject in (1, 2)
    }
    write_object_npz(folder / f"data_train_3dhp{suffix}.npz", "data", training)
    tests = {}
    for number, name in enumerate(("TS1", "TS5")):
        size = (1920, 1080) if name == "TS5" else (2048, 2048)
        flags = np.array([(frame + number) % 2 for frame in range(test)], dtype=np.float64)
        tests[name] = {**arrays(500 + number, test, size, 0), "valid": lambda flags=flags: flags}
    write_object_npz(folder / f"data_test_3dhp{suffix}.npz", "data", tests)


def write(folder: Path) -> None:
    """Two recordings, one with videos of two cameras and one extracted, and two test sequences, one outdoors."""
    write_recording(folder / "S1" / "Seq1", videos=(0, 8), seed=1)
    write_recording(folder / "S2" / "Seq2", images=(0, 8), seed=2)
    write_test(folder / "mpi_inf_3dhp_test_set" / "mpi_inf_3dhp_test_set" / "TS1", seed=1)
    write_test(folder / "mpi_inf_3dhp_test_set" / "mpi_inf_3dhp_test_set" / "TS5", frames=16, reverse=True, seed=5)


def write_video(path: Path, frames: int) -> None:
    """Grey frames, each a little brighter than the last."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for frame in range(frames):
            image = av.VideoFrame.from_ndarray(np.full((SIZE[1], SIZE[0], 3), brightness(frame), np.uint8), "rgb24")
            container.mux(stream.encode(image))
        container.mux(stream.encode())


def write_image(path: Path, size: tuple[int, int], frame: int) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (brightness(frame),) * 3).save(path, quality=90)


def brightness(frame: int) -> int:
    return 20 + 8 * frame % 200
