"""Encoders of SMIRK and TEASER, on MobileNetV3 backbones with timm's keys."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Rows of each stage: (expanded, out, stride); 0 expands nothing. Then the width of the last layer
# and the modules whose outputs are features, 0 for the stem and i for stage i - 1.
_BACKBONES = {
    "small": (
        [
            [(0, 16, 2)],
            [(72, 24, 2), (88, 24, 1)],
            [(96, 40, 2), (240, 40, 1), (240, 40, 1)],
            [(120, 48, 1), (144, 48, 1)],
            [(288, 96, 2), (576, 96, 1), (576, 96, 1)],
        ],
        576,
        (0, 1, 2, 4),
    ),
    "large": (
        [
            [(0, 16, 1)],
            [(64, 24, 2), (72, 24, 1)],
            [(72, 40, 2), (120, 40, 1), (120, 40, 1)],
            [(240, 80, 2), (200, 80, 1), (184, 80, 1), (184, 80, 1)],
            [(480, 112, 1), (672, 112, 1)],
            [(672, 160, 2), (960, 160, 1), (960, 160, 1)],
        ],
        960,
        (1, 2, 3, 5),
    ),
}


class SameConv(nn.Conv2d):
    """3x3 convolution padded as TensorFlow does: with stride 2, even images at their end alone."""

    def __init__(self, inputs: int, outputs: int, stride: int, groups: int = 1) -> None:
        super().__init__(inputs, outputs, 3, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, I, H, W] to [B, O, H / stride, W / stride], H and W even."""
        before = 2 - self.stride[0]
        return super().forward(F.pad(x, (before, 1, before, 1)))


class MobileBlock(nn.Module):
    """Inverted residual, or depthwise-separable block where nothing is expanded."""

    def __init__(self, inputs: int, expanded: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.short = stride == 1 and inputs == outputs
        width = expanded or inputs
        layers = [] if not expanded else [("conv_pw", _conv1(inputs, expanded))]
        layers += [("conv_dw", SameConv(width, width, stride, width))]
        layers += [("conv_pwl" if expanded else "conv_pw", _conv1(width, outputs))]
        self.names = []
        for k, (name, layer) in enumerate(layers, start=1):
            self.add_module(name, layer)
            self.add_module(f"bn{k}", nn.BatchNorm2d(layer.out_channels, eps=1e-3))
            self.names.append((name, f"bn{k}"))

    def forward(self, x: Tensor) -> Tensor:
        """[B, I, H, W] to [B, O, H / stride, W / stride]."""
        y = x
        for k, (conv, norm) in enumerate(self.names, start=1):
            y = self.get_submodule(norm)(self.get_submodule(conv)(y))
            y = y if k == len(self.names) else y.relu()
        return x + y if self.short else y


class LastBlock(nn.Module):
    """1x1 convolution to the deepest features."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv, self.bn1 = _conv1(inputs, outputs), nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """[B, I, H, W] to [B, O, H, W]."""
        return self.bn1(self.conv(x)).relu()


class Backbone(nn.Module):
    """MobileNetV3 "minimal" as features of stride 2 to 32."""

    def __init__(self, variant: str) -> None:
        super().__init__()
        stages, last, self.taps = _BACKBONES[variant]
        self.conv_stem, self.bn1 = SameConv(3, 16, 2), nn.BatchNorm2d(16, eps=1e-3)
        blocks, inputs = [], 16
        for rows in stages:
            stage = []
            for expanded, outputs, stride in rows:
                stage.append(MobileBlock(inputs, expanded, outputs, stride))
                inputs = outputs
            blocks.append(nn.Sequential(*stage))
        self.blocks = nn.Sequential(*blocks, nn.Sequential(LastBlock(inputs, last)))

    def forward(self, image: Tensor) -> list[Tensor]:
        """[B, 3, H, W] to five features."""
        x = self.bn1(self.conv_stem(image)).relu()
        outputs = [x]
        for block in self.blocks:
            x = block(x)
            outputs.append(x)
        return [*(outputs[tap] for tap in self.taps), x]


class PoseEncoder(nn.Module):
    """Rotation and camera."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.pose_cam_layers = Backbone("small"), _head(576, 6)

    def forward(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] to [B, 6]."""
        return self.pose_cam_layers(_pooled(self.encoder(image)[-1], 1))


class ShapeEncoder(nn.Module):
    """Identity."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.shape_layers = Backbone("large"), _head(960, 300)

    def forward(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] to [B, 300]."""
        return self.shape_layers(_pooled(self.encoder(image)[-1], 1))


class ExpressionEncoder(nn.Module):
    """Expression, eyelids and jaw."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.expression_layers = Backbone("large"), _head(960, 55)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, 3, H, W] to expression [B, 50], eyelids [B, 2] and jaw [B, 3]."""
        x = self.expression_layers(_pooled(self.encoder(image)[-1], 1))
        jaw = torch.cat([x[:, 52:53].relu(), x[:, 53:].clamp(-0.2, 0.2)], dim=1)
        return x[:, :50], x[:, 50:52].clamp(0, 1), jaw


class TokenEncoder(nn.Module):
    """Appearance tokens, coarsest first."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Backbone("small")
        self.token_layers = nn.ModuleList(_head(n, 256) for n in (576, 192, 384, 1024))

    def forward(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] to [B, 4, 256]."""
        features = self.encoder(image)
        taps = zip((features[4], features[3], features[2], features[1]), (1, 2, 4, 8), strict=True)
        heads = zip(self.token_layers, taps, strict=True)
        return torch.stack([head(_pooled(x, grid)) for head, (x, grid) in heads], dim=1)


class Encoders(nn.Module):
    """The encoders of one system, each with a backbone of its own."""

    def __init__(self, tokens: bool) -> None:
        super().__init__()
        self.pose_encoder, self.shape_encoder = PoseEncoder(), ShapeEncoder()
        self.expression_encoder = ExpressionEncoder()
        self.token_encoder = TokenEncoder() if tokens else None

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """[B, 3, H, W] in [0, 1] to coefficients by name, and "tokens" [B, 4, 256] of TEASER's."""
        pose = self.pose_encoder(image)
        expression, eyelid, jaw = self.expression_encoder(image)
        found = dict(pose=pose[:, :3], camera=pose[:, 3:], shape=self.shape_encoder(image))
        found |= dict(expression=expression, eyelid=eyelid, jaw=jaw)
        return (
            found if self.token_encoder is None else found | {"tokens": self.token_encoder(image)}
        )


def _conv1(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 1, bias=False)


def _head(inputs: int, outputs: int) -> nn.Sequential:
    """One linear layer, in a list as the reference has it."""
    return nn.Sequential(nn.Linear(inputs, outputs))


def _pooled(x: Tensor, grid: int) -> Tensor:
    return F.adaptive_avg_pool2d(x, grid).flatten(1)
