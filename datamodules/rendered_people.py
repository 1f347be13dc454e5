"""People whose body parameters are known exactly: the free body in synthetic or CMU poses, rendered or as keypoints."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import roma
import torch

from datamodules.base import PoseDataModule, Split, check_keypoints, check_range
from datamodules.cmu_mocap import DATASET, read_clips
from datamodules.motion import activities
from datamodules.motion.detections import simulate_detections
from datamodules.motion_capture import clips_of_people, open_motion, publisher_of, roots_and_weights
from datamodules.prepared.folder import PreparedFolder
from datamodules.rendered.cache import render_cache
from datamodules.rendered.people import (
    IMAGE_SIDE,
    MIN_SEEN,
    SKELETON,
    UPRIGHT,
    Poses,
    draw_betas,
    keypoints_of,
    photograph,
)
from datamodules.rendered.scenes import covered
from noise2pose import keyed_random
from noise2pose.batch import PoseBatch
from noise2pose.bodies import BodyModel, coco
from noise2pose.errors import InputError
from noise2pose.images.crops import BOX_SCALE
from noise2pose.metrics.protocols import MESH_JOINTS, Protocol

_FRAMES, _STRIDE = 100, 10  # of a synthetic clip
_POSES_PER_CLIP = _FRAMES // _STRIDE
_VIEWS = 4  # cameras of each synthetic pose
_STREAM = 210  # of keyed_random


class RenderedPeople(PoseDataModule):
    """Images of rendered people with exact labels; the names of all data sets of this kind begin with `rendered`.

    Splits share no clip: synthetic ones have seeds of their own, those of CMU are `CMUMocap`'s (test subjects are in no
    other split), and `people` have the splits of `MotionCapture`, which share nobody. Each person is a pose of a clip,
    drawn at random, with a camera and a body shape of their own.

    Args:
        motion: `synthetic`, which needs no file; `cmu`; `both`, half of each; `people` for those of all `roots`.
        root: for `cmu` and `both`: folder written by `scripts/prepare.py cmu_mocap`.
        roots: for `people`: folders of motion with rotations, written by `scripts/prepare.py`, commas between them.
        weights: for `people`: share of each of these folders, commas between them; equal by default.
        images: whether to render images; without, a batch has keypoints only and takes seconds to make.
        num_people: training samples; validation has a fortieth and test a twentieth as many.
        keypoints_2d: `gt` for exact projections, `synthetic` for simulated detection errors, fixed by `noise_seed`.
        truncation: share of the people who are moved over a border of the image, see `rendered.people.photograph`.
        occlusion: share of the people behind one to three objects; their hidden joints are not detected.
        picture_size: side of the rendered images, pixels.
        whole_images: render the whole image instead of the crop around the person; `box` is then that of the image.
        max_turn: degrees that people are turned away from the camera at most; 180 for seen from any side.
        photos: folder of photographs for the backgrounds; without, backgrounds are made up.
        cache: folder where rendered images are kept; the same settings find the same images again.
        num_workers: processes that render, in addition to the first.
        noise_seed: of cameras, people and detection errors; methods compared with each other must share it.
        body: `free`, or the npz of another body (`scripts/prepare.py body`).
        skeleton: of the keypoints: `h36m_17`, or `coco_17` for methods that find keypoints in images. People, cameras
            and images are the same.
        batch_size, eval_batch_size, mixed_keypoints_2d, train_share: see `PoseDataModule`.
    """

    def __init__(
        self,
        motion: Literal["synthetic", "cmu", "both", "people"] = "synthetic",
        root: str = "data/cmu_mocap",
        roots: str = "data/cmu_mocap,data/uiprmd",
        weights: str = "",
        images: bool = True,
        num_people: int = 20_000,
        keypoints_2d: Literal["gt", "synthetic"] = "synthetic",
        truncation: float = 0.15,
        occlusion: float = 0.3,
        picture_size: int = 224,
        whole_images: bool = False,
        max_turn: float = 180.0,
        photos: str | None = None,
        cache: str = "data/rendered",
        num_workers: int = 1,
        noise_seed: int = 0,
        body: str = "free",
        skeleton: Literal["h36m_17", "coco_17"] = SKELETON,
        batch_size: int = 64,
        eval_batch_size: int = 256,
        mixed_keypoints_2d: bool = False,
        train_share: float = 1.0,
    ) -> None:
        super().__init__(batch_size, eval_batch_size, mixed_keypoints_2d, train_share)
        self.motion = motion
        self.root = Path(root)
        self.roots, self.weights = roots_and_weights(roots, weights)
        self.images = images
        self.sizes: dict[Split, int] = {"train": num_people, "val": num_people // 40, "test": num_people // 20}
        self.keypoints_2d: Literal["gt", "synthetic"] = keypoints_2d
        self.truncation = truncation
        self.occlusion = occlusion
        self.picture_size = picture_size
        self.whole_images = whole_images
        self.max_turn = max_turn
        self.photos = photos
        self.cache = cache
        self.num_workers = num_workers
        self.noise_seed = noise_seed
        self.body = body
        self.skeleton = skeleton
        fewest = 80 if motion == "both" else 40  # one of each kind of motion in the smallest split
        if not 0.0 <= max_turn <= 180.0:
            raise InputError(f"data.max_turn is {max_turn}, expected 0 to 180 degrees")
        check_range(fewest, num_people=num_people)
        check_range(1, picture_size=picture_size)
        check_range(0, num_workers=num_workers)
        check_range(0, 1, truncation=truncation, occlusion=occlusion)

    @property
    def dataset(self) -> str:
        return f"rendered_{self.motion}"  # with or without images: the people and their keypoints are the same

    def prepare_data(self) -> None:
        if self.motion == "people":
            for root in self.roots:
                open_motion(root)
        elif self.motion != "synthetic":
            PreparedFolder(self.root, DATASET)
        if self.images and self.trainer:  # in the first process only; the others then find them
            stage = self.trainer.state.fn
            splits: dict[Any, tuple[Split, ...]] = {"fit": ("train", "val"), "validate": ("val",)}
            for split in splits.get(stage, ("test",)):
                self.load(split)

    def protocols(self, split: Split) -> list[Protocol]:
        source = "clips of no other split" + (", CMU subjects neither" if split == "test" else "")
        source = "clips of no other split" if self.motion == "synthetic" else source
        source = "people of no other split" if self.motion == "people" else source
        source += ", whole images" if self.whole_images else ""
        source += f", turned at most {self.max_turn:g} degrees" if self.max_turn < 180.0 else ""
        protocol = Protocol(
            name=self.dataset,
            dataset=self.dataset,
            split=f"{split}: {self.sizes[split]} rendered people in {self.motion} poses, {source}",
            skeleton=self.skeleton,
            joints=MESH_JOINTS,
            keypoints_2d=self.keypoints_2d,
        )
        if self.skeleton == coco.SKELETON:  # which has no root for poses to be relative to
            protocol = replace(
                protocol, name=f"{self.dataset}_coco", joints=None, alignment="none", units="px", dimensions=2
            )
        return [protocol]

    def load(self, split: Split) -> PoseBatch:
        poses = self.poses(split)
        keys = keyed_random.keys_of(poses.names)
        body = BodyModel.load(self.body)
        people = photograph(poses, body, keys, self.noise_seed, self.truncation, self.max_turn)
        if self.skeleton == coco.SKELETON:
            joints = coco.coco_joints(body, **people["smpl"], translation=people["camera_translation"])
            people |= keypoints_of(joints, people["camera"])
        check_keypoints(people, f"{self.dataset} {split}", num_joints=17)
        if self.keypoints_2d == "synthetic":
            if self.skeleton == coco.SKELETON:  # methods with a body take the exact joints in space instead
                people["keypoints_2d_gt"] = people["keypoints_2d"]
            people["keypoints_2d"] = self._detect(people, keys)
        if self.whole_images:
            people["box"] = torch.tensor([IMAGE_SIDE / 2.0, IMAGE_SIDE / 2.0, IMAGE_SIDE]).repeat(len(keys), 1)
        if self.images:
            people["image"] = render_cache(
                self.cache,
                people,
                body,
                keys=keys,
                seed=self.noise_seed,
                picture_size=self.picture_size,
                photos=self.photos,
                occlusion=self.occlusion,
                num_workers=self.num_workers,
            )
        return people

    def poses(self, split: Split) -> Poses:
        """The poses of a split, in a world with y up."""
        count = self.sizes[split]
        if self.motion == "both":
            synthetic, cmu = self._synthetic(split, count // 2), self._cmu(split, count - count // 2)
            return _joined([synthetic, cmu])
        if self.motion == "people":
            return self._people(split, count)
        return self._synthetic(split, count) if self.motion == "synthetic" else self._cmu(split, count)

    def _synthetic(self, split: Split, count: int) -> Poses:
        """Poses of so many clips that each pose is seen by a few cameras; each clip is another person."""
        kinds = list(activities.ACTIVITIES)
        numbers = range(-(-count // (len(kinds) * _POSES_PER_CLIP * _VIEWS)))
        motions = [
            (kind, number, activities.generate(kind, _FRAMES, seed=activities.FIRST_SEED[split] + number))
            for number in numbers
            for kind in kinds
        ]
        rotvecs = torch.stack([torch.from_numpy(motion.rotations[::_STRIDE]) for *_, motion in motions])
        betas = torch.stack([torch.from_numpy(motion.betas) for *_, motion in motions])
        clip, turn = torch.arange(count) % len(motions), torch.arange(count) // len(motions)
        frame = turn % _POSES_PER_CLIP
        of = [
            (*motions[c][:2], f * _STRIDE, t // _POSES_PER_CLIP)
            for c, f, t in zip(clip.tolist(), frame.tolist(), turn.tolist(), strict=True)
        ]
        return Poses(
            roma.rotvec_to_rotmat(rotvecs[clip, frame].float()),
            betas[clip].float(),
            [f"{kind}_{split}_{number:04d}_{at:03d}_{view}" for kind, number, at, view in of],
            [f"{split}_{number:04d}" for _, number, _, _ in of],
            [kind for kind, *_ in of],
        )

    def _cmu(self, split: Split, count: int) -> Poses:
        clips = read_clips(self.root, split, "poses")
        if not clips:
            raise InputError(f"data.root: {self.root} has no clips for {split}")
        return self._frames(clips, count)

    def _people(self, split: Split, count: int) -> Poses:
        """The share of each folder that has people for the split."""
        found = []
        for root, weight in zip(self.roots, self.weights or [1.0] * len(self.roots), strict=True):
            folder = open_motion(root)
            publisher = publisher_of(folder)
            clips = [  # people of two publishers may have the same number
                (f"{publisher}_{name}", f"{publisher}_{subject}", action, rotvecs)
                for name, subject, action, rotvecs in clips_of_people(folder, split, "poses")
            ]
            found += [(clips, weight)] if clips else []
        if not found:
            raise InputError(f"data.roots: {', '.join(map(str, self.roots))} have no people for {split}")
        total = sum(weight for _, weight in found)
        ends = [round(count * sum(weight for _, weight in found[: n + 1]) / total) for n in range(len(found))]
        starts = [0, *ends[:-1]]
        return _joined(
            [self._frames(clips, end - start) for (clips, _), start, end in zip(found, starts, ends, strict=True)]
        )

    def _frames(self, clips: Sequence[tuple[str, str, str, torch.Tensor]], count: int) -> Poses:
        """Frames at equal distances through all clips, each on a body of its own."""
        frames = torch.cat([rotvecs for *_, rotvecs in clips])
        owner = torch.cat([torch.full((len(rotvecs),), i) for i, (*_, rotvecs) in enumerate(clips)])
        start = torch.tensor([0, *(len(rotvecs) for *_, rotvecs in clips)]).cumsum(0)
        chosen = torch.arange(count) * len(frames) // count
        of = [clips[c] for c in owner[chosen].tolist()]
        at = (chosen - start[owner[chosen]]).tolist()
        # Where there are more people than frames, some share a pose and differ in camera and shape.
        names = [f"{name}_{frame:05d}_{i}" for i, ((name, *_), frame) in enumerate(zip(of, at, strict=True))]
        matrices = roma.rotvec_to_rotmat(frames[chosen])
        matrices[:, 0] = UPRIGHT @ matrices[:, 0]
        return Poses(
            matrices,
            draw_betas(names, _STREAM, self.noise_seed),
            names,
            [subject for _, subject, _, _ in of],
            [action for _, _, action, _ in of],
        )

    def _detect(self, people: PoseBatch, keys: torch.Tensor) -> torch.Tensor:
        """Simulated detections of the joints that can be seen."""
        exact, box = people["keypoints_2d"], people["box"][:, None]
        in_crop = (exact[..., :2] - box[..., :2]) / box[..., 2:] + 0.5
        seen = (exact[..., 2] > 0) & ~covered(in_crop, keys, self.noise_seed, self.occlusion)
        # Where nearly all of a person is hidden the detector guesses on, as detectors do.
        seen = torch.where(seen.sum(dim=-1, keepdim=True) >= MIN_SEEN, seen, exact[..., 2] > 0)
        area = 0.5 * (people["box"][:, 2] / BOX_SCALE).square()  # a person fills about half of the square around them
        return simulate_detections(exact[..., :2], seen, area, keys, self.skeleton, self.noise_seed)


def _joined(parts: Sequence[Poses]) -> Poses:
    return Poses(
        torch.cat([part.rotations for part in parts]),
        torch.cat([part.betas for part in parts]),
        [name for part in parts for name in part.names],
        [subject for part in parts for subject in part.subjects],
        [action for part in parts for action in part.actions],
    )
