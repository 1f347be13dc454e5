"""What the pose prior is worth where bodies are fitted to 2-D keypoints: against SMPLify-style fitting in equal time.

    python -m scripts.studies.fitting runs/pose_prior_motion/checkpoints/best.ckpt --data configs/data/cmu_poses.yaml

Keypoints are exact, off by two hundredths of the box's side, or those of one limb are hidden; further views are exact.
Every row starts from the same body: the mean pose in the two orientations that fit the keypoints best, or the answer of
a front end. SMPLify-style fitting (`methods.diffannot.fitting`) has a Gaussian of the same training poses, and so many
iterations that it takes as long as `guided` on the processor; `linear` is `guided` without the network. The weight of
the keypoints, and the learning rate of SMPLify-style fitting, are chosen for each row on validation people.

Shape letters: B samples, R starts.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import roma
import torch
import yaml
from jaxtyping import Float
from torch import Tensor

from datamodules.base import batch_of
from methods.base import PoseMethod
from methods.checkpoints import load_method
from methods.diffannot import fitting
from methods.diffannot.reprojection import Keypoints
from methods.diffannot.states import PosedBody, to_smpl, to_state
from methods.pose_prior import PosePrior, denoiser
from methods.pose_prior.module import Answer
from methods.pose_prior.views import Views, first_orientations
from noise2pose import cameras, keyed_random, skeletons
from noise2pose.batch import PoseBatch
from noise2pose.errors import InputError
from noise2pose.files import commit, write_text
from noise2pose.metrics import functional
from noise2pose.metrics.protocols import MESH_JOINTS
from scripts.studies import runs
from scripts.studies.people import make_data_module

STRENGTHS = (30.0, 100.0, 300.0, 1000.0, 3000.0)  # weights of the keypoints to choose from
_ITERATIONS = (10, 30)  # of SMPLify-style fitting: of the orientation, and of everything; scaled to the time of guided
_CHOSEN_ON = 4  # a quarter of the people is enough to choose a weight by
_DISTANCE = 5.0  # metres from a person to the further cameras
_RATES = (0.003, 0.01, 0.03)  # of SMPLify-style fitting to choose from
_NOISE = 0.02  # of noisy keypoints, box sides
_STREAM = 380  # of keyed_random: this and the next
_FURTHER_VIEWS = {2: (90.0,), 4: (90.0, 180.0, 270.0)}  # degrees around the person

_NAMES = skeletons.get("h36m_17").joints
_LIMBS = [
    [_NAMES.index(f"{side}_{joint}") for joint in joints]
    for side in ("left", "right")
    for joints in (("knee", "ankle"), ("elbow", "wrist"))
]
# (a batch, a weight of the keypoints) -> joints of the answers (B, 17, 3), metres.
Row = Callable[[PoseBatch, float], Tensor]


class Measured(NamedTuple):
    """One line of the table; errors in millimetres, time of one person in milliseconds."""

    name: str
    weight: float
    mpjpe: float
    pa_mpjpe: float
    milliseconds: float


class People(NamedTuple):
    """Those that settings are chosen on, and those that are reported."""

    validation: PoseBatch
    test: PoseBatch


class Fitters:
    """Everything that is compared.

    Args:
        prior: trained.
        front_end: answers with bodies of the same kind.
        poses: of the prior's training.
    """

    def __init__(self, prior: PosePrior, front_end: PoseMethod, poses: Float[Tensor, "N 23 3 3"]) -> None:
        self.prior, self.front_end = prior, front_end
        self.posed = PosedBody(prior.body, prior.skeleton.name, project=True)
        self.gaussian = fitting.PosePrior.fit(states_of(poses[:, 0], poses))
        self.iterations: tuple[int, int] = _ITERATIONS

    def guided(self, answer: Answer, views: int = 1, from_front_end: bool = False) -> Row:
        """The prior's own fit, with or without its network."""

        def row(batch: PoseBatch, strength: float) -> Tensor:
            self.prior.choose(answer)
            self.prior.guidance = replace(self.prior.guidance, strength=strength)
            seen = [Views.of(batch), *(turned_view(batch, angle) for angle in _FURTHER_VIEWS.get(views, ()))]
            return self.prior.fit(Views.joined(seen), self.front_end(batch)["smpl"] if from_front_end else None).joints

        return row

    def smplify(self, rate: float, from_front_end: bool = False) -> Row:
        """SMPLify-style fitting from each start; the answer of the least cost."""

        def row(batch: PoseBatch, strength: float) -> Tensor:
            keypoints, scale = Keypoints.of(batch), self.prior.guidance.scale
            states, costs = [], []
            for start in [to_state(self.front_end(batch)["smpl"])] if from_front_end else self._starts(batch):
                state = fitting.fit_to_keypoints(
                    start, self.posed, keypoints, self.gaussian, strength, scale, self.iterations, rate
                )
                pose = roma.rotmat_to_rotvec(to_smpl(state)["body_pose"]).flatten(1)
                data = keypoints.robust(keypoints.project(self.posed.joints(state)), scale)
                states.append(state)
                costs.append(strength * data + self.gaussian.energy(pose, state[:, -10:]))
            best = torch.stack(costs).argmin(dim=0)
            return self.posed.joints(torch.stack(states)[best, torch.arange(len(best))])

        return row

    def start(self, from_front_end: bool = False) -> Row:
        """What the others start from."""

        def row(batch: PoseBatch, strength: float) -> Tensor:
            first = to_state(self.front_end(batch)["smpl"]) if from_front_end else self._starts(batch)[0]
            return self.posed.joints(first)

        return row

    def _starts(self, batch: PoseBatch) -> list[Float[Tensor, "B D"]]:
        mean = denoiser.to_pose(self.prior.denoiser.mean)[None]
        rest = self.posed.joints(states_of(torch.eye(3)[None], mean))[0]
        orients = first_orientations(Views.of(batch), rest, self.prior.guidance.scale, self.prior.num_starts)
        return [states_of(orient, mean.expand(len(orient), -1, -1, -1)) for orient in orients]


