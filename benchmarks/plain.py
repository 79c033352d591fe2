"""The plain path: the same networks and losses as one writes them first, for ratios and for tests.

NCHW, PyTorch's modules one after the other, no fusing, no layouts, no custom derivatives; parameter
names are the library's, whose weights it loads. It stays as it is, so that ratios keep meaning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS = 1e-5


def norm_of(norm: str, channels: int) -> nn.Module:
    if norm == "instance":
        return nn.InstanceNorm2d(channels, eps=EPS, affine=True)
    return nn.BatchNorm2d(channels, eps=EPS)


class Residual(nn.Module):
    def __init__(self, channels: int, norm: str) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReplicationPad2d(1),
            nn.Conv2d(channels, channels, 3),
            norm_of(norm, channels),
            nn.ReLU(),
            nn.ReplicationPad2d(1),
            nn.Conv2d(channels, channels, 3),
            norm_of(norm, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Doubling(nn.Sequential):
    """Bilinear doubling and a convolution, whose parameters have the library's names."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        convolution = nn.Conv2d(before, after, 3)
        self.weight, self.bias = convolution.weight, convolution.bias

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), self.weight, self.bias)


class StyleNet(nn.Module):
    """The authors' johnson.lua."""

    def __init__(
        self,
        norm: str = "instance",
        width: int = 32,
        blocks: int = 5,
        upsampling: str = "transposed",
    ) -> None:
        super().__init__()

        def convolution(before: int, after: int, side: int, stride: int = 1) -> list[nn.Module]:
            return [
                nn.ReplicationPad2d(side // 2),
                nn.Conv2d(before, after, side, stride),
                norm_of(norm, after),
                nn.ReLU(),
            ]

        def doubling(before: int, after: int) -> list[nn.Module]:
            larger: nn.Module = Doubling(before, after)
            if upsampling == "transposed":
                larger = nn.ConvTranspose2d(before, after, 3, 2, padding=1, output_padding=1)
            return [larger, norm_of(norm, after), nn.ReLU()]

        self.body = nn.Sequential(
            *convolution(3, width, 9),
            *convolution(width, 2 * width, 3, 2),
            *convolution(2 * width, 4 * width, 3, 2),
            *(Residual(4 * width, norm) for _ in range(blocks)),
            *doubling(4 * width, 2 * width),
            *doubling(2 * width, width),
            nn.ReplicationPad2d(1),
            nn.Conv2d(width, 3, 3),
        )

    def forward(self, content: Tensor, noise: Sequence[Tensor] = ()) -> Tensor:
        return 0.5 + self.body(content)


class TextureNetV1(nn.Module):
    """The authors' models/pyramid.lua, of textures."""

    def __init__(self, norm: str = "batch", width: int = 8, noise_channels: int = 3) -> None:
        super().__init__()

        def block(before: int, after: int) -> nn.Sequential:
            layers: list[nn.Module] = []
            for channels, side in ((before, 3), (after, 3), (after, 1)):
                layers += [
                    nn.Conv2d(channels, after, side, padding=side // 2, padding_mode="circular"),
                    norm_of(norm, after),
                    nn.LeakyReLU(0.01),
                ]
            return nn.Sequential(*layers)

        scales = range(1, 7)
        self.branches = nn.ModuleList(block(noise_channels, width) for _ in scales)
        self.coarse_norms = nn.ModuleList(norm_of(norm, width * i) for i in scales[:-1])
        self.fine_norms = nn.ModuleList(norm_of(norm, width) for _ in scales[1:])
        self.joined = nn.ModuleList(block(width * i, width * i) for i in scales[1:])
        self.last = nn.Conv2d(width * 6, 3, 1)

    def forward(self, content: None, noise: Sequence[Tensor]) -> Tensor:
        x = self.branches[0](noise[0])
        for i, given in enumerate(noise[1:]):
            coarse = self.coarse_norms[i](F.interpolate(x, scale_factor=2, mode="nearest"))
            fine = self.fine_norms[i](self.branches[i + 1](given))
            x = self.joined[i](torch.cat([coarse, fine], dim=1))
        return 0.5 + self.last(x)


class Objective(nn.Module):
    """Texture and content loss on VGG-19's layers, from the library's descriptor's weights."""

    def __init__(
        self,
        convolutions: Mapping[str, nn.Conv2d],
        style: Tensor,
        style_layers: Iterable[str],
        content_layers: Iterable[str],
        weights: tuple[float, float],
        pool: str,
        normalise_gradients: bool = False,
    ) -> None:
        super().__init__()
        self.parts = {
            name: (c.weight.detach().contiguous().clone(), c.bias.detach().clone())
            for name, c in convolutions.items()
            if c.bias is not None
        }
        self.mean = torch.tensor((103.939, 116.779, 123.68)).view(1, 3, 1, 1)
        self.style_layers, self.content_layers = tuple(style_layers), tuple(content_layers)
        self.weights, self.normalise = weights, normalise_gradients
        self.pool: Callable[..., Tensor] = F.max_pool2d if pool == "max" else F.avg_pool2d
        with torch.no_grad():
            found = self.features(style[None])
            self.grams = {layer: gram(found[layer]) for layer in self.style_layers}

    def features(self, images: Tensor) -> dict[str, Tensor]:
        x, found = images.flip(1) * 255 - self.mean, {}
        for name, (weight, bias) in self.parts.items():
            if name.endswith("_1") and name != "1_1":
                x = self.pool(x, 2, ceil_mode=True)
            x = F.relu(F.conv2d(x, weight, bias, padding=1))
            found[f"relu{name}"] = x
        return found

    def forward(self, images: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """The mean over images (B, 3, H, W), a scalar."""
        found, total = self.features(images), images.new_zeros(())
        for layer in self.style_layers:
            maps = found[layer]
            if self.normalise:
                maps = NormalisedGradient.apply(maps)
            total = total + self.weights[0] * (gram(maps) - self.grams[layer]).square().mean()
        for layer in self.content_layers:
            total = total + self.weights[1] * (found[layer] - targets[layer]).square().mean()
        return total

    @torch.no_grad()
    def content_targets(self, images: Tensor | None) -> dict[str, Tensor]:
        if images is None or not self.content_layers:
            return {}
        found = self.features(images)
        return {layer: found[layer] for layer in self.content_layers}


class NormalisedGradient(torch.autograd.Function):
    """The authors' texture_loss.lua with ``-normalize_gradients``."""

    @staticmethod
    def forward(context: object, maps: Tensor) -> Tensor:
        return maps.view_as(maps)

    @staticmethod
    def backward(context: object, gradient: Tensor) -> Tensor:
        return gradient / (gradient.abs().sum() + 1e-8)


def gram(maps: Tensor) -> Tensor:
    rows = maps.flatten(2)
    return rows @ rows.mT / maps[0].numel()


def step_of(net: nn.Module, objective: Objective, lr: float = 1e-3) -> Callable[..., Tensor]:
    """One training step as one writes it first."""
    adam = torch.optim.Adam(net.parameters(), lr=lr)

    def step(content: Tensor | None, noise: Sequence[Tensor]) -> Tensor:
        adam.zero_grad()
        loss = objective(net(content, noise), objective.content_targets(content))
        loss.backward()
        adam.step()
        return loss.detach()

    return step
