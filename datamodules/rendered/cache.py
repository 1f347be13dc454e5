"""Rendered images on disk: made once by several processes, resumed after a kill, never reused for other settings.

A folder holds `pictures.npy`, an array (N, 3, S, S) of bytes, and `manifest.json` with the settings and which chunks of
images are done. Its name has a hash of everything that an image depends on.

Shape letters: N people, S side of the images.
"""

import hashlib
import json
import multiprocessing
import pickle
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from copy import deepcopy
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor
from tqdm import tqdm

from datamodules.rendered.backgrounds import find_photos
from datamodules.rendered.clothes import Surface, surface
from datamodules.rendered.scenes import Lens, occluders, render_scene
from noise2pose.batch import PoseBatch
from noise2pose.bodies import BodyModel
from noise2pose.errors import InputError
from noise2pose.files import write_text

_CHUNK = 64  # images; results of matrix products depend on the batch, so this is the same for every number of workers
_VERSION = 1  # to be raised when the same settings give other images


class _Job(NamedTuple):
    """What every worker needs once."""

    body: BodyModel
    images: str
    seed: int
    size: int
    photos: list[Path]
    occlusion: float


class _Worker:
    """Renders chunks into the memory map."""

    def __init__(self, job: _Job) -> None:
        self.job = job
        self.on: Surface = surface(job.body)
        self.faces = job.body.faces.numpy()
        self.images = np.load(job.images, mmap_mode="r+")

    @torch.inference_mode()
    def render(self, first: int, people: dict[str, np.ndarray]) -> int:
        """Renders the people of one chunk; returns the number of the first."""
        tensors = {name: torch.from_numpy(array) for name, array in people.items()}
        posed = self.job.body(tensors["global_orient"], tensors["body_pose"], tensors["betas"])
        vertices = (posed.vertices + tensors["camera_translation"][:, None]).numpy()
        in_front = occluders(tensors["keys"], self.job.seed, self.job.occlusion)
        for row, points in enumerate(vertices):
            image = render_scene(
                self.on,
                points,
                self.faces,
                _lens(people, row, self.job.size),
                type(in_front)(*(values[row : row + 1] for values in in_front)),
                size=self.job.size,
                key=int(people["keys"][row]),
                seed=self.job.seed,
                photos=self.job.photos,
            )
            self.images[first + row] = image.transpose(2, 0, 1)
        self.images.flush()
        return first


def render_cache(
    folder: str | Path,
    people: PoseBatch,
    body: BodyModel,
    *,
    keys: Int[Tensor, " N"],
    seed: int,
    picture_size: int = 224,
    photos: str | Path | None = None,
    occlusion: float = 0.5,
    num_workers: int = 0,
) -> UInt8[Tensor, "N 3 S S"]:
    """The square `box` of each person's image, rendered where it is not on disk yet.

    The bytes depend on the arguments, not on the number of workers or on how often the rendering was killed.
    One process at a time may render into a folder. Workers are spawned processes, so a script that uses them
    needs the usual guard `if __name__ == "__main__"`.

    Args:
        folder: where the folder of these images is, or will be made.
        people: `smpl`, `camera_translation`, `camera` and `box`.
        body: whose parameters `smpl` are.
        keys: of `keyed_random`, one a person.
        seed: of everything in the images but the people.
        picture_size: S, pixels.
        photos: folder of photographs for backgrounds; without, backgrounds are made up.
        occlusion: share of the images with something in front; `covered` needs the same as `probability`.
        num_workers: processes in addition to this one; 0 renders in this one.

    Returns:
        RGB, mapped from the file; what is written to it stays in memory.

    Raises:
        InputError: if the disk has no room, there are no photographs, files of the cache are damaged, or a worker is
            killed or cannot start; the images that are done stay.
    """
    arrays = _arrays(people, keys)
    found = find_photos(photos) if photos is not None else []
    settings = _settings(arrays, body, found, seed=seed, picture_size=picture_size, occlusion=occlusion)
    checksum = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    home = Path(folder) / f"pictures-{checksum[:16]}"
    shape = (len(keys), 3, picture_size, picture_size)
    done, about = _open(home, shape, settings, checksum)
    todo = [first for first in range(0, len(keys), _CHUNK) if first not in done]
    if todo:
        if num_workers:
            _end_rerun_of_main()
        print(about, file=sys.stderr)
        job = _Job(deepcopy(body).float().cpu(), str(home / "pictures.npy"), seed, picture_size, found, occlusion)
        with tqdm(total=len(keys), initial=min(len(done) * _CHUNK, len(keys)), unit="image", desc="rendering") as bar:
            for first in _rendered(job, arrays, todo, min(num_workers, len(todo))):
                done.add(first)
                _write_manifest(home, settings, checksum, done)
                bar.update(min(_CHUNK, len(keys) - first))
    # Copy on write, because PyTorch has no tensors that cannot be written.
    return torch.from_numpy(np.load(home / "pictures.npy", mmap_mode="c"))


def _rendered(job: _Job, arrays: dict[str, np.ndarray], todo: list[int], num_workers: int) -> Iterator[int]:
    """Numbers of the first images of chunks, as they are done."""
    if num_workers == 0:
        worker = _Worker(job)
        for first in todo:
            with _one_thread():
                worker.render(first, {name: array[first : first + _CHUNK] for name, array in arrays.items()})
            yield first
        return
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    # Workers read the job from files: this process would wait forever to write into the full pipe of a killed one.
    files = Path(job.images).with_name("job")
    files.mkdir(exist_ok=True)
    (files / "job.pickle").write_bytes(packed := pickle.dumps(job))
    digest = hashlib.sha256(packed).digest()
    for name, array in arrays.items():
        np.save(files / f"{name}.npy", array)
    pool = ProcessPoolExecutor(num_workers, context, initializer=_start, initargs=(files, digest, started))
    try:
        for future in as_completed([pool.submit(_render, first, first + _CHUNK) for first in todo]):
            yield future.result()
    except BrokenProcessPool:
        if not started.is_set():
            raise InputError(
                'no process that renders could start: put what your script does below `if __name__ == "__main__":`, '
                "or set num_workers to 0"
            ) from None
        raise InputError(
            "a process that renders was ended from outside, perhaps because memory ran out; the same command continues "
            f"where this one stopped, and needs less memory with --data.num_workers {num_workers // 2}"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)
        shutil.rmtree(files, ignore_errors=True)