def states_of(orient: Float[Tensor, "B 3 3"], pose: Float[Tensor, "B 23 3 3"]) -> Float[Tensor, "B D"]:
    """DiffAnnot's states of bodies of the mean shape."""
    return to_state({"global_orient": orient, "body_pose": pose, "betas": orient.new_zeros(len(orient), 10)})


def turned_view(batch: PoseBatch, degrees: float) -> Views:
    """The people of a batch from a camera that was turned about them, with the true joints' exact keypoints."""
    views, joints = Views.of(batch), batch["keypoints_3d"][..., :3]
    middle = joints.mean(dim=1)
    turn = roma.euler_to_rotmat("Y", joints.new_tensor([degrees]), degrees=True).expand(len(joints), 3, 3)
    away = joints.new_tensor([0.0, 0.0, _DISTANCE])
    shift = away - (turn @ middle[..., None])[..., 0]
    points = cameras.project(joints @ turn.mT + shift[:, None], views.focal[:, 0], views.principal_point[:, 0])
    side = 1.2 * (points.amax(dim=1) - points.amin(dim=1)).amax(dim=-1)
    return Views(
        points[:, None], torch.ones_like(points[:, None, :, 0]), views.focal, views.principal_point, side[:, None],
        turn[:, None], shift[:, None],
    )  # fmt: skip


def errors(joints: Float[Tensor, "B J 3"], batch: PoseBatch) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """MPJPE relative to the root and PA-MPJPE of each person, over 14 joints, millimetres."""
    chosen, truth = list(MESH_JOINTS), batch["keypoints_3d"][..., :3]
    ours, theirs = (joints - joints[:, :1])[:, chosen], (truth - truth[:, :1])[:, chosen]
    return 1000.0 * functional.mpjpe(ours, theirs), 1000.0 * functional.pa_mpjpe(ours, theirs)


def hidden(batch: PoseBatch) -> PoseBatch:
    """The people of a batch; of each, the keypoints of one lower leg or lower arm are hidden."""
    chosen = keyed_random.uniform(keyed_random.keys_of(batch["sample_id"]), (1,), stream=_STREAM)
    keypoints = batch["keypoints_2d"].clone()
    limbs = torch.tensor(_LIMBS)[(chosen[:, 0] * len(_LIMBS)).long()]
    keypoints[..., 2].scatter_(1, limbs, 0.0)
    return {**batch, "keypoints_2d": keypoints}


def noisy(batch: PoseBatch) -> PoseBatch:
    """The people of a batch with errors of the keypoints."""
    noise = keyed_random.normal(keyed_random.keys_of(batch["sample_id"]), (17, 2), stream=_STREAM + 1)
    keypoints = batch["keypoints_2d"].clone()
    keypoints[..., :2] += _NOISE * batch["box"][:, None, 2:] * noise
    return {**batch, "keypoints_2d": keypoints}


