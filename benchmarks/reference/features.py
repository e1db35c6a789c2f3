"""torchvision's networks whose features the losses compare, and random weights for any network."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class VGG16(nn.Module):
    """torchvision's features up to relu4_3, on images as the perceptual loss shifts them."""

    def __init__(self) -> None:
        super().__init__()
        layers, inputs = [], 3
        for stage in ((64, 64), (128, 128), (256,) * 3, (512,) * 3):
            for outputs in stage:
                layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
                inputs = outputs
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers[:-1])

    def forward(self, image: Tensor) -> list[Tensor]:
        """[B, 3, H, W] in [0, 1] to the outputs of relu1_2, relu2_2, relu3_3 and relu4_3."""
        mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
        deviation = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
        x = (image * 0.5 + 0.5 - mean) / deviation
        outputs = []
        for layer in self.features:
            x = layer(x)
            outputs.append(x)
        return [outputs[k] for k in (3, 8, 15, 22)]


class ResidualBottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions; the second has the stride."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.conv1, self.bn1 = _conv1(inputs, width), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3, self.bn3 = _conv1(width, outputs), nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride > 1 or inputs != outputs:
            project = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(project, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """[B, I, H, W] to [B, 4 * width, H / stride, W / stride]."""
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())).relu()
        y = self.bn3(self.conv3(y))
        return (y + (x if self.downsample is None else self.downsample(x))).relu()


class ResNet50(nn.Module):
    """torchvision's ResNet-50 without its last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        inputs = 64
        for stage, (count, width) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512)), start=1):
            blocks = []
            for k in range(count):
                blocks.append(ResidualBottleneck(inputs, width, 2 if stage > 1 and k == 0 else 1))
                inputs = 4 * width
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))

    def forward(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] to [B, 2048]."""
        x = F.max_pool2d(self.bn1(self.conv1(image)).relu(), 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x.mean(dim=(2, 3))


def randomize(module: nn.Module, *inputs: Tensor | None, seed: int = 0) -> nn.Module:
    """Random weights, and random statistics near those of `inputs`; in eval mode.

    With statistics unrelated to the weights, signals would grow or fade from layer to layer.
    """
    generator = torch.Generator().manual_seed(seed)
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                nn.init.kaiming_normal_(part.weight, generator=generator)
                if part.bias is not None:
                    part.bias.normal_(0, 0.1, generator=generator)
        for norm in norms:
            norm.momentum = 1.0
            norm.weight.uniform_(0.5, 1.5, generator=generator)
            norm.bias.normal_(0, 0.1, generator=generator)
        module.train()(*inputs)
        for norm in norms:
            shift = torch.empty_like(norm.running_mean).normal_(0, 0.1, generator=generator)
            norm.running_mean += shift * norm.running_var.sqrt()
            norm.running_var *= torch.empty_like(shift).uniform_(0.8, 1.25, generator=generator)
    return module.eval()


def _conv1(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 1, bias=False)
