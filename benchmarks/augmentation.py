"""Augmented batches per second on one core: ours, and nnU-Net 2.8.1's transforms from batchgeneratorsv2.

    python benchmarks/augmentation.py [--classes 2 117] [--batches 20] [--rounds 3]

Batches are 2 x 64 x 128 x 128. Ours are augmented as in training: read before, or from a store of white noise, which is slow
to decompress. batchgeneratorsv2's transforms get the same cases as arrays in memory, at the size that nnU-Net's loader
would crop. They run in turn, each in a process with one thread that keeps freed memory, as training does. Seconds
are CPU seconds, on which other processes have little effect.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.helpers import nnunet_transforms
from tests.helpers.tiny import configuration
from unetrpp.augmentation.pipeline import make_batch
from unetrpp.dataset.labels import LabelScheme
from unetrpp.io.geometry import Geometry
from unetrpp.io.images import Volume
from unetrpp.networks.cpu_kernels.allocator import keep_freed_memory
from unetrpp.networks.design import unet_architecture
from unetrpp.patches.loader import PatchLoader
from unetrpp.plans.plans import Configuration
from unetrpp.preprocessing.case import preprocess
from unetrpp.preprocessing.store import Store

PATCH = (64, 128, 128)
CASE = (120, 200, 200)
REFERENCE_READ = (109, 190, 190)  # what nnU-Net's loader crops for rotations of 30 degrees and zooms of this patch


def phantom(classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise (1, Z, Y, X) and a label of balls, one for each class; more classes have smaller balls."""
    rng = np.random.default_rng(seed)
    label, radius = np.zeros(CASE, np.uint8), 60 / classes ** (1 / 3)
    for index in range(1, classes + 1):
        center = rng.uniform(radius, np.array(CASE) - radius)
        box = tuple(slice(max(0, int(c - radius)), int(c + radius) + 2) for c in center)
        offsets = np.stack(
            np.meshgrid(*(np.arange(s.start, min(s.stop, n)) for s, n in zip(box, CASE, strict=True)), indexing="ij"),
            -1,
        )
        label[box][np.linalg.norm(offsets - center, axis=-1) < radius] = index
    return rng.normal(100, 20, (1, *CASE)).astype(np.float32), label


def plan_of(classes: int) -> Configuration:
    """A U-Net's plans for one channel and the classes."""
    from msgspec.structs import replace

    tiny = configuration()
    names = ("background", *(f"class {index}" for index in range(1, classes + 1)))
    labels = LabelScheme(names=names, values=tuple(range(classes + 1)))
    architecture = unet_architecture(1, classes + 1, PATCH, [(2, 2, 2)], kernels=[(3, 3, 3)] * 2)
    return replace(tiny, architecture=architecture, preprocessing=replace(tiny.preprocessing, labels=labels))


def ours(classes: int, batches: int, *, read_before: bool = False) -> float:
    """CPU seconds for ``batches`` batches, with or without reading them."""
    plan, geometry = plan_of(classes), Geometry(shape_zyx=CASE, spacing_zyx_mm=(1.0, 1.0, 1.0))
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        for case in range(2):
            image, label = phantom(classes, case)
            volumes = Volume(image, geometry), Volume(label[None], geometry)
            store.write(preprocess(*volumes, plan.preprocessing, f"case_{case}"), "digest", "inputs", PATCH)
        loader = PatchLoader([store.open(case) for case in store.cases()], plan, seed=0, fold=0)
        held = [loader.batch(i) for i in range(batches + 1)] if read_before else []
        read = held.__getitem__ if read_before else loader.batch
        return seconds(lambda i: make_batch(read(i), PATCH, False, torch.device("cpu")), batches)


def ours_read_before(classes: int, batches: int) -> float:
    """The same for transforms alone."""
    return ours(classes, batches, read_before=True)


def reference(classes: int, batches: int) -> float:
    """The same for batchgeneratorsv2's transforms of arrays in memory."""
    transforms = nnunet_transforms.chain(PATCH, 30, (0, 1, 2), time_blur=True)
    middle = tuple(slice((n - m) // 2, (n - m) // 2 + m) for n, m in zip(CASE, REFERENCE_READ, strict=True))
    cases = [phantom(classes, case) for case in range(2)]
    patches = [(torch.from_numpy(i[:, *middle].copy()), torch.from_numpy(m[middle].astype(np.int16))) for i, m in cases]
    nnunet_transforms.seed(0)
    return seconds(lambda _: [nnunet_transforms.apply(transforms, *patch) for patch in patches], batches)


def seconds(batch: Callable[[int], object], count: int) -> float:
    """CPU seconds of ``count`` batches after the first."""
    torch.set_num_threads(1)
    keep_freed_memory()
    batch(0)
    start = time.process_time()
    for i in range(1, count + 1):
        batch(i)
    return time.process_time() - start


def run(who: str, classes: int, batches: int) -> float:
    """The CPU seconds that a process of its own measures."""
    call = [sys.executable, __file__, "--worker", who, "--classes", str(classes), "--batches", str(batches)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(call, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{who} failed:\n{done.stderr[-2000:]}")
    return float(json.loads(done.stdout.splitlines()[-1]))


WORKERS = {"ours": ours_read_before, "ours with reading": ours, "batchgeneratorsv2": reference}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, nargs="+", default=[2, 117])
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", choices=WORKERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(WORKERS[arguments.worker](arguments.classes[0], arguments.batches)))
        return
    print(f"batches per CPU second, one core; median of {arguments.rounds} rounds of {arguments.batches} batches")
    for classes in arguments.classes:
        rounds = np.array([[run(who, classes, arguments.batches) for who in WORKERS] for _ in range(arguments.rounds)])
        speeds = arguments.batches / np.median(rounds, axis=0)
        print(f"{classes} classes: " + ", ".join(f"{who} {v:.2f}" for who, v in zip(WORKERS, speeds, strict=True)))
        for column, who in enumerate(list(WORKERS)[:-1]):
            ratios = rounds[:, -1] / rounds[:, column]
            each = ", ".join(f"{ratio:.1f}" for ratio in ratios)
            print(f"    {who}: {np.median(ratios):.1f} times as many (rounds: {each})", flush=True)


if __name__ == "__main__":
    main()
