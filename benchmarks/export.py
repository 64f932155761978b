"""Export of logits to the original grid: seconds and peak memory, compared with nnU-Net's own function.

    python benchmarks/export.py [--peer /path/to/nnunet-venv/bin/python] [--large]

Every row runs in a process of its own. Making the phantom's logits is not counted. Our export takes them slab by
slab, as the sliding window yields them; nnU-Net takes all of them at once. Nothing is written to disk.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from unetrpp.preprocessing.grid import CaseGrid

# name -> preprocessed shape, its spacing, original shape, its spacing (z, y, x), mm
SIZES = {
    "108 x 151 x 159": ((108, 151, 159), (2.0, 1.0, 1.0), (96, 160, 160), (2.25, 0.94375, 0.99375)),
    "300 x 512 x 512": ((200, 273, 273), (1.5, 1.5, 1.5), (300, 512, 512), (1.0, 0.8, 0.8)),
}
SLAB = 8  # slices


def logits_of_slices(classes: int, shape: tuple[int, int, int], first: int, last: int) -> np.ndarray:
    """(K, n, Y, X) float32: ellipsoids with blurred borders and noise, background elsewhere."""
    rng = np.random.default_rng(7)
    centres, radii = rng.uniform(0.1, 0.9, (classes, 3)), rng.uniform(0.08, 0.2, (classes, 3))
    z, y, x = (
        (np.arange(n, dtype=np.float32)[part] + 0.5) / n
        for n, part in zip(shape, (slice(first, last), slice(None), slice(None)), strict=True)
    )
    noise = rng.normal(0, 0.3, (1, *shape[1:])).astype(np.float32)
    out = np.empty((classes, last - first, *shape[1:]), np.float32)
    for k, ((cz, cy, cx), (rz, ry, rx)) in enumerate(zip(centres, radii, strict=True)):
        squares = ((z - cz) / rz) ** 2
        distance = squares[:, None, None] + (((y - cy) / ry) ** 2)[:, None] + ((x - cx) / rx) ** 2
        out[k] = 8 * np.clip(1 - distance, -1, 1)
        out[k] += np.roll(noise, k, axis=2)
    out[0] = 0
    return out


class Clock:
    """Wall and CPU seconds of what runs inside, added up."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def __enter__(self) -> None:
        self._start = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        self.wall += time.perf_counter() - self._start[0]
        self.cpu += time.process_time() - self._start[1]


def measure(run: Callable[[], np.ndarray], uncounted: Clock) -> dict[str, float]:
    total = Clock()
    with total:
        run()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {"wall": total.wall - uncounted.wall, "cpu": total.cpu - uncounted.cpu, "peak_gb": peak}


def grid_of(classes: int, size: str) -> "CaseGrid":
    """The grids of the phantom."""
    from unetrpp.dataset.labels import LabelScheme
    from unetrpp.io.geometry import Geometry, Orientation
    from unetrpp.plans.fingerprint import IntensityStatistics
    from unetrpp.plans.plans import Normalization, Preprocessing
    from unetrpp.preprocessing.grid import CaseGrid, CaseProperties

    shape, target, original, spacing = SIZES[size]
    statistics = IntensityStatistics(
        mean=0, median=0, std=1, minimum=0, maximum=1, percentile_00_5=0, percentile_99_5=1
    )
    plan = Preprocessing(
        transpose=(0, 1, 2),
        spacing_mm=target,
        normalization=(Normalization(channel="CT", scheme="ct", statistics=statistics),),
        labels=LabelScheme(names=tuple(f"c{k}" for k in range(classes)), values=tuple(range(classes))),
        chunk=(64, 64, 64),
    )
    properties = CaseProperties(
        case="phantom",
        geometry=Geometry(shape_zyx=original, spacing_zyx_mm=spacing),
        orientation=Orientation(axes=(0, 1, 2), flips=()),
        crop=((0, original[0]), (0, original[1]), (0, original[2])),
        cropped_shape=original,
        cropped_spacing_mm=spacing,
        shape=shape,
    )
    return CaseGrid(properties, plan)


def ours(classes: int, size: str) -> dict[str, float]:
    import torch

    from unetrpp.inference.export import export

    shape, grid, making = SIZES[size][0], grid_of(classes, size), Clock()

    def slabs() -> Iterator[torch.Tensor]:
        for first in range(0, shape[0], SLAB):
            with making:
                slab = torch.from_numpy(logits_of_slices(classes, shape, first, min(first + SLAB, shape[0])))[None]
            yield slab

    return measure(lambda: export(slabs(), grid).to_input(grid).array, making)


def peer(classes: int, size: str) -> dict[str, float]:
    from functools import partial

    import torch
    from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
    from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape
    from nnunetv2.utilities.label_handling.label_handling import LabelManager

    shape, target, original, spacing = SIZES[size]
    resampling = partial(resample_data_or_seg_to_shape, is_seg=False, order=1, order_z=0, force_separate_z=None)
    plans = SimpleNamespace(transpose_forward=[0, 1, 2], transpose_backward=[0, 1, 2])
    configuration = SimpleNamespace(spacing=list(target), resampling_fn_probabilities=resampling)
    labels = LabelManager({"background": 0} | {f"c{k}": k for k in range(1, classes)}, None)
    properties = {
        "spacing": list(spacing),
        "shape_after_cropping_and_before_resampling": list(original),
        "shape_before_cropping": list(original),
        "bbox_used_for_cropping": [[0, n] for n in original],
    }
    logits = torch.from_numpy(logits_of_slices(classes, shape, 0, shape[0]))
    job = partial(
        convert_predicted_logits_to_segmentation_with_correct_shape,
        logits,
        plans,
        configuration,
        labels,
        properties,
        num_threads_torch=torch.get_num_threads(),
    )
    return measure(job, Clock())


def row(python: str, side: str, classes: int, size: str) -> dict[str, float] | None:
    """One measurement in a new process; None when it fails, usually because memory runs out."""
    command = [python, str(Path(__file__).resolve()), "--worker", side, str(classes), size]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="python of an environment with nnunetv2")
    parser.add_argument("--large", action="store_true", help="also the peer on the large volume (minutes, tens of GB)")
    parser.add_argument("--classes", type=int, nargs="+", default=[4, 32, 117])
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        side, classes, size = arguments.worker
        print(json.dumps({"ours": ours, "peer": peer}[side](int(classes), size)))
        return
    columns = f"{'wall s':>9s}{'CPU s':>8s}{'GB':>7s}"
    print(
        f"{'':24s}{'ours':>24s}{'nnU-Net':>27s}\n{'original grid':16s}{'classes':>8s}{columns}   {columns}{'ratio wall':>12s}{'CPU':>7s}"
    )
    for size in SIZES:
        for classes in arguments.classes:
            mine = row(sys.executable, "ours", classes, size)
            with_peer = arguments.peer and (arguments.large or size == next(iter(SIZES)))
            theirs = row(arguments.peer, "peer", classes, size) if with_peer else None
            line = f"{size:16s}{classes:8d}" + shown(mine)
            if with_peer:
                line += "   " + shown(theirs)
            if mine and theirs:
                line += f"{theirs['wall'] / mine['wall']:12.1f}{theirs['cpu'] / mine['cpu']:7.1f}"
            print(line, flush=True)


def shown(result: dict[str, float] | None) -> str:
    return f"{result['wall']:9.2f}{result['cpu']:8.2f}{result['peak_gb']:7.2f}" if result else f"{'failed':>24s}"


if __name__ == "__main__":
    main()
