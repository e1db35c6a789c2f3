"""Devices to compile for that need not be here."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence
from typing import Any

from fields_jax.errors import UserError, first_line

_GPUS_OF_A_HOST = re.compile(r"(\w+)(?::(\d+))?")


@dataclasses.dataclass(frozen=True)
class Gpu:
    """What XLA's compiler asks of a GPU; from Nvidia's data sheets and CUDA's programming guide.

    Attributes:
      kind: as CUDA names it.
      capability: major and minor.
      cores: streaming multiprocessors, each with `lanes` for float32 and room for `threads`.
      clock: GHz, boosted.
      memory, speed: GiB, and GB/s of them.
      cache: MiB of the second level.
      shared: KiB of a multiprocessor; a block may take all but one.
    """

    kind: str
    capability: tuple[int, int]
    cores: int
    lanes: int
    threads: int
    clock: float
    memory: int
    speed: int
    cache: int
    shared: int

    def target(self) -> str:
        """The description in the compiler's own notation, a text of protocol buffers."""
        major, minor = self.capability
        return f"""
            platform_name: "CUDA"
            device_description_str: "{self.kind}"
            dnn_version_info {{ major: 9 minor: 8 }}
            runtime_version {{ major: 12 minor: 8 }}
            gpu_device_info {{
              cuda_compute_capability {{ major: {major} minor: {minor} }}
              core_count: {self.cores}
              fpus_per_core: {self.lanes}
              threads_per_core_limit: {self.threads}
              threads_per_block_limit: 1024
              threads_per_warp: 32
              block_dim_limit_x: {2**31 - 1}
              block_dim_limit_y: 65535
              block_dim_limit_z: 65535
              registers_per_core_limit: 65536
              registers_per_block_limit: 65536
              shared_memory_per_block: 49152
              shared_memory_per_core: {self.shared << 10}
              shared_memory_per_block_optin: {(self.shared - 1) << 10}
              l2_cache_size: {self.cache << 20}
              clock_rate_ghz: {self.clock}
              device_memory_size: {self.memory << 30}
              memory_bandwidth: {self.speed * 10**9}
            }}"""


GPUS = {
    "a100": Gpu("NVIDIA A100-SXM4-80GB", (8, 0), 108, 64, 2048, 1.41, 80, 2039, 40, 164),
    "l4": Gpu("NVIDIA L4", (8, 9), 58, 128, 1536, 2.04, 24, 300, 48, 100),
    "h100": Gpu("NVIDIA H100 80GB HBM3", (9, 0), 132, 128, 2048, 1.98, 80, 3352, 50, 228),
    "h200": Gpu("NVIDIA H200", (9, 0), 132, 128, 2048, 1.98, 141, 4800, 50, 228),
}


def find_devices(topology: str) -> Sequence[Any]:
    """The devices of a topology, which need not exist here.

    Args:
      topology: a TPU's generation and shape, "v5e:4x4"; GPUs of one host by kind and number, of
        `GPUS`, "h100:8"; or "cpu", the devices of this host.

    Raises:
      UserError: a topology that nobody knows, or whose compiler is not installed.
    """
    import jax
    from jax.experimental import topologies

    if topology == "cpu":
        return jax.devices("cpu")
    gpus = _GPUS_OF_A_HOST.fullmatch(topology)
    if gpus and gpus[1] in GPUS:
        platform, name = "cuda", ""
        more = dict(target_config=GPUS[gpus[1]].target(), topology=f"1x1x{gpus[2] or 1}")
        # Else the plugin refuses to load where there is no driver.
        os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")
    else:
        platform, name, more = "tpu", topology, {}
    try:
        return topologies.get_topology_desc(name, platform=platform, **more).devices
    except Exception as error:  # of many types
        raise UserError(
            f"cannot compile for topology {topology!r} ({first_line(error)}); name one like "
            f"v5e:4x4, h100:8 ({', '.join(GPUS)}) or cpu, and install its compiler: pip install "
            f"'fields_jax[{platform}]'"
        ) from error


def compiler_options(devices: Sequence[Any]) -> dict[str, bool]:
    """What a program must be compiled with for these devices.

    Triton's matrix products are chosen by trying them, and unchosen ones do not always compile;
    for GPUs that are not here the products are left to cuBLAS, which moves as much.
    """
    import jax

    absent_gpu = devices[0].platform == "gpu" and devices[0] not in jax.devices()
    return {"xla_gpu_enable_triton_gemm": False} if absent_gpu else {}
