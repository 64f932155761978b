"""Peak memory of predicting one large volume with a U-Net of quarter width, from file to file (POSIX only).

    PYTHONPATH=. python benchmarks/large_volume.py [--size 768] [--ending .nii]

A phantom of int16, as CT has them, on a grid that is not resampled; patch 96 x 96 x 96, step 1, no mirroring, two classes, random weights.
After three forward passes the last one's logits are taken for the other tiles: the memory is the same and the time a fraction.
Printed is the peak resident memory of the process after the model was loaded, after the case was read and prepared, and at the end.
"""

import argparse
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import nibabel
import numpy as np

from tests.helpers.model import configuration, make_model
from unetrpp.inference import stream
from unetrpp.inference.predict import predict
from unetrpp.inference.sliding_window import SlidingWindow
from unetrpp.networks.design import unet_architecture

PATCH = (96, 96, 96)
REAL_PASSES = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=768)
    parser.add_argument("--ending", default=".nii", choices=[".nii", ".nii.gz"])
    arguments = parser.parse_args()
    take_logits_again()
    tell_peak_after(stream, "_load", "read and prepared")
    with tempfile.TemporaryDirectory() as folder:
        write_phantom(Path(folder) / f"case_0000{arguments.ending}", arguments.size)
        network = unet_architecture(1, 2, PATCH, [(2, 2, 2)] * 4, kernels=[(3, 3, 3)] * 5, width=0.25)
        plan = msgspec.structs.replace(configuration(), architecture=network, mirror_axes=())
        model = make_model(Path(folder), 1, plan, ending=arguments.ending)
        print(f"start: {peak_gb():.2f} GB", flush=True)
        image, out = Path(folder) / f"case_0000{arguments.ending}", Path(folder) / "out"
        assert not predict(input=image, output=out, model=model, step=1, mirroring=False, device="cpu").failed
    print(f"whole prediction: {peak_gb():.2f} GB")


def write_phantom(path: Path, size: int) -> None:
    """A ball in air with noise, slice by slice."""
    place = np.linspace(-1, 1, size, dtype=np.float32)
    noise = np.random.default_rng(0).normal(0, 30, (size, size)).astype(np.int16)
    array = np.empty((size, size, size), np.int16)
    for k in range(size):
        inside = place[k] ** 2 + place[:, None] ** 2 + place**2 < 0.7
        array[k] = np.where(inside, 300, -500) + np.roll(noise, 7 * k)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)


def take_logits_again() -> None:
    forward: Any = SlidingWindow._forward
    made: list[Any] = []

    def once(*given: Any) -> Any:
        if len(made) < REAL_PASSES:
            made.append(forward(*given))
        return made[-1].clone()

    SlidingWindow._forward = once


def tell_peak_after(module: Any, name: str, what: str) -> None:
    function = getattr(module, name)

    def told(*given: Any) -> Any:
        result = function(*given)
        print(f"{what}: {peak_gb():.2f} GB", flush=True)
        return result

    setattr(module, name, told)


def peak_gb() -> float:
    """Peak memory of this process so far; macOS counts in bytes, Linux in kB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)


if __name__ == "__main__":
    main()
