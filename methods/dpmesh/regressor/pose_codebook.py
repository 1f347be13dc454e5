"""DPMesh's pose codebook: a VQ-VAE that encodes the pose of a body as a few entries of a learned codebook.

The networks are those of the release (`vq_model.py`, after PCT: Geng et al., "Human Pose as Compositional Tokens", CVPR
2023) with its tensor names. Four things differ. The codebook is updated only by `learn` and `revive`; the release
updates it in every forward pass, also in evaluation. The decoder's numbers become the nearest rotations; the release
puts them into a formula for quaternions as they are. Codes that are not used any more are replaced. Tokens may be
encoded relative to their means.

Shape letters: B batch, T tokens, K codes, D width of a code.
"""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, distributed, nn

from noise2pose import keyed_random, rotations

NUM_JOINTS = 23  # of SMPL without the root
_SMOOTHING = 1e-5  # of the number of uses, so that no code is divided by zero
_STREAM = 230  # of keyed_random

RotationFormat = Literal["matrix", "6d"]


class Reconstruction(NamedTuple):
    """A pose after encoder, codebook and decoder.

    Attributes:
        values: the decoder's numbers, see `PoseCodebook.rotations`.
        indices: the nearest codes.
        commitment: mean squared difference of the features from their codes; only the features get its gradient.
    """

    values: Float[Tensor, "B 23 values"]
    indices: Int[Tensor, "B T"]
    commitment: Float[Tensor, ""]


