"""Synthesisers of SMIRK and TEASER, and either's whole checkpoint."""

from __future__ import annotations

import itertools
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.reference.encoders import Encoders


class AdaIN(nn.Module):
    """Instance norm with a token's scale and shift."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mlp_shared = nn.Sequential(nn.Linear(256, 128))
        self.mlp_gamma, self.mlp_beta = nn.Linear(128, channels), nn.Linear(128, channels)

    def forward(self, x: Tensor, token: Tensor) -> Tensor:
        """[B, C, H, W] and [B, 256] to [B, C, H, W]."""
        hidden = self.mlp_shared(token).relu()
        gamma, beta = (layer(hidden)[:, :, None, None] for layer in (self.mlp_gamma, self.mlp_beta))
        return F.instance_norm(x) * (1 + gamma) + beta


class GuidedBlock(nn.Module):
    """TEASER's block: convolution, norm, modulation and ReLU, twice."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = _conv3(inputs, outputs), nn.BatchNorm2d(outputs)
        self.conv2, self.norm2 = _conv3(outputs, outputs), nn.BatchNorm2d(outputs)
        self.adain1, self.adain2 = AdaIN(outputs), AdaIN(outputs)

    def forward(self, x: Tensor, token: Tensor) -> Tensor:
        """[B, I, H, W] and [B, 256] to [B, O, H, W]."""
        x = self.adain1(self.norm1(self.conv1(x)), token).relu()
        return self.adain2(self.norm2(self.conv2(x)), token).relu()


class PlainBlock(nn.Sequential):
    """SMIRK's block: convolution, norm and ReLU, twice; layers repeat the block's name."""

    def __init__(self, name: str, inputs: int, outputs: int) -> None:
        layers = OrderedDict()
        for k in (1, 2):
            layers[f"{name}conv{k}"] = _conv3(inputs if k == 1 else outputs, outputs)
            layers[f"{name}norm{k}"] = nn.BatchNorm2d(outputs)
            layers[f"{name}relu{k}"] = nn.ReLU()
        super().__init__(layers)

    def forward(self, x: Tensor, token: None) -> Tensor:
        """[B, I, H, W] to [B, O, H, W]."""
        return super().forward(x)


class ResidualBlock(nn.Module):
    """Two convolutions on reflected borders."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        pad, conv = nn.ReflectionPad2d(1), nn.Conv2d
        self.conv_block = nn.Sequential(
            pad,
            conv(channels, channels, 3, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            pad,
            conv(channels, channels, 3, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to the same."""
        return x + self.conv_block(x)


class TokenDecoder(nn.Module):
    """Tokens to maps of an eighth, a fourth, half and all of the image's side."""

    def __init__(self, size: int) -> None:
        super().__init__()
        grid = size // 16

        def up(inputs: int, outputs: int) -> list[nn.Module]:
            double = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
            conv = nn.Conv2d(inputs, outputs, 3, padding=1)
            return [double, conv, nn.BatchNorm2d(outputs), nn.ReLU()]

        first = [nn.Linear(1024, 256 * grid**2), nn.Unflatten(1, (256, grid, grid))]
        self.decoder_1 = nn.Sequential(*first, *up(256, 256))
        self.decoder_2 = nn.Sequential(*up(256, 128))
        self.decoder_3 = nn.Sequential(*up(128, 64))
        last = nn.Conv2d(32, 32, 3, padding=1)
        self.decoder_4 = nn.Sequential(*up(64, 32), last, nn.Tanh())

    def forward(self, tokens: Tensor) -> list[Tensor]:
        """[B, 4, 256] to the maps, coarsest first."""
        x = tokens.flip(1).flatten(1)
        maps = []
        for decoder in (self.decoder_1, self.decoder_2, self.decoder_3, self.decoder_4):
            x = decoder(x)
            maps.append(x)
        return maps


class Generator(nn.Module):
    """The synthesiser, TEASER's with tokens or SMIRK's without, for square images."""

    def __init__(self, tokens: bool, size: int = 224) -> None:
        super().__init__()
        widths = (6, 32, 64, 128, 256, 512)

        def block(name: str, inputs: int, outputs: int) -> nn.Module:
            return GuidedBlock(inputs, outputs) if tokens else PlainBlock(name, inputs, outputs)

        for k, (inputs, outputs) in enumerate(itertools.pairwise(widths[:5]), start=1):
            self.add_module(f"encoder{k}", block(f"enc{k}", inputs, outputs))
            self.add_module(f"decoder{k}", block(f"dec{k}", 2 * outputs, outputs))
            self.add_module(f"upconv{k}", nn.ConvTranspose2d(2 * outputs, outputs, 2, 2))
            if tokens:
                self.add_module(f"token_zero_conv_{k}", nn.Conv2d(outputs, outputs, 1))
        self.bottleneck = block("bottleneck", 256, 512)
        self.resnet_blocks = nn.ModuleList(ResidualBlock(512) for _ in range(5))
        self.conv = nn.Conv2d(32, 3, 1)
        self.token_decoder = TokenDecoder(size) if tokens else None

    def forward(self, geometry: Tensor, masked: Tensor, tokens: Tensor | None) -> Tensor:
        """Geometry map [B, 1, S, S], masked image [B, 3, S, S], tokens [B, 4, 256]; to an image."""
        part = self.get_submodule
        guide = [None] * 4 if tokens is None else list(tokens.unbind(1))
        maps = None if tokens is None else self.token_decoder(tokens)
        x, skips = torch.cat([geometry.expand(-1, 3, -1, -1), masked], dim=1), []
        for k in (1, 2, 3, 4):
            x = part(f"encoder{k}")(x, guide[4 - k])
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.bottleneck(x, guide[0])
        for block in self.resnet_blocks:
            x = block(x)
        for k in (4, 3, 2, 1):
            x = torch.cat([part(f"upconv{k}")(x), skips[k - 1]], dim=1)
            x = part(f"decoder{k}")(x, guide[4 - k])
            if maps is not None:
                x = x + part(f"token_zero_conv_{k}")(maps[4 - k])
        return self.conv(x).sigmoid()


class Published(nn.Module):
    """All networks of "teaser" or "smirk", under the keys of its checkpoint."""

    def __init__(self, system: str) -> None:
        super().__init__()
        tokens = system == "teaser"
        self.encoders, self.generator = Encoders(tokens), Generator(tokens)
        self.system = system

    def published_state(self) -> dict[str, Tensor]:
        """The flat state dict as it is published."""
        names = (("encoder", self.encoders), ("generator", self.generator))
        return {
            f"{self.system}_{name}.{key}": value
            for name, part in names
            for key, value in part.state_dict().items()
        }


def _conv3(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
