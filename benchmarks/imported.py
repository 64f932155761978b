"""An imported nnU-Net model beside nnU-Net 2.8.1 itself: the same weights and images, from files to files.

    python benchmarks/imported.py --peer PYTHON_WITH_NNUNETV2 [--classes 3 25 117] [--cases 2] [--mirroring]
    python benchmarks/imported.py --peer PYTHON_WITH_NNUNETV2 --classes 25 --depths 64 128 256 --cases 1

Model folders with random weights are made by nnU-Net and imported, CT phantoms are made here. One table: wall time and CPU
seconds of whole processes, their peak memory (the sum of proportional set sizes, Linux), the CPU seconds of the forward
passes, and those on top of them once the program is loaded. nnU-Net runs in its sequential mode, which takes least
memory, and with its worker processes, as its command does.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import preprocessing
import SimpleITK as sitk
from predict import ForwardClock, clocked

from unetrpp.inference.ensemble import Ensemble
from unetrpp.inference.folder import predict_folder
from unetrpp.inference.inputs import find_cases
from unetrpp.inference.options import OutputOptions
from unetrpp.inference.predictor import Predictor

DEPTH, SIZE = 96, 256
SPACING_XYZ = (0.9, 0.9, 2.5)
PEER = Path(__file__).with_name("imported_peer.py")


class Row(NamedTuple):
    program: str
    usage: preprocessing.Usage
    forward_s: float  # CPU seconds
    on_top_s: float  # CPU seconds


def write_images(folder: Path, cases: int, depth: int) -> list[Path]:
    folder.mkdir()
    files = []
    for case in range(cases):
        image, _ = preprocessing.phantom_case(case, 20, (depth, SIZE, SIZE))
        volume = sitk.GetImageFromArray(image)
        volume.SetSpacing(SPACING_XYZ)
        files.append(folder / f"case_{case:02d}_0000.nii.gz")
        sitk.WriteImage(volume, str(files[-1]))
    return files


def predict_here(model: Path, out: Path, images: Path, mirroring: bool) -> None:
    """Predict in this process; what it took goes into OUT.json."""
    predictor = Predictor(model, mirroring=mirroring, device="cpu")
    cases = find_cases([images], predictor.model.description)
    clock = ForwardClock(predictor.networks, predictor.device)
    wall, cpu = clocked(lambda: predict_folder(Ensemble([predictor]), cases, OutputOptions(out)))
    report = {"wall": wall, "cpu": cpu, "forward": clock.cpu, "passes": clock.passes}
    out.with_suffix(".json").write_text(json.dumps(report))


def measure(program: str, command: list[str], out: Path) -> Row:
    usage = preprocessing.run(command, {})
    report = json.loads(out.with_suffix(".json").read_text())
    return Row(program, usage, report["forward"], report["cpu"] - report["forward"])


def equal_share(ours: Path, theirs: Path) -> float:
    """The share of voxels with equal labels, over all cases."""
    pairs = [(sitk.ReadImage(str(f)), sitk.ReadImage(str(theirs / f.name))) for f in sorted(ours.glob("*.nii.gz"))]
    equal = [sitk.GetArrayViewFromImage(a) == sitk.GetArrayViewFromImage(b) for a, b in pairs]
    return sum(int(each.sum()) for each in equal) / sum(each.size for each in equal)


def compare(folder: Path, classes: int, depth: int, arguments: argparse.Namespace) -> list[Row]:
    """Make the model and the images in ``folder``, predict them with every program, and print the table."""
    model, images = folder / "Dataset900_Phantom" / "nnUNetTrainer__nnUNetPlans__3d_fullres", folder / "images"
    files = [str(file) for file in write_images(images, arguments.cases, depth)]
    preprocessing.run([arguments.peer, str(PEER), "make", str(model), "--classes", str(classes)], {})
    workspace = ["--workspace", str(folder / "workspace")]
    preprocessing.run([sys.executable, "-m", "unetrpp", "import", str(model), *workspace], {})
    imported = next((folder / "workspace" / "results").glob("*/*__3d_fullres"))
    mirroring = ["--mirroring"] * arguments.mirroring
    here, sequential, parallel = (folder / name for name in ("here", "sequential", "parallel"))
    peer = [arguments.peer, str(PEER), "predict", str(model)]
    command = [sys.executable, __file__, "--predict", str(imported), str(here), str(images), *mirroring]
    rows = [
        measure("unetrpp", command, here),
        measure("nnU-Net, sequential", [*peer, str(sequential), *files, *mirroring], sequential),
        measure("nnU-Net, its workers", [*peer, str(parallel), *files, *mirroring, "--parallel"], parallel),
    ]
    show(rows, f"{classes} classes, {arguments.cases} x {depth} x {SIZE} x {SIZE} voxels")
    print(f"equal labels: {100 * equal_share(here, sequential):.4f}% of voxels\n", flush=True)
    return rows


def show(rows: list[Row], title: str) -> None:
    print(f"{title:44s}{'wall s':>8s}{'CPU s':>8s}{'peak MB':>9s}{'forward CPU s':>15s}{'on top CPU s':>14s}")
    for row in rows:
        usage, apart = row.usage, f"{row.forward_s:15.1f}{row.on_top_s:14.1f}"
        print(f"{row.program:44s}{usage.wall_s:8.1f}{usage.cpu_s:8.1f}{usage.pss_mb:9.0f}{apart}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", metavar="PYTHON", help="of an environment with nnunetv2 2.8.1")
    parser.add_argument("--classes", type=int, nargs="+", default=[3, 25, 117], help="with background")
    parser.add_argument("--depths", type=int, nargs="+", default=[DEPTH], help="slices of the images")
    parser.add_argument("--cases", type=int, default=2)
    parser.add_argument("--mirroring", action="store_true")
    parser.add_argument("--predict", type=Path, nargs=3, metavar=("MODEL", "OUT", "IMAGES"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.predict:
        predict_here(*arguments.predict, arguments.mirroring)
        return
    if arguments.peer is None:
        parser.error("--peer is missing")
    for classes in arguments.classes:
        for depth in arguments.depths:
            with tempfile.TemporaryDirectory() as folder:
                compare(Path(folder), classes, depth, arguments)


if __name__ == "__main__":
    main()