INPUTS: dict[str, Callable[[PoseBatch], PoseBatch]] = {"exact": dict, "noisy": noisy, "limb hidden": hidden}  # pyright: ignore


def measure(name: str, rows: Sequence[Row], people: People, weights: Sequence[float]) -> Measured:
    """Chooses one of the rows and the weight by MPJPE on validation people, and measures on test people."""
    tried = {
        (number, weight): float(errors(row(people.validation, weight), people.validation)[0].mean())
        for number, row in enumerate(rows)
        for weight in weights
    }
    number, weight = min(tried, key=lambda choice: tried[choice])
    started = time.process_time()
    found = rows[number](people.test, weight)
    taken = time.process_time() - started
    mpjpe, pa_mpjpe = (float(error.mean()) for error in errors(found, people.test))
    return Measured(name, weight, mpjpe, pa_mpjpe, 1000.0 * taken / len(found))


def study(fitters: Fitters, people: People, weights: Sequence[float] = STRENGTHS) -> list[Measured]:
    """Every row, with every kind of keypoints, from both starts, and with further views."""
    rows = []
    for kind, change in INPUTS.items():
        seen = People(change(people.validation), change(people.test))
        for start, given in (("search", False), ("front end", True)):
            name = f"{kind}, {start}"
            rows.append(measure(f"{name}: the start itself", [fitters.start(given)], seen, weights[:1]))
            guided = measure(f"{name}: guided", [fitters.guided("guided", 1, given)], seen, weights)
            fitters.iterations = _ITERATIONS
            once = measure("", [fitters.smplify(_RATES[0], given)], seen, weights[:1])
            times = guided.milliseconds / once.milliseconds
            fitters.iterations = (max(round(times * _ITERATIONS[0]), 1), max(round(times * _ITERATIONS[1]), 1))
            smplify = f"{name}: SMPLify-style, {sum(fitters.iterations)} iterations"
            rows.append(measure(smplify, [fitters.smplify(rate, given) for rate in _RATES], seen, weights))
            rows.append(measure(f"{name}: linear", [fitters.guided("linear", 1, given)], seen, weights))
            rows.append(guided)
    for number in _FURTHER_VIEWS:
        for answer in ("linear", "guided"):
            rows.append(measure(f"exact, {number} views: {answer}", [fitters.guided(answer, number)], people, weights))
    return rows


def table(rows: Sequence[Measured]) -> str:
    """The rows as Markdown."""
    header = ["keypoints, start: fit", "weight of the keypoints", "MPJPE, mm", "PA-MPJPE, mm", "ms"]
    cells = [
        [row.name, f"{row.weight:g}", f"{row.mpjpe:.1f}", f"{row.pa_mpjpe:.1f}", f"{row.milliseconds:.1f}"]
        for row in rows
    ]
    return runs.markdown(header, cells)


def main(args: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="of methods.pose_prior.PosePrior")
    parser.add_argument("--data", type=Path, required=True, metavar="YAML", help="people with body parameters")
    parser.add_argument("--front_end", default="hmr-people", help="checkpoint or shipped model (the default)")
    parser.add_argument("--max_people", type=int, default=400, help="of the test split, evenly spread")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, help="Markdown file to write")
    arguments = parser.parse_args(args)
    torch.set_num_threads(arguments.threads)
    prior = load_method(arguments.checkpoint)
    if not isinstance(prior, PosePrior):
        raise InputError(f"{arguments.checkpoint} holds {prior.title}, expected a pose prior")
    data = make_data_module(yaml.safe_load(arguments.data.read_text()))
    number = arguments.max_people
    people = People(_spread(data.load("val"), number // _CHOSEN_ON), _spread(data.load("test"), number))
    fitters = Fitters(prior, load_method(arguments.front_end), data.load("train")["smpl"]["body_pose"])
    with torch.no_grad():
        rows = study(fitters, people)
    where = f"{data.protocols('test')[0].dataset}, {len(people.test['sample_id'])} people; commit {commit()}\n\n"
    print(where + table(rows))
    if arguments.output is not None:
        write_text(arguments.output, where + table(rows) + "\n")


def _spread(samples: PoseBatch, number: int) -> PoseBatch:
    """Evenly spread samples of a split."""
    count = len(samples["sample_id"])
    return batch_of(samples, torch.linspace(0, count - 1, min(count, number)).round().long())


if __name__ == "__main__":
    main()
