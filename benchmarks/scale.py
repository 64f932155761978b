"""The formulas of docs/scale.md, compared with measurements: constants from small runs, predictions for larger ones.

    python benchmarks/scale.py preprocessing [--processes 2] [--raw unetrpp_workspace/raw/DATASET ...]
    python benchmarks/scale.py networks [--device cuda]
    python benchmarks/scale.py stores unetrpp_workspace/preprocessed/DATASET/PLANS_CONFIGURATION ...

`preprocessing` runs unetrpp_plan_and_preprocess on phantoms and on your own datasets (Linux), `networks` takes training
steps and predicts volumes on random images, `stores` says what preprocessed cases take on disk. On a CPU seconds are CPU
seconds of one thread.
"""

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import preprocessing

ROOT = Path(__file__).resolve().parent.parent
Shape = tuple[int, int, int]

FEW, MORE = 2, 62  # tiny cases: the costs of a run, and of a case whatever its size
TINY: Shape = (32, 32, 32)
SMALL = (10, (96, 160, 160))  # what a voxel costs
LARGER: list[tuple[int, Shape]] = [(120, (64, 128, 128)), (8, (160, 320, 320))]
CLASSES = 3

BATCH, WIDTH = 2, 0.5
PATCHES: list[Shape] = [(32, 64, 64), (32, 96, 96), (48, 128, 128)]
VOLUMES = [(1, 0), (12, 0), (2, 3)]  # tiles along x and mirrored axes; the first is measured for the others


class Row(NamedTuple):
    what: str
    size: str
    predicted: float
    measured: float
    unit: str


class Run(NamedTuple):
    """One run of unetrpp_plan_and_preprocess on one dataset."""

    name: str
    cases: int
    voxels: int  # of all images as they come
    largest: int  # of one image
    cpu_s: float
    wall_s: float
    megabytes: float  # peak of all processes
    disk_mb: float


def preprocessing_rows(processes: int, folders: Sequence[Path]) -> list[Row]:
    few, more, small = (phantom_run(*size, processes) for size in ((FEW, TINY), (MORE, TINY), SMALL))
    case_s = (more.cpu_s - few.cpu_s) / (MORE - FEW)
    start_s = few.cpu_s - FEW * case_s
    voxel_s = (small.cpu_s - start_s - small.cases * case_s) / small.voxels
    voxel_mb = (small.megabytes - few.megabytes) / processes / small.largest
    disk_mb = small.disk_mb / small.voxels
    print(f"a run {start_s:.2f} CPU s and {few.megabytes:.0f} MB, a case {case_s * 1e3:.1f} CPU ms", end=", ")
    print(f"a voxel {voxel_s * 1e9:.0f} CPU ns, {voxel_mb * 1e6:.0f} bytes of memory, {disk_mb * 1e6:.2f} on disk")
    rows = []
    larger = [phantom_run(*size, processes) for size in LARGER]
    for run in (small, *larger, *(measured_run(folder, processes) for folder in folders)):
        size = f"{run.name}: {run.cases} x {run.voxels / run.cases / 1e6:.2f} M voxels"
        cpu_s = start_s + run.cases * case_s + run.voxels * voxel_s
        memory_mb = few.megabytes + processes * run.largest * voxel_mb
        rows += [
            Row("preprocessing", size, cpu_s, run.cpu_s, f"CPU s ({run.wall_s:.1f} s of wall time)"),
            Row("", "", memory_mb, run.megabytes, "MB"),
            Row("", "", run.voxels * disk_mb, run.disk_mb, "MB on disk"),
        ]
    return rows


def phantom_run(cases: int, shape: Shape, processes: int) -> Run:
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder, "Phantom")
        preprocessing.write_phantom(raw, cases, CLASSES, shape)
        return measured_run(raw, processes)


def measured_run(raw: Path, processes: int) -> Run:
    from unetrpp.core.workspace import Workspace
    from unetrpp.preprocessing.store import Store

    preprocessing.SAMPLING_S = 0.05
    with tempfile.TemporaryDirectory() as folder:
        usage = preprocessing.run(preprocessing.ours(raw, Path(folder), "unetrpp", processes), {})
        workspace = Workspace(Path(folder, "ours_unetrpp"))
        store = Store(workspace.store(workspace.find_dataset(raw.name), "unetrpp", "3d_fullres"))
        voxels = [math.prod(store.open(case).properties.geometry.shape_zyx) for case in store.cases()]
        disk = sum(path.stat().st_size for path in store.folder.iterdir())
    return Run(raw.name, len(voxels), sum(voxels), max(voxels), usage.cpu_s, usage.wall_s, usage.pss_mb, disk / 1e6)


def network_rows(name: str, device: str) -> list[Row]:
    from unetrpp.networks.cost import estimate

    rows = []
    for i, patch in enumerate(PATCHES):
        cost = estimate(architecture_of(name, patch), BATCH)
        found = in_a_process("step", name, i, device)
        gflop = 2e-9 * 3 * BATCH * cost.multiply_adds  # forward, and twice as much backward
        if i == 0:
            speed = gflop / found["seconds"]
            print(f"{name}: {speed:.0f} GFLOP/s in a training step", end=", ")
        size = f"{'x'.join(map(str, patch))}, batch {BATCH}, {cost.multiply_adds / 1e9:.1f} G"
        rows.append(Row(f"step, {name}", size, gflop / speed, found["seconds"], "s"))
        rows.append(Row("", "", cost.training_bytes / 1e6, found["megabytes"], "MB"))
    for i, (tiles, mirrored) in enumerate(VOLUMES):
        found = in_a_process("predict", name, i, device)
        if i == 0:
            pass_s = found["seconds"]
            print(f"a forward pass of a patch {pass_s:.3f} s, by the step's speed {rows[0].predicted / 3 / BATCH:.3f}")
        passes = tiles * 2**mirrored
        rows.append(Row("predict", f"{tiles} tiles x {2**mirrored}", passes * pass_s, found["seconds"], "s"))
    return rows