def _end_rerun_of_main() -> None:
    """Ends a new process that runs the main script again, as one without a guard; it would wait for its own workers.

    The process that started it then says what is wrong.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # set while the main script is imported
        sys.exit(1)


_worker: _Worker | None = None  # of a worker process
_people: dict[str, np.ndarray] = {}


def _start(files: Path, digest: bytes, started: Event) -> None:
    global _worker
    started.set()
    torch.set_num_threads(1)
    packed = (files / "job.pickle").read_bytes()
    if hashlib.sha256(packed).digest() != digest:  # in a folder that others may write to
        raise InputError(f"{files / 'job.pickle'} is not the file that this command wrote")
    _worker = _Worker(pickle.loads(packed))
    _people.update({file.stem: np.load(file, mmap_mode="r") for file in files.glob("*.npy")})


def _render(first: int, end: int) -> int:
    assert _worker is not None
    return _worker.render(first, {name: np.array(array[first:end]) for name, array in _people.items()})


@contextmanager
def _one_thread() -> Iterator[None]:
    """Several threads split sums among them, which changes the last digits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _arrays(people: PoseBatch, keys: Tensor) -> dict[str, np.ndarray]:
    """What the images are rendered from, one row a person."""
    parts = {
        "global_orient": people["smpl"]["global_orient"],
        "body_pose": people["smpl"]["body_pose"],
        "betas": people["smpl"]["betas"],
        "camera_translation": people["camera_translation"],
        **{name: people["camera"][name] for name in ("focal", "principal_point", "image_size")},
        "box": people["box"],
    }
    arrays = {name: tensor.detach().cpu().float().contiguous().numpy() for name, tensor in parts.items()}
    return {"keys": keys.cpu().contiguous().numpy(), **arrays}


def _lens(people: dict[str, np.ndarray], row: int, size: int) -> Lens:
    """The camera of a person's crop."""
    *centre, side = people["box"][row].astype(np.float64)
    corner, scale = np.array(centre) - side / 2.0, size / side
    left, top = -corner * scale
    right, bottom = (people["image_size"][row] - corner) * scale
    principal_point = (people["principal_point"][row] - corner) * scale
    return Lens(people["focal"][row] * scale, principal_point, (left, top, right, bottom))


def _settings(arrays: dict[str, np.ndarray], body: BodyModel, photos: list[Path], **plain: float) -> dict[str, Any]:
    """Everything that the bytes of the images depend on."""
    mesh = hashlib.sha256()
    for buffer in (body.template, body.shape_directions, body.pose_directions, body.skinning_weights, body.faces):
        mesh.update(buffer.detach().cpu().contiguous().numpy().tobytes())
    hashes = {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in arrays.items()}
    files = [[path.name, path.stat().st_size] for path in photos]
    return {"version": _VERSION, "chunk": _CHUNK, "count": len(arrays["keys"]), **plain} | {
        "people": hashes,
        "body": mesh.hexdigest(),
        "photos": hashlib.sha256(json.dumps(files).encode()).hexdigest() if files else None,
    }


def _open(home: Path, shape: tuple[int, ...], settings: dict[str, Any], checksum: str) -> tuple[set[int], str]:
    """Makes room for the images, or finds those of an earlier run.

    Returns:
        Numbers of the first images of the chunks that are done, and what is still to be written, in words.
    """
    manifest, images = home / "manifest.json", home / "pictures.npy"
    done: set[int] = set()
    if manifest.exists():
        try:
            written = json.loads(manifest.read_text())
            known, done = written["checksum"], set(written["done"])
            found = np.load(images, mmap_mode="r").shape
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            raise InputError(f"{home}: found no readable images ({error}); delete this folder") from error
        if known != checksum or found != shape:
            raise InputError(f"{home}: found images of other settings or another number; delete this folder")
        if len(done) == -(-shape[0] // _CHUNK):
            return done, ""
    home.mkdir(parents=True, exist_ok=True)
    each = int(np.prod(shape[1:]))
    needed, free = (shape[0] - min(len(done) * _CHUNK, shape[0])) * each, shutil.disk_usage(home).free
    said = f"{shape[0]} images of {shape[-1]} x {shape[-1]} take {_size(shape[0] * each)}"
    if needed > free:
        raise InputError(f"{home}: {said}, of which {_size(needed)} are to be written, but {_size(free)} are free")
    resumed = f", resumed at {min(len(done) * _CHUNK, shape[0])}" if done else ""
    if not manifest.exists():
        np.lib.format.open_memmap(images, mode="w+", dtype=np.uint8, shape=shape)
        _write_manifest(home, settings, checksum, done)
    return done, f"{home}: {said}{resumed}"


def _size(number: int) -> str:
    """Bytes in readable units."""
    return f"{number / 1e9:.2f} GB" if number >= 1e9 else f"{number / 1e6:.1f} MB"


def _write_manifest(home: Path, settings: dict[str, Any], checksum: str, done: set[int]) -> None:
    text = json.dumps({"checksum": checksum, "settings": settings, "done": sorted(done)}, indent=1)
    write_text(home / "manifest.json", text + "\n")
