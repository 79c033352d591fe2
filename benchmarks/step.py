"""The paper's training step on this machine: benchmarks/step.csv and a table.

StyleNet and VGG-19 to relu4_2 at 256 pixels, batch 4 (and V1 and V2 with VGG-19 to relu5_1, batch
16), untrained, for time does not depend on the weights: iterations a second, operations counted,
and their share of the largest rate of matrix products measured in the same run.

    python benchmarks/step.py [--device cuda] [--batch 4] [--size 256] [--repetitions 20]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from tabulate import tabulate
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from texnet import config, descriptors, generators, runtime
from texnet.config import Acceleration
from texnet.inputs import NoiseStream
from texnet.losses import Objective
from texnet.memory import MIB, peak_memory
from texnet.networks import StyleNet, TextureNetV1, TextureNetV2
from texnet.speed import seconds
from texnet.tables import write_table
from texnet.textures import V1_OBJECTIVE
from texnet.updates import WARM_UP, Update, optimiser

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = (
    "network", "size", "batch", "device", "threads", "way", "seconds", "fastest", "slowest",
    "iterations_per_second", "gflop", "share_of_matrix_rate", "peak_mib",
)  # fmt: skip
WAYS = {
    "cpu": {
        "fp32": {},
        "bf16": {"precision": "bf16"},
    },
    "cuda": {
        "fp32": {},
        "tf32": {"precision": "tf32", "channels_last": True},
        "bf16": {"precision": "bf16", "channels_last": True},
        "bf16, contiguous": {"precision": "bf16"},
        "bf16, graph": {"precision": "bf16", "channels_last": True, "graph": True},
        "bf16, graph, compiled": {
            "precision": "bf16", "channels_last": True, "graph": True, "compile": True,
        },
    },
}  # fmt: skip
NETWORKS = {"stylenet": StyleNet(), "v1": TextureNetV1("texturenet_v1"),
            "v2": TextureNetV2("texturenet_v2")}  # fmt: skip


def step_of(
    network: str, size: int, batch: int, device: torch.device, acceleration: Acceleration
) -> Callable[[], Tensor]:
    """One training step of an untrained network on random images."""
    style = network == "stylenet"
    images = config.Images(size=size) if style else config.Texture("berries", size, size)
    net = generators.build(NETWORKS[network], 0, images).to(device)
    settings = config.Objective() if style else V1_OBJECTIVE
    layers = {*settings.style_layers, *(settings.content_layers if style else ())}
    descriptor = descriptors.Descriptor(descriptors.WIDTHS["vgg19"], layers)
    descriptors.initialise(descriptor, torch.Generator().manual_seed(0))
    descriptor.eval().to(device, memory_format=torch.channels_last)
    exemplar = torch.rand(3, size, size, device=device)
    objective = Objective(settings, descriptor, exemplar)
    objective = objective.rounded() if acceleration.precision == "bf16" else objective
    adam = optimiser(net, 1e-3, acceleration)
    update = Update(net, objective, adam, acceleration)
    content = torch.rand(batch, 3, size, size, device=device) if style else None
    noise = [z.to(device) for z in NoiseStream(net, 0)(batch, size, size, 1)]
    return lambda: update(content, noise)


def matrix_rate(device: torch.device, precision: str) -> float:
    """Most operations a second of a product of large square matrices."""
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    side = 8192 if device.type == "cuda" else 2048
    a, b = (torch.rand(side, side, device=device, dtype=kind) for _ in range(2))
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    found = min(seconds(lambda: torch.mm(a, b), device) for _ in range(10))
    torch.backends.cuda.matmul.allow_tf32 = False
    return 2 * side**3 / found


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--device", default="auto")
    arguments.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    arguments.add_argument("--size", type=int, default=256)
    arguments.add_argument("--batch", type=int, help="default 4, of textures 16")
    arguments.add_argument("--repetitions", type=int, default=5)
    args = arguments.parse_args()
    rows = []
    for network in args.networks:
        batch = args.batch or (4 if network == "stylenet" else 16)
        kind = runtime.prepare(args.device).type
        for way, keys in WAYS["cuda" if kind == "cuda" else "cpu"].items():
            acceleration = Acceleration(**keys)
            how = acceleration.precision
            device = runtime.prepare(args.device, args.threads, how, reproducible=False)
            if kind == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            step = step_of(network, args.size, batch, device, acceleration)
            with FlopCounterMode(display=False) as counter:
                step()
            flops = counter.get_total_flops()
            for _ in range(WARM_UP):
                step()
            # Of a graph the memory is its own pool, which one step does not show.
            peak = peak_memory(step, device) / MIB if kind == "cpu" else None
            peak = torch.cuda.max_memory_reserved() / MIB if kind == "cuda" else peak
            times = [seconds(step, device) for _ in range(args.repetitions)]
            rate = flops / median(times) / matrix_rate(device, acceleration.precision)
            middle, where = median(times), (network, args.size, batch, device.type, args.threads)
            spread = (middle, min(times), max(times), 1 / middle)
            rows.append([*where, way, *spread, flops / 1e9, rate, peak])
            print(*rows[-1], sep="  ", flush=True)
    write_table(ROOT / "benchmarks" / "step.csv", COLUMNS, rows)
    print(tabulate(rows, COLUMNS, tablefmt="github", floatfmt=".4g"))


if __name__ == "__main__":
    main()
