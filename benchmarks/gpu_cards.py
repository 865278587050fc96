"""GPUs to compile for without having one: their published figures, as XLA's compiler wants to read them."""

from dataclasses import dataclass
from importlib.metadata import version

GIB = 2**30


@dataclass(frozen=True)
class Card:
    """A GPU.

    Attributes:
        name: as its maker writes it.
        capability: CUDA compute capability, major and minor.
        cores: streaming multiprocessors.
        lanes: float32 units of each.
        threads: threads that each holds at once.
        shared: bytes of shared memory of each, and how many of these a block can ask for.
        l2: bytes of cache.
        memory: bytes.
        bandwidth: bytes per second.
        clock: GHz.
    """

    name: str
    capability: tuple[int, int]
    cores: int
    lanes: int
    threads: int
    shared: tuple[int, int]
    l2: int
    memory: int
    bandwidth: float
    clock: float

    def target(self) -> str:
        """XLA's GpuTargetConfigProto as text, with the versions of the CUDA wheels that are installed."""
        cudnn, runtime = (_version(f"nvidia-{name}-cu12") for name in ("cudnn", "cuda-runtime"))
        return f"""
            gpu_device_info {{
              threads_per_block_limit: 1024  threads_per_warp: 32  threads_per_core_limit: {self.threads}
              shared_memory_per_block: 49152  shared_memory_per_core: {self.shared[0]}
              shared_memory_per_block_optin: {self.shared[1]}
              core_count: {self.cores}  fpus_per_core: {self.lanes}
              block_dim_limit_x: 2147483647  block_dim_limit_y: 65535  block_dim_limit_z: 65535
              memory_bandwidth: {self.bandwidth:.0f}  l2_cache_size: {self.l2}  clock_rate_ghz: {self.clock}
              device_memory_size: {self.memory}
              registers_per_core_limit: 65536  registers_per_block_limit: 65536
              cuda_compute_capability {{ major: {self.capability[0]} minor: {self.capability[1]} }}
            }}
            platform_name: "CUDA"
            dnn_version_info {{ major: {cudnn[0]} minor: {cudnn[1]} patch: {cudnn[2]} }}
            runtime_version {{ major: {runtime[0]} minor: {runtime[1]} }}
            device_description_str: "{self.name}"
        """


def _version(package: str) -> list[int]:
    return [int(part) for part in version(package).split(".")[:3]]


CARDS = {
    "2080ti": Card(
        "NVIDIA GeForce RTX 2080 Ti",
        *((7, 5), 68, 64, 1024, (65536, 65536)),
        *(5632 * 1024, 11 * GIB, 616e9, 1.545),
    ),
    "a100": Card(
        "NVIDIA A100-SXM4-40GB",
        *((8, 0), 108, 64, 2048, (167936, 166912)),
        *(40 * 2**20, 40 * GIB, 1555e9, 1.41),
    ),
    "h100": Card(
        "NVIDIA H100 80GB HBM3",
        *((9, 0), 132, 128, 2048, (233472, 232448)),
        *(50 * 2**20, 80 * GIB, 3352e9, 1.98),
    ),
}
"""The paper's card (RTX 2080 Ti) and two that are common in data centres."""
