"""Peak memory of predicting one large volume with a U-Net of quarter width, from file to file (Linux only).

    PYTHONPATH=. python benchmarks/large_volume.py [--size 768] [--ending .nii] [--spacing 1]

A phantom of int16, as CT has them; with a spacing other than 1 mm it is resampled to that. Patch 96 x 96 x 96, step 1, no mirroring,
two classes, random weights. After three forward passes the last one's logits are taken for the other tiles: the memory is the same
and the time a fraction. Printed is the peak of the memory that the process needs (anonymous), and of the pages of files that the
system keeps in memory for it as long as nothing else needs the room: after the model was loaded, after the case was read and
prepared, and at the end.
"""

import argparse
import tempfile
import threading
from pathlib import Path
from typing import Any

import msgspec
import nibabel
import numpy as np
import SimpleITK as sitk

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
    parser.add_argument("--ending", default=".nii", choices=[".nii", ".nii.gz", ".nrrd", ".zarr"])
    parser.add_argument("--spacing", type=float, default=1.0, help="of the phantom in mm; the network works at 1 mm")
    arguments = parser.parse_args()
    take_logits_again()
    peak = Peak()
    tell_peak_after(stream, "_load", "read and prepared", peak)
    tell_peak_after(stream, "_predict", "networks and export", peak)
    with tempfile.TemporaryDirectory() as folder:
        write_phantom(Path(folder) / f"case_0000{arguments.ending}", arguments.size, arguments.spacing)
        network = unet_architecture(1, 2, PATCH, [(2, 2, 2)] * 4, kernels=[(3, 3, 3)] * 5, width=0.25)
        plan = msgspec.structs.replace(configuration(), architecture=network, mirror_axes=())
        ending = ".nii" if arguments.ending == ".zarr" else arguments.ending
        model = make_model(Path(folder), 1, plan, ending=ending)
        peak.start()
        image, out = Path(folder) / f"case_0000{arguments.ending}", Path(folder) / "out"
        assert not predict(input=image, output=out, model=model, step=1, mirroring=False, device="cpu").failed
    print(f"whole prediction: {peak}")


def write_phantom(path: Path, size: int, spacing: float) -> None:
    """A ball in air with noise, slice by slice."""
    place = np.linspace(-1, 1, size, dtype=np.float32)
    noise = np.random.default_rng(0).normal(0, 30, (size, size)).astype(np.int16)
    array = np.empty((size, size, size), np.int16)
    for k in range(size):
        inside = place[k] ** 2 + place[:, None] ** 2 + place**2 < 0.7
        array[k] = np.where(inside, 300, -500) + np.roll(noise, 7 * k)
    if path.suffix == ".zarr":
        from tests.helpers.ome_zarr import write_ome_zarr  # needs the extra zarr

        write_ome_zarr(path, array, (spacing,) * 3, chunks=(64, 64, 64), compressors=None)
    elif path.suffix == ".nrrd":
        image = sitk.GetImageFromArray(array)
        image.SetSpacing([spacing] * 3)
        sitk.WriteImage(image, str(path), useCompression=False)
    else:
        nibabel.save(nibabel.Nifti1Image(array.T, np.diag([-spacing, -spacing, spacing, 1])), path)


def take_logits_again() -> None:
    forward: Any = SlidingWindow._forward
    made: list[Any] = []

    def once(*given: Any) -> Any:
        if len(made) < REAL_PASSES:
            made.append(forward(*given))
        return made[-1].clone()

    SlidingWindow._forward = once


def tell_peak_after(module: Any, name: str, what: str, peak: "Peak") -> None:
    function = getattr(module, name)

    def told(*given: Any) -> Any:
        result = function(*given)
        print(f"{what}: {peak}", flush=True)
        return result

    setattr(module, name, told)


class Peak:
    """The most memory of this process since :meth:`start`, looked at every 10 ms."""

    def __init__(self) -> None:
        self.anonymous = self.files = 0

    def start(self) -> None:
        self._look()
        print(f"start: {self}", flush=True)
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while not threading.Event().wait(0.01):
            self._look()

    def _look(self) -> None:
        lines = Path("/proc/self/status").read_text().splitlines()
        sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith("Rss")}  # kB
        self.anonymous = max(self.anonymous, sizes["RssAnon"])
        self.files = max(self.files, sizes["RssFile"] + sizes["RssShmem"])

    def __str__(self) -> str:
        return f"{self.anonymous / 1e6:.2f} GB, and {self.files / 1e6:.2f} GB of files"


if __name__ == "__main__":
    main()
