"""The flow of FMPose3D, top to bottom: straight paths from a random start to the pose, and Euler's method along them.

A path is y_t = (1 - t) x_0 + t x_1 with the start x_0 at t = 0 and the root-relative pose x_1 at t = 1, in metres; the
network learns its velocity x_1 - x_0 (conditional flow matching, Lipman et al., ICLR 2023).

The published start is N(0, I). The `uncertain` start is DiffPose's idea without its encoder: the 2-D joints laid out
flat at the size of a body, with the spread that true poses have around that layout, so that a path is shorter, and the
start of each joint knows where in the image it was seen.

Shape letters: B batch, N hypotheses (any leading dimensions), J joints, C channels of the 2-D input.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from methods.fmpose.networks import VelocityNetwork
from methods.fmpose.residual import ResidualVelocity
from methods.lifting import centred, limbs_of
from noise2pose.skeletons import Skeleton

Network = VelocityNetwork | ResidualVelocity

# On a processor, more poses at once no longer fit in its cache; on an accelerator fewer would not fill it.
_POSES_AT_ONCE = {"cpu": 64}
_POSES_ON_ACCELERATOR = 4096
_RATE = 0.01  # of the running estimates


def flow_loss(
    network: Network,
    pose_2d: Float[Tensor, "B J C"],
    start: Float[Tensor, "B J 3"],
    pose: Float[Tensor, "B J 3"],
    time: Float[Tensor, " B"],
    valid: Float[Tensor, "B J"],
) -> Float[Tensor, ""]:
    """Mean squared error of the velocity at one time of each path, over the valid joints.

    Args:
        network: whose velocity is compared.
        pose_2d: the condition.
        start: x_0, metres.
        pose: x_1, root-relative metres.
        time: in [0, 1].
        valid: 0 or 1.
    """
    state = torch.lerp(start, pose, time[:, None, None])
    error = (network(pose_2d, state, time) - (pose - start)).square().sum(dim=-1)
    return (error * valid).sum() / (3.0 * valid.sum()).clamp_min(1.0)


def euler(
    network: Network,
    pose_2d: Float[Tensor, "B J C"],
    noise: Float[Tensor, "*N B J 3"],
    steps: int,
) -> Float[Tensor, "*N B J 3"]:
    """Follows the velocity from t = 0 to 1 in equal steps, y <- y + v(y, s / steps) / steps.

    Args:
        network: of the velocity.
        pose_2d: the condition.
        noise: starts x_0 of any number of hypotheses, metres.
        steps: number of network calls.
    """
    condition = network.condition(pose_2d)
    condition = condition.expand(*noise.shape[:-3], *condition.shape).flatten(0, -3)
    at_once = min(_POSES_AT_ONCE.get(noise.device.type, _POSES_ON_ACCELERATOR), len(condition))
    poses = []
    for given, state in zip(condition.split(at_once), noise.flatten(0, -3).split(at_once), strict=True):
        for step in range(steps):
            state = state + network.velocity(given, state, state.new_full((1,), step / steps)) / steps
        poses.append(state)
    return torch.cat(poses).view(noise.shape)


class UncertainStart(nn.Module):
    """Where the paths of the `uncertain` start begin; its size and spread are running estimates over training poses.

    The size of a person in the image is the mean length of the visible upper and lower arms and legs, which every
    detector knows.

    Args:
        skeleton: of the joints.
        limbs_only: lay out the seen limbs alone; every other joint starts around the root.
    """

    length: Tensor
    spread: Tensor
    limbs: Tensor

    def __init__(self, skeleton: Skeleton, limbs_only: bool) -> None:
        super().__init__()
        self.root = skeleton.root
        self.limbs_only = limbs_only
        limbs = limbs_of(skeleton)
        bones = [(parent, child) for parent, child in skeleton.edges if limbs[parent] and limbs[child]]
        self.starts, self.ends = (list(joints) for joints in zip(*bones, strict=True))
        self.register_buffer("limbs", limbs, persistent=False)
        # Metres of a bone of mean length in the layout, and deviation of true joints from it. The initial values are
        # those of a standing adult, and are forgotten within some hundred batches.
        self.register_buffer("length", torch.tensor(0.28))
        self.register_buffer("spread", torch.tensor([0.1, 0.1, 0.2]).repeat(skeleton.num_joints, 1))

    def forward(self, keypoints: Float[Tensor, "B J 3"], noise: Float[Tensor, "*N B J 3"]) -> Float[Tensor, "*N B J 3"]:
        """Starts x_0, root-relative metres.

        Args:
            keypoints: x, y in any unit, and confidence.
            noise: standard normal.
        """
        return self.length * self._layout(keypoints) + self.spread * noise

    @torch.no_grad()
    def observe(
        self, keypoints: Float[Tensor, "B J 3"], pose: Float[Tensor, "B J 3"], valid: Float[Tensor, "B J"]
    ) -> None:
        """Updates the estimates with a batch of training poses, root-relative metres."""
        layout, weight = self._layout(keypoints), valid[..., None]
        length = (weight * layout * pose).sum() / (weight * layout).square().sum().clamp_min(1e-9)
        self.length.lerp_(length, _RATE)
        squared = ((pose - self.length * layout).square() * weight).sum(dim=0)
        self.spread.lerp_((squared / weight.sum(dim=0).clamp_min(1.0)).sqrt(), _RATE)

    def _layout(self, keypoints: Float[Tensor, "B J 3"]) -> Float[Tensor, "B J 3"]:
        """The 2-D joints relative to the root in mean lengths of a limb bone, at depth 0."""
        points, seen = keypoints[..., :2], keypoints[..., 2] > 0
        bones = (points[:, self.ends] - points[:, self.starts]).norm(dim=-1)
        counted = (seen[:, self.ends] & seen[:, self.starts]).to(bones.dtype)
        size = (bones * counted).sum(dim=-1) / counted.sum(dim=-1).clamp_min(1.0)
        flat = centred(points, self.root) / size.clamp_min(1e-6)[:, None, None]
        if self.limbs_only:
            flat = flat * (seen & self.limbs)[..., None]
        # A person whose limbs are all hidden has no size.
        flat = torch.where((size > 1e-6)[:, None, None], flat, 0.0)
        return torch.cat((flat, torch.zeros_like(flat[..., :1])), dim=-1)
