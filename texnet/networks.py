"""The sections of a configuration that describe a generator, one class for each network."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag
from pydantic.dataclasses import dataclass

from texnet.fields import STRICT, Norm, PlainNorm, Positive


@dataclass(frozen=True, config=STRICT)
class StyleNet:
    """StyleNet, the residual generator (paper section 5.2; authors' models/johnson.lua)."""

    name: Literal["stylenet"] = "stylenet"
    norm: Norm = "instance"
    """Normalisation: IN or BN throughout, or BN with IN or LRN of the input (figure 2), or none."""
    width: Positive = 32
    """Channels after the first convolution; the residual blocks have four times as many."""
    blocks: Positive = 5
    """Residual blocks."""
    noise_channels: Annotated[int, Field(ge=0, strict=True)] = 0
    """Channels of U(0, 1) noise appended to the content image."""
    upsampling: Literal["transposed", "bilinear"] = "transposed"
    """Transposed convolutions, or bilinear doubling and a convolution (no checkerboard)."""


@dataclass(frozen=True, config=STRICT)
class SkipNet:
    """An encoder and decoder with skips, for stylization (authors' v1 branch, models/skip.lua)."""

    name: Literal["skip"]
    norm: PlainNorm = "instance"
    """Normalisation: IN, BN, or none."""
    width: Positive = 16
    """Channels at full size; twice as many at each halving, 8 x width at most."""


@dataclass(frozen=True, config=STRICT)
class TextureNetV1:
    """The multi-scale pyramid, of textures or stylizations (authors' v1 branch, pyramid.lua)."""

    name: Literal["texturenet_v1"]
    norm: PlainNorm = "batch"
    """Normalisation: BN as the authors, IN, or none."""
    width: Positive = 8
    """Channels of a scale."""
    noise_channels: Positive = 3
    """Channels of U(0, 1) noise at each of the six scales."""


@dataclass(frozen=True, config=STRICT)
class TextureNetV2:
    """A vector, fully connected layers and upsampling convolutions (paper section 5.1)."""

    name: Literal["texturenet_v2"]
    norm: PlainNorm = "instance"
    """Normalisation: IN, BN, or none."""
    width: Positive = 16
    """Channels at full size; twice as many at each halving, 512 at most."""
    latent: Positive = 256
    """Length of z ~ N(0, I)."""


def named(value: Any) -> str:  # noqa: ANN401 (whatever the file holds)
    """The name of the network that a generator section describes: which member of a union."""
    name = value.get("name", "stylenet") if isinstance(value, dict) else value
    return name if isinstance(name, str) else getattr(name, "name", None) or "stylenet"


TextureGenerator = Annotated[TextureNetV1 | TextureNetV2, Field(discriminator="name")]
Generator = Annotated[
    Annotated[StyleNet, Tag("stylenet")]
    | Annotated[SkipNet, Tag("skip")]
    | Annotated[TextureNetV1, Tag("texturenet_v1")]
    | Annotated[TextureNetV2, Tag("texturenet_v2")],
    Discriminator(named),
]
