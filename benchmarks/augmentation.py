"""Augmented batches per second on one core, compared with nnU-Net's own transforms.

    python benchmarks/augmentation.py [--peer /path/to/nnunet-venv/bin/python] [--batches 40]

Batches are 2 x 64 x 128 x 128. Ours are read from a store of phantoms and augmented as in training; nnU-Net's
transforms get arrays in memory, of the size that its loader would crop. The two run in turn, each in a process with one
thread; ours keeps freed memory, as training does. Seconds are CPU seconds, on which other processes have little effect.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

PATCH = (64, 128, 128)
PEER_READ = (109, 190, 190)  # what nnU-Net's loader crops for rotations of 30 degrees and zooms of 0.7 of this patch


def ours(batches: int) -> float:
    """CPU seconds for ``batches`` batches, reading included."""
    import msgspec
    import torch

    from tests.helpers.tiny import configuration
    from unetrpp.augmentation.pipeline import make_batch
    from unetrpp.io.geometry import Geometry
    from unetrpp.io.images import Volume
    from unetrpp.networks.cpu_kernels.allocator import keep_freed_memory
    from unetrpp.networks.design import unet_architecture
    from unetrpp.patches.loader import PatchLoader
    from unetrpp.preprocessing.case import preprocess
    from unetrpp.preprocessing.store import Store

    torch.set_num_threads(1)
    keep_freed_memory()
    architecture = unet_architecture(1, 2, PATCH, [(2, 2, 2)], kernels=[(3, 3, 3)] * 2)
    plan = msgspec.structs.replace(configuration(), architecture=architecture)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        for case in range(4):
            rng = np.random.default_rng(case)
            image = rng.normal(100, 20, (1, 96, 160, 160)).astype(np.float32)
            label = np.zeros((1, 96, 160, 160), np.uint8)
            label[:, 30:60, 40:90, 50:100] = 1
            geometry = Geometry(shape_zyx=(96, 160, 160), spacing_zyx_mm=(1.0, 1.0, 1.0))
            prepared = preprocess(Volume(image, geometry), Volume(label, geometry), plan.preprocessing, f"case_{case}")
            store.write(prepared, "digest", "inputs", PATCH)
        loader = PatchLoader([store.open(case) for case in store.cases()], plan, seed=0, fold=0)
        device = torch.device("cpu")
        make_batch(loader.batch(0), PATCH, False, device)
        start = time.process_time()
        for i in range(1, batches + 1):
            make_batch(loader.batch(i), PATCH, False, device)
        return time.process_time() - start


def peer(batches: int) -> float:
    """The same for nnU-Net's training transforms; runs in its environment."""
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    torch.set_num_threads(1)
    angle = (-30 / 360 * 2 * np.pi, 30 / 360 * 2 * np.pi)
    transforms = nnUNetTrainer.get_training_transforms(np.array(PATCH), angle, None, (0, 1, 2), False)
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.normal(0, 1, (1, *PEER_READ)).astype(np.float32))
    label = torch.zeros((1, *PEER_READ), dtype=torch.int16)
    label[:, 30:60, 60:120, 60:120] = 1
    transforms(image=image.clone(), segmentation=label.clone())
    start = time.process_time()
    for _ in range(2 * batches):
        transforms(image=image.clone(), segmentation=label.clone())
    return time.process_time() - start


def run(python: str, who: str, batches: int) -> float:
    root = Path(__file__).parent.parent
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    if who == "ours":
        environment["PYTHONPATH"] = str(root)
    call = [python, str(Path(__file__).resolve()), "--worker", who, "--batches", str(batches)]
    done = subprocess.run(call, capture_output=True, text=True, check=False, env=environment, cwd=root)
    if done.returncode:
        raise SystemExit(f"{who} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="the python of an environment with nnunetv2 2.8.1")
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", choices=["ours", "peer"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps({"ours": ours, "peer": peer}[arguments.worker](arguments.batches)))
        return
    seconds: dict[str, list[float]] = {"ours": [], "peer": []}
    for _ in range(arguments.rounds):
        seconds["ours"].append(run(sys.executable, "ours", arguments.batches))
        if arguments.peer:
            seconds["peer"].append(run(arguments.peer, "peer", arguments.batches))
    print(
        f"batches of 2 x 64 x 128 x 128 per second, one core; median of {arguments.rounds} rounds of {arguments.batches}"
    )
    for who, values in seconds.items():
        if values:
            print(f"{who:6s} {arguments.batches / float(np.median(values)):6.2f}")
    if seconds["peer"]:
        ratios = [p / o for o, p in zip(seconds["ours"], seconds["peer"], strict=True)]
        print(f"ratio  {float(np.median(ratios)):6.2f}  (rounds: {', '.join(f'{r:.2f}' for r in ratios)})")


if __name__ == "__main__":
    main()
