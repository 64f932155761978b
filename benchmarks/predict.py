"""What a prediction run costs on top of the network's forward passes, process start excluded.

    python benchmarks/predict.py -m MODEL_FOLDER -i IMAGES [--cases 10] [--mirroring] [--device cuda]
    python benchmarks/predict.py -m U_NET_FOLDER -i IMAGES --device cpu --peer PYTHON_WITH_NNUNETV2
    python benchmarks/predict.py -m MODEL_FOLDER -i IMAGES --cases 100 --memory

First the forward passes alone, over cases that are preprocessed already; then the whole pipeline of unetrpp_predict
from files to files. CPU seconds are printed as well as wall seconds, for machines that do other work. With --peer nnU-Net does the
same with the same U-Net (model of --planner unet), tiles and images, in its sequential and in its multi-process mode.
With --memory the pipeline alone, and the peak resident memory of the process (POSIX only).
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from unetrpp.inference.ensemble import Ensemble
from unetrpp.inference.folder import predict_folder
from unetrpp.inference.inputs import Cases, find_cases
from unetrpp.inference.options import OutputOptions
from unetrpp.inference.predictor import Predictor
from unetrpp.io.images import read_image


class ForwardClock:
    """Adds up the seconds inside the networks' forward passes."""

    def __init__(self, networks: list[nn.Module], device: torch.device):
        self.wall = self.cpu = 0.0
        self.passes = 0
        self._device = device
        for network in networks:
            network.register_forward_pre_hook(self._start)
            network.register_forward_hook(self._stop)

    def _now(self) -> tuple[float, float]:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter(), time.process_time()

    def _start(self, *_: object) -> None:
        self._begin = self._now()

    def _stop(self, *_: object) -> None:
        wall, cpu = self._now()
        self.wall += wall - self._begin[0]
        self.cpu += cpu - self._begin[1]
        self.passes += 1


def clocked(run: Callable[[], object]) -> tuple[float, float]:
    start = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - start[0], time.process_time() - start[1]


def forward_alone(predictor: Predictor, cases: Cases) -> ForwardClock:
    prepared = [predictor.prepare(read_image(files), case) for case, files in cases.items()]
    for _ in predictor.logits(prepared[0]):  # warm up
        pass
    clock = ForwardClock(predictor.networks, predictor.device)
    for case in prepared:
        for _ in predictor.logits(case):
            pass
    return clock


def peak_mb() -> float:
    """Peak memory of this process so far; macOS counts in bytes, Linux in kB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def whole_pipeline(predictor: Predictor, cases: Cases) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as out:
        return clocked(lambda: predict_folder(Ensemble([predictor]), cases, OutputOptions(Path(out))))


def peer(python: str, model: Path, cases: Cases, mirroring: bool) -> dict[str, dict[str, float]]:
    """What benchmarks/predict_peer.py measures in nnU-Net's own environment."""
    files = [str(path.resolve()) for paths in cases.values() for path in paths]
    command = [python, str(Path(__file__).with_name("predict_peer.py")), str(model.resolve()), *files]
    done = subprocess.run([*command, *["--mirroring"] * mirroring], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def show(title: str, forward: tuple[float, float], rows: dict[str, tuple[float, float]]) -> None:
    print(f"{title:40s}{'wall s':>9s}{'CPU s':>9s}{'on top: wall':>14s}{'CPU':>8s}")
    print(f"{'forward passes alone':40s}{forward[0]:9.2f}{forward[1]:9.2f}")
    for name, (wall, cpu) in rows.items():
        print(
            f"{name:40s}{wall:9.2f}{cpu:9.2f}{100 * (wall / forward[0] - 1):13.1f}%{100 * (cpu / forward[1] - 1):7.1f}%"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", type=Path, required=True)
    parser.add_argument("-i", "--input", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=10)
    parser.add_argument("--folds", nargs="+", default=["0"])
    parser.add_argument("--mirroring", action="store_true")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--peer", metavar="PYTHON", help="of an environment with nnunetv2; on the CPU, one-channel images"
    )
    parser.add_argument("--memory", action="store_true", help="the pipeline alone, and the peak memory")
    arguments = parser.parse_args()

    def load() -> Predictor:
        return Predictor(arguments.model, folds=arguments.folds, device=arguments.device, mirroring=arguments.mirroring)

    predictor = load()
    cases = dict(list(find_cases([arguments.input], predictor.model.description).items())[: arguments.cases])
    if arguments.memory:
        loaded = peak_mb()
        wall, cpu = whole_pipeline(predictor, cases)
        print(
            f"{len(cases)} cases: {wall:.1f} wall s, {cpu:.1f} CPU s; peak {peak_mb():.0f} MB, {loaded:.0f} MB loaded"
        )
        return
    forward = forward_alone(load(), cases)
    ours = whole_pipeline(predictor, cases)
    print(f"{len(cases)} cases, {forward.passes} forward passes, device {predictor.device}")
    show("unetrpp", (forward.wall, forward.cpu), {"whole pipeline": ours})
    if arguments.peer:
        theirs = peer(arguments.peer, arguments.model, cases, arguments.mirroring)
        rows = {name: (seconds["wall"], seconds["cpu"]) for name, seconds in theirs.items()}
        show(f"nnU-Net, {theirs['forward']['passes']} forward passes", rows.pop("forward"), rows)


if __name__ == "__main__":
    main()
