"""The reference's networks in torch, timed as `benchmarks.networks` times ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.reference.encoders import ExpressionEncoder, PoseEncoder, ShapeEncoder
from benchmarks.reference.generator import Generator

_RATE = 5e-5


class Encoders(nn.Module):
    """Pose, shape and expression."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList([PoseEncoder(), ShapeEncoder(), ExpressionEncoder()])

    def forward(self, image: Tensor) -> list[Any]:
        """[B, 3, S, S] to the outputs of each."""
        return [part(image) for part in self.parts]


def torch_calls(
    network: str, size: int, batch: int, device: str, threads: int = 0, dtype: str = "float32"
) -> dict[str, Callable[[], None]]:
    """Calls that block: "forward" and "training step".

    Args:
      network: "encoders" or "synthesizer", of the reference's widths.
      size: pixels along a side.
      batch: images.
      device: "cpu" or "cuda".
      threads: of a CPU; 0: torch's choice.
      dtype: "float32", or "bfloat16" for torch's automatic mixed precision.
    """
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator).to(device)

    image = draw(batch, 3, size, size)
    if network == "encoders":
        module, inputs = Encoders(), (image,)
    else:
        inputs = (draw(batch, 1, size, size), image, draw(batch, 4, 256))
        module = Generator(tokens=True, size=size)
    module = module.to(device)
    optimizer = torch.optim.Adam(module.parameters(), _RATE)

    def mixed() -> torch.autocast:
        return torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16")

    def settle() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    def forward() -> None:
        torch.set_num_threads(threads or torch.get_num_threads())
        module.eval()
        with torch.inference_mode(), mixed():
            module(*inputs)
        settle()

    def step() -> None:
        torch.set_num_threads(threads or torch.get_num_threads())
        module.train()
        optimizer.zero_grad()
        with mixed():
            outputs = _tensors(module(*inputs))
        loss = sum(output.float().square().mean() for output in outputs)
        loss.backward()
        optimizer.step()
        settle()

    return {"forward": forward, "training step": step}


def _tensors(outputs: Any) -> list[Tensor]:
    """The tensors of nested lists and tuples."""
    if isinstance(outputs, Tensor):
        return [outputs]
    return [tensor for output in outputs for tensor in _tensors(output)]
