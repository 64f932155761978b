"""Verify, fingerprint, plan and preprocess side by side with nnU-Net 2.8.1, on a phantom that this script makes.

    python benchmarks/preprocessing.py --nnunet PATH/TO/ITS/VENV
    python benchmarks/preprocessing.py --nnunet PATH/TO/ITS/VENV --large

Prints one table: wall time, CPU seconds of all processes, and the largest sum of their proportional set sizes (Linux).
nnU-Net needs an environment of its own: install torch first, then nnunetv2==2.8.1 with --no-deps, then its dependencies.
"""

import argparse
import contextlib
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter

NUMBER = 901
SAMPLING_S = 0.2
PHANTOM = (96, 160, 160)
LARGE = (300, 512, 512)


class Usage(NamedTuple):
    wall_s: float
    cpu_s: float
    pss_mb: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--nnunet", type=Path, metavar="VENV", help="an environment with nnunetv2 2.8.1; without it ours only"
    )
    parser.add_argument("--cases", type=int, default=20)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--planners", nargs="+", default=["unetrpp", "unet"])
    parser.add_argument("--large", action="store_true", help="one case of 512 x 512 x 300 with 20 classes instead")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder, "raw", f"Dataset{NUMBER}_Phantom")
        cases, classes, shape = (1, 20, LARGE) if arguments.large else (arguments.cases, 3, PHANTOM)
        write_phantom(raw, cases, classes, shape)
        processes = 1 if arguments.large else arguments.processes
        rows = {f"ours, {p}": run(ours(raw, Path(folder), p, processes), {}) for p in arguments.planners}
        if arguments.nnunet:
            places = {f"nnUNet_{part}": str(Path(folder, part)) for part in ("raw", "preprocessed", "results")}
            rows["nnU-Net 2.8.1"] = run(theirs(arguments.nnunet, processes), places)
    print_table(rows, f"{cases} x {shape}, {classes} classes, {processes} processes")
    return 0


def ours(raw: Path, folder: Path, planner: str, processes: int) -> list[str]:
    command = [
        sys.executable,
        "-m",
        "unetrpp",
        "plan-and-preprocess",
        str(raw),
        "--planner",
        planner,
        "-c",
        "3d_fullres",
    ]
    # Each planner in a workspace of its own, so that none finds another's fingerprint.
    return [*command, "--workspace", str(folder / f"ours_{planner}"), "--processes", str(processes)]


def theirs(venv: Path, processes: int) -> list[str]:
    program = str(venv / "bin" / "nnUNetv2_plan_and_preprocess")
    count = str(processes)
    return [program, "-d", str(NUMBER), "--verify_dataset_integrity", "-c", "3d_fullres", "-np", count, "-npfp", count]


def run(command: list[str], environment: dict[str, str]) -> Usage:
    """Run to the end; its output is shown only when it fails."""
    adopt_orphans()
    start = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=output, stderr=subprocess.STDOUT)
        peak = Peak(process.pid)
        peak.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall_s, cpu_s = time.perf_counter() - start, usage.ru_utime + usage.ru_stime + orphans_cpu_s()
        process.returncode = os.waitstatus_to_exitcode(status)
        peak.stop()
        if process.returncode:
            output.seek(0)
            raise SystemExit(output.read().decode() + f"\n{command[0]} failed with {process.returncode}")
    return Usage(wall_s, cpu_s, peak.megabytes)


def adopt_orphans() -> None:
    """Descendants that outlive their parent become our children, so that their CPU seconds are counted (Linux)."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def orphans_cpu_s() -> float:
    """CPU seconds of the descendants that are left, after waiting for them to end."""
    seconds = 0.0
    while True:
        try:
            _, _, usage = os.wait3(0)
        except ChildProcessError:
            return seconds
        seconds += usage.ru_utime + usage.ru_stime


class Peak(threading.Thread):
    """Samples the proportional set size of a process and all its descendants."""

    def __init__(self, pid: int):
        super().__init__(daemon=True)
        self.pid = pid
        self.megabytes = 0.0
        self.finished = threading.Event()

    def run(self) -> None:
        while not self.finished.wait(SAMPLING_S):
            self.megabytes = max(self.megabytes, family_pss_mb(self.pid))

    def stop(self) -> None:
        self.finished.set()
        self.join()


def family_pss_mb(pid: int) -> float:
    """Sum over a process and all its descendants; one that ends meanwhile counts as 0."""
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_full_info().pss
    return total / 2**20


def write_phantom(
    folder: Path,
    cases: int,
    classes: int,
    shape: tuple[int, int, int],
    *,
    spacing_xyz: tuple[float, ...] = (0.9, 0.9, 2.5),
) -> None:
    """CT-like volumes: air, a body, and in it round organs, the last of which is small and in every third case only."""
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for case in range(cases):
        image, label = phantom_case(case, classes, shape)
        spacing = tuple(float(mm) for mm in np.random.default_rng(case).normal(1, 0.03, 3) * spacing_xyz)
        for array, name in ((image, f"imagesTr/case_{case:02d}_0000"), (label, f"labelsTr/case_{case:02d}")):
            volume = sitk.GetImageFromArray(array)
            volume.SetSpacing(spacing)
            sitk.WriteImage(volume, str(folder / f"{name}.nii.gz"))
    labels = {"background": 0, **{f"organ {i}": i for i in range(1, classes + 1)}}
    content = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": cases, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(content))


def phantom_case(seed: int, classes: int, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng([seed, 1])
    size = tuple(int(n + random.integers(-8, 9)) for n in shape)
    grid = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in size), indexing="ij", sparse=True)
    body = grid[0] ** 2 / 4 + grid[1] ** 2 + grid[2] ** 2 < 0.8
    image = np.where(body, 40.0, -1000.0).astype(np.float32)
    label = np.zeros(size, np.uint8)
    for index in range(1, classes + 1):
        if index == classes and seed % 3:
            continue
        radius = 0.08 if index == classes else 0.5 / classes ** (1 / 3)
        center = random.uniform(-0.45, 0.45, 3)
        inside = sum((g - c) ** 2 for g, c in zip(grid, center, strict=True)) < radius**2
        label[inside & body] = index
        image[inside & body] = 40 + 30 * index
    noise = gaussian_filter(random.normal(0, 1, size).astype(np.float32), 0.7)
    return (image + noise * 40).astype(np.int16), label


def print_table(rows: dict[str, Usage], what: str) -> None:
    print(f"{what}\n{'':18s}{'wall s':>9s}{'CPU s':>9s}{'PSS MB':>9s}")
    for name, usage in rows.items():
        print(f"{name:18s}{usage.wall_s:9.1f}{usage.cpu_s:9.1f}{usage.pss_mb:9.0f}")
    if "nnU-Net 2.8.1" in rows:
        peer = rows["nnU-Net 2.8.1"]
        for name, usage in rows.items():
            if usage is not peer:
                wall, cpu, memory = (a / b for a, b in zip(usage, peer, strict=True))
                print(f"{name}: {wall:.3f} of the wall time, {cpu:.3f} of the CPU seconds, {memory:.2f} of the memory")


if __name__ == "__main__":
    sys.exit(main())