class PoseCodebook(nn.Module):
    """Encoder, codebook and decoder of body poses.

    Only `learn` and `revive` change the codebook. A new one is empty: the first `revive` fills it.

    Args:
        num_tokens: T, codes of a pose.
        num_codes: K, of the codebook.
        code_width: D.
        encoder_width: channels of a joint in the encoder.
        encoder_blocks: mixer layers of the encoder.
        encoder_hidden: units of its channel mixing.
        decoder_width: channels of a joint in the decoder.
        decoder_blocks: mixer layers of the decoder.
        decoder_hidden: units of its channel mixing.
        token_hidden: units of the token mixing of both.
        rotation_format: `matrix` for nine numbers a joint, as released, which become the nearest rotation (SVD); `6d`
            for the first two columns of the matrix, which become a rotation by Gram-Schmidt.
        decay: of the codes, which are moving averages of features.
        centre_tokens: encode what a token differs from its own mean. All tokens share the codes, and what a token
            always holds would otherwise take codes of its own: about K / T a token are then left. The release does not.
    """

    codebook: Tensor
    ema_cluster_size: Tensor
    ema_w: Tensor
    token_mean: Tensor

    def __init__(
        self,
        num_tokens: int = 48,
        num_codes: int = 2048,
        code_width: int = 256,
        encoder_width: int = 512,
        encoder_blocks: int = 4,
        encoder_hidden: int = 512,
        decoder_width: int = 32,
        decoder_blocks: int = 1,
        decoder_hidden: int = 64,
        token_hidden: int = 64,
        rotation_format: RotationFormat = "matrix",
        decay: float = 0.9,
        centre_tokens: bool = False,
    ) -> None:
        super().__init__()
        self.num_tokens, self.num_codes, self.code_width = num_tokens, num_codes, code_width
        self.rotation_format = rotation_format
        self.decay = decay
        self.centre_tokens = centre_tokens
        values = 9 if rotation_format == "matrix" else 6
        self.register_buffer("codebook", torch.zeros(num_codes, code_width))
        self.register_buffer("ema_cluster_size", torch.zeros(num_codes))
        self.register_buffer("ema_w", torch.zeros(num_codes, code_width))
        # Zero, and no part of the weights, where tokens are not centred.
        self.register_buffer("token_mean", torch.zeros(num_tokens, code_width), persistent=centre_tokens)
        self.start_embed = nn.Linear(values, encoder_width)
        self.encoder = nn.ModuleList(
            Mixer(NUM_JOINTS, token_hidden, encoder_width, encoder_hidden) for _ in range(encoder_blocks)
        )
        self.encoder_layer_norm = nn.LayerNorm(encoder_width)
        self.token_mlp = nn.Linear(NUM_JOINTS, num_tokens)
        self.feature_embed = nn.Linear(encoder_width, code_width)
        self.decoder_token_mlp = nn.Linear(num_tokens, NUM_JOINTS)
        self.decoder_start = nn.Linear(code_width, decoder_width)
        self.decoder = nn.ModuleList(
            Mixer(NUM_JOINTS, token_hidden, decoder_width, decoder_hidden) for _ in range(decoder_blocks)
        )
        self.decoder_layer_norm = nn.LayerNorm(decoder_width)
        self.recover_embed = nn.Linear(decoder_width, values)
        # Training starts from the rest pose, which also keeps the first SVDs well away from 0.
        with torch.no_grad():
            self.recover_embed.bias.copy_(self.values_of(torch.eye(3).flatten()))

    def reconstruct(self, features: Float[Tensor, "B T D"]) -> Reconstruction:
        """Decodes the nearest codes of `features`, which get the gradient of the codes (straight-through)."""
        indices = self.nearest(features)
        quantised = self.codebook[indices]
        commitment = (features - quantised).square().sum() / max(features.numel(), 1)
        return Reconstruction(self.decode(features + (quantised - features).detach()), indices, commitment)

    def encode(self, pose: Float[Tensor, "B 23 9"]) -> Int[Tensor, "B T"]:
        """Indices of the codes of a pose; no gradient reaches the encoder."""
        return self.nearest(self.features(pose))

    def decode_indices(self, indices: Int[Tensor, "B T"]) -> Float[Tensor, "B 23 3 3"]:
        """The rotations that codes are decoded to."""
        return self.rotations(self.decode(self.codebook[indices]))

    def decode_soft(self, logits: Float[Tensor, "B T K"]) -> Float[Tensor, "B 23 3 3"]:
        """The rotations that averages of codes are decoded to, with a gradient for the logits."""
        return self.rotations(self.decode(logits.softmax(dim=-1) @ self.codebook))

    def features(self, pose: Float[Tensor, "B 23 9"]) -> Float[Tensor, "B T D"]:
        """The encoder's tokens.

        Args:
            pose: rotation matrices relative to the parent joints, row by row.
        """
        x = self.start_embed(self.values_of(pose))
        for layer in self.encoder:
            x = layer(x)
        x = self.encoder_layer_norm(x)
        return self.feature_embed(self.token_mlp(x.transpose(1, 2)).transpose(1, 2)) - self.token_mean

    @torch.no_grad()
    def nearest(self, features: Float[Tensor, "B T D"]) -> Int[Tensor, "B T"]:
        """Index of the nearest code of each token (Euclidean distance); always in single precision."""
        with torch.autocast(features.device.type, enabled=False):
            codebook = self.codebook.float()
            distance = codebook.square().sum(dim=-1) - 2.0 * (features.float() @ codebook.T)
        return distance.argmin(dim=-1)

    def decode(self, tokens: Float[Tensor, "B T D"]) -> Float[Tensor, "B 23 values"]:
        """The decoder's numbers for each joint, see `rotations`."""
        tokens = tokens + self.token_mean
        x = self.decoder_start(self.decoder_token_mlp(tokens.transpose(1, 2)).transpose(1, 2))
        for layer in self.decoder:
            x = layer(x)
        return self.recover_embed(self.decoder_layer_norm(x))

    def rotations(self, values: Float[Tensor, "*batch values"]) -> Float[Tensor, "*batch 3 3"]:
        """Rotations from the decoder's numbers, in single precision at least."""
        with torch.autocast(values.device.type, enabled=False):
            values = values if values.dtype == torch.float64 else values.float()
            if self.rotation_format == "6d":
                return rotations.interleaved_6d_to_rotmat(values)
            return rotations.nearest_rotation(values.unflatten(-1, (3, 3)))

    @torch.no_grad()
    def learn(self, features: Float[Tensor, "B T D"], indices: Int[Tensor, "B T"]) -> None:
        """Moves the codes towards the features that are nearest to them, over all processes.

        Args:
            features: of a training batch.
            indices: their nearest codes.

        Raises:
            RuntimeError: in evaluation mode.
        """
        if not self.training:
            raise RuntimeError("the codebook learns in training mode only")
        features = features.detach().float()
        counted = torch.cat((torch.ones_like(features[..., :1]), features), dim=-1)
        # Counts and sums of codes and of tokens are one tensor, so that processes exchange only one.
        sums = self.ema_w.new_zeros(self.num_codes + self.num_tokens, 1 + self.code_width)
        sums.index_add_(0, indices.flatten(), counted.flatten(0, 1))
        sums[self.num_codes :] = counted.sum(dim=0)
        _add_processes(sums)
        used, of_tokens = sums.split((self.num_codes, self.num_tokens))
        self.ema_cluster_size.lerp_(used[:, 0], 1.0 - self.decay)
        total = self.ema_cluster_size.sum()
        smoothed = (self.ema_cluster_size + _SMOOTHING) / (total + self.num_codes * _SMOOTHING) * total
        self.ema_cluster_size.copy_(smoothed)
        self.ema_w.lerp_(used[:, 1:], 1.0 - self.decay)
        self.codebook.copy_(self.ema_w / self.ema_cluster_size[:, None])
        if self.centre_tokens:
            self.token_mean += (1.0 - self.decay) * of_tokens[:, 1:] / of_tokens[:, :1]

    def dead(self, share: float) -> Bool[Tensor, " K"]:
        """Codes whose use is at most this share of the average; in a new codebook, all of them."""
        return self.ema_cluster_size <= share * self.ema_cluster_size.mean()

    @torch.no_grad()
    def revive(self, features: Float[Tensor, "B T D"], share: float, seed: int) -> int:
        """Replaces dead codes by features, with the average use of all codes.

        Which feature replaces which code depends on the seed alone; the features come from all processes.

        Args:
            features: of a training batch.
            share: of the average use, at or below which a code is dead; at 0, a code that has been used never is.
            seed: differs at each step.

        Returns:
            The number of replaced codes.

        Raises:
            RuntimeError: in evaluation mode.
        """
        if not self.training:
            raise RuntimeError("the codebook learns in training mode only")
        numbers = self.dead(share).nonzero()[:, 0]
        if not len(numbers):
            return 0
        rank, processes = (distributed.get_rank(), distributed.get_world_size()) if _is_distributed() else (0, 1)
        tokens = features.detach().float().flatten(0, 1)
        keys = torch.arange(len(tokens), device=tokens.device)
        order = keyed_random.uniform(keys, (), stream=_STREAM, seed=seed).argsort()
        place = torch.arange(len(numbers), device=tokens.device)
        chosen = tokens[order[place // processes % len(order)]] * (place % processes == rank)[:, None]
        _add_processes(chosen)
        uses = self.ema_cluster_size.sum() / self.num_codes
        uses = uses if uses > 0 else torch.ones_like(uses)
        self.codebook[numbers] = chosen
        self.ema_cluster_size[numbers] = uses
        self.ema_w[numbers] = uses * chosen
        return len(numbers)

    def values_of(self, pose: Float[Tensor, "*batch 9"]) -> Float[Tensor, "*batch values"]:
        """Matrices, row by row, in the format of the network: the target of `decode`."""
        if self.rotation_format == "matrix":
            return pose
        return rotations.rotmat_to_interleaved_6d(pose.unflatten(-1, (3, 3)))


class Mixer(nn.Module):
    """Mixes tokens, then channels; both results are added to the input at the end (the release's second form).

    Args:
        num_tokens: rows of the input.
        token_hidden: units of the token mixing.
        width: channels of the input.
        channel_hidden: units of the channel mixing.
    """

    def __init__(self, num_tokens: int, token_hidden: int, width: int, channel_hidden: int) -> None:
        super().__init__()
        self.layernorm1 = nn.LayerNorm(width)
        self.MLP_token = _two_layers(num_tokens, token_hidden)
        self.layernorm2 = nn.LayerNorm(width)
        self.MLP_channel = _two_layers(width, channel_hidden)

    def forward(self, x: Float[Tensor, "B tokens width"]) -> Float[Tensor, "B tokens width"]:
        y = self.MLP_token["ff"](self.layernorm1(x).transpose(1, 2)).transpose(1, 2)
        return x + y + self.MLP_channel["ff"](self.layernorm2(x + y))


def _two_layers(width: int, hidden: int) -> nn.ModuleDict:
    """Two linear layers with a GELU; the identity has the place of the release's dropout, which is 0."""
    layers = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Identity(), nn.Linear(hidden, width))
    return nn.ModuleDict({"ff": layers})


def _is_distributed() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _add_processes(tensor: Tensor) -> None:
    """Sums a tensor over all processes, in place."""
    if _is_distributed():
        distributed.all_reduce(tensor)
