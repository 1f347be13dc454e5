"""The two sizes of DPMesh; those of its diffusion backbone are in `methods.dpmesh.stable_diffusion.networks`."""

from typing import Literal, NamedTuple

from noise2pose.errors import InputError

Size = Literal["tiny", "sd15"]
BackboneName = Literal["diffusion", "resnet50", "transformer"]


class Sizes(NamedTuple):
    """Sizes of everything after the backbone, and of the transformer that the backbone is compared with.

    Attributes:
        image: default side of the images, pixels.
        stride: pixels of a latent, along each axis.
        features: channels of the feature map that the regressor reads.
        width: of the regressor.
        num_encoder_layers: of the regressor.
        num_decoder_layers: of the regressor.
        feedforward: of the regressor.
        volume_feedforward: of the regressor.
        dropout: of the regressor; with it, attention on a CPU takes several times as long.
        transformer: embedding, depth and heads.
    """

    image: int
    stride: int
    features: int
    width: int
    num_encoder_layers: int
    num_decoder_layers: int
    feedforward: int
    volume_feedforward: int
    dropout: float
    transformer: tuple[int, int, int]


SIZES: dict[Size, Sizes] = {
    "tiny": Sizes(64, 4, 256, 128, 1, 3, 256, 256, 0.0, (192, 6, 3)),
    "sd15": Sizes(256, 8, 2048, 256, 2, 4, 2048, 1024, 0.1, (1024, 24, 16)),  # as released; ViT-L/16 as in the paper
}


class Sides(NamedTuple):
    """Sides of a network's input and of its feature maps.

    Attributes:
        image: of the images, pixels.
        latents: of the latents and the heat-maps.
        cells: of the feature map that the regressor reads.
    """

    image: int
    latents: int
    cells: int


def sides_of(size: Size, image_size: int | None = None) -> Sides:
    """Sides for images of `image_size` pixels, by default those of the size.

    Raises:
        InputError: if the U-Net cannot halve such latents three times.
    """
    sizes = SIZES[size]
    image = sizes.image if image_size is None else image_size
    if image < 1 or image % (8 * sizes.stride):
        raise InputError(
            f"model.image_size is {image_size}, expected a multiple of {8 * sizes.stride} with size: {size}"
        )
    return Sides(image, image // sizes.stride, image // sizes.stride // 4)
