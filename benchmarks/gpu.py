"""Everything about this project's speed that only a GPU can tell, in ten minutes and one table.

    python benchmarks/gpu.py [--minutes 10] [--json gpu.json]
    python benchmarks/gpu.py --parts step attention --minutes 60
    python benchmarks/gpu.py --device cpu --minutes 1

The trainer's step of the UNETR++ presets, `unet` and `resunet`, eager, compiled and with CUDA graphs, in three precisions;
attention computed in two ways; reserved memory against the plan; reading; two epochs of a fold; prediction of a CT with one and
with five folds; export. The dataset is made in a temporary folder, or is a raw folder of yours (--raw). Every figure
for which there is a goal has a verdict. The time is divided over the parts, which take the most important first, and what is left
out is listed: compiling takes minutes. Nothing ends it early: what fails has a row that says so. On a CPU everything is tiny
and only shows that the benchmark works. The JSON file holds versions and figures, and nothing personal: please send it in.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import msgspec
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.gpu_parts.cells import Row, Setting
from benchmarks.gpu_parts.parts import BY_NAME
from benchmarks.gpu_parts.run import here, in_process, run_parts
from benchmarks.gpu_parts.table import as_json, driver, environment, table, verdict
from unetrpp.core.files import write_bytes


def main(argv: list[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    # Not find_device: the processes of the parts use the GPU, and a context here would take its memory.
    device = torch.device(arguments.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    busy_before = driver() if device.type == "cuda" else {}
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        raw = arguments.raw.absolute() if arguments.raw else None
        setting = Setting(str(device), Path(folder), raw, small=device.type == "cpu")
        parts = [BY_NAME[name] for name in arguments.parts]
        runner = here if setting.small else in_process
        try:
            for row in run_parts(parts, setting, arguments.minutes * 60, runner):
                rows.append(row)
                print(f"{row.part}: {row.what}: {verdict(row) or 'measured'}", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            print("interrupted; what was measured so far:", file=sys.stderr)
    found = environment(device) | busy_before
    print("\n".join(f"{name:20s}{value}" for name, value in found.items() if value is not None))
    print(f"\n{table(rows)}")
    if arguments.json:
        write_bytes(arguments.json, msgspec.json.format(msgspec.json.encode(as_json(rows, found, arguments.minutes))))
    return 1 if any(row.outcome == "failed" for row in rows) else 0


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--minutes", type=float, default=10.0, help="for all parts together (default: 10)")
    p.add_argument("--json", type=Path, metavar="FILE", help="also write the results here")
    p.add_argument("--device", help="cuda, cuda:1 or cpu (default: the GPU, if there is one)")
    p.add_argument(
        "--raw", type=Path, metavar="FOLDER", help="a raw dataset instead of the made one; it stays as it is"
    )
    p.add_argument(
        "--parts", nargs="+", default=list(BY_NAME), choices=list(BY_NAME), metavar="PART", help=", ".join(BY_NAME)
    )
    return p


if __name__ == "__main__":
    sys.exit(main())