def in_a_process(what: str, name: str, index: int, device: str) -> dict[str, float]:
    """One measurement in a process of its own, whose peak memory belongs to it alone."""
    call = [sys.executable, __file__, "one", what, name, str(index), device]
    return dict(json.loads(subprocess.run(call, check=True, capture_output=True, text=True, cwd=ROOT).stdout))


def one(what: str, name: str, index: int, device: str) -> dict[str, float]:
    import torch

    from unetrpp.networks.cpu_kernels.allocator import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    before = peak_mb(device)
    seconds = (train_seconds if what == "step" else predict_seconds)(name, index, device)
    return {"seconds": seconds, "megabytes": peak_mb(device) - before}


def train_seconds(name: str, index: int, device: str) -> float:
    """The best of two steps after one that does not count: forward, loss, backward, SGD with momentum."""
    import torch

    from unetrpp.networks.build import build_network
    from unetrpp.networks.cost import reference_loss

    architecture = architecture_of(name, PATCHES[index])
    network = build_network(architecture).to(device).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.99)
    patches = torch.randn(BATCH, 1, *PATCHES[index], device=device)
    taken = []
    for _ in range(3):
        start = now(device)
        optimizer.zero_grad(set_to_none=True)
        reference_loss(network(patches)).backward()
        optimizer.step()
        taken.append(now(device) - start)
    return min(taken[1:])


def predict_seconds(name: str, index: int, device: str) -> float:
    """The smallest patch over a volume of one row of tiles, half a patch apart; the best of two."""
    import torch

    from unetrpp.inference.sliding_window import SlidingWindow
    from unetrpp.networks.build import build_network

    patch, (tiles, mirrored) = PATCHES[0], VOLUMES[index]
    network = build_network(architecture_of(name, patch)).to(device).eval()
    network.deep_supervision = False
    volume = torch.randn(1, *patch[:2], patch[2] * (tiles + 1) // 2)
    taken = []
    for _ in range(2):
        start = now(device)
        SlidingWindow(patch, mirror_axes=range(mirrored)).logits(network, volume)
        taken.append(now(device) - start)
    return min(taken)


def architecture_of(name: str, patch: Shape):  # type: ignore[no-untyped-def]
    from unetrpp.networks.design import unet_architecture, unetrpp_architecture

    design = {"unetrpp": unetrpp_architecture, "unet": unet_architecture}[name]
    return design(1, CLASSES + 1, patch, [(2, 2, 2)] * 4, width=WIDTH)


def now(device: str) -> float:
    if device == "cpu":
        return time.process_time()
    import torch

    torch.cuda.synchronize()
    return time.perf_counter()


def peak_mb(device: str) -> float:
    if device == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    import torch

    return torch.cuda.max_memory_allocated() / 1e6


def print_store(folder: Path) -> None:
    from unetrpp.preprocessing.store import Store

    cases = [Store(folder).open(case) for case in Store(folder).cases()]
    voxels = sum(math.prod(case.shape) for case in cases)
    print(
        f"{folder.parent.name}, {folder.name}: {len(cases)} cases, {voxels / 1e6:.1f} M voxels; bytes per voxel", end=""
    )
    for part in ("image.b2nd", "label.b2nd", "foreground.b2nd", "json"):
        size = sum((folder / f"{case.case}.{part}").stat().st_size for case in cases)
        print(f", {part.split('.')[0]} {size / voxels:.2f}", end="")
    print()


def print_rows(rows: Sequence[Row]) -> None:
    print(f"{'':16s}{'size':34s}{'predicted':>11s}{'measured':>11s}{'ratio':>7s}")
    for what, size, predicted, measured, unit in rows:
        print(f"{what:16s}{size:34s}{predicted:11.2f}{measured:11.2f}{predicted / measured:7.2f}  {unit}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    cases = parts.add_parser("preprocessing")
    cases.add_argument("--processes", type=int, default=2)
    cases.add_argument("--raw", nargs="+", type=Path, default=[], metavar="FOLDER", help="raw datasets to add")
    networks = parts.add_parser("networks")
    networks.add_argument("--names", nargs="+", choices=("unetrpp", "unet"), default=["unetrpp", "unet"])
    networks.add_argument("--device", default="cpu")
    parts.add_parser("stores").add_argument("folders", nargs="+", type=Path)
    single = parts.add_parser("one")
    for argument in ("what", "name", "index", "device"):
        single.add_argument(argument, type=int if argument == "index" else str)
    arguments = parser.parse_args()
    if arguments.part == "preprocessing":
        print_rows(preprocessing_rows(arguments.processes, arguments.raw))
    elif arguments.part == "networks":
        print_rows([row for name in arguments.names for row in network_rows(name, arguments.device)])
    elif arguments.part == "stores":
        for folder in arguments.folders:
            print_store(folder)
    else:
        print(json.dumps(one(arguments.what, arguments.name, arguments.index, arguments.device)))


if __name__ == "__main__":
    main()
