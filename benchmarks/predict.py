"""What a prediction run costs on top of the network's forward passes, process start excluded.

    python benchmarks/predict.py -m MODEL_FOLDER -i IMAGES [--cases 10] [--mirroring] [--device cuda]
    python benchmarks/predict.py -m MODEL_FOLDER -i IMAGES --cases 100 --memory

First the forward passes alone, over cases that are preprocessed already; then the whole pipeline of unetrpp_predict
from files to files. CPU seconds stand beside wall seconds, for machines that are not quiet. With --memory the pipeline
alone, and the peak resident memory of the process (POSIX only).
"""

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from unetrpp.images import read_image
from unetrpp.inference.ensemble import Ensemble
from unetrpp.inference.folder import Request, predict_folder
from unetrpp.inference.inputs import Cases, find_cases
from unetrpp.inference.predictor import Predictor


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
    """Of this process so far; macOS counts in bytes, Linux in kB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def whole_pipeline(predictor: Predictor, cases: Cases) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as out:
        return clocked(lambda: predict_folder(Ensemble([predictor]), cases, Request(Path(out))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", type=Path, required=True)
    parser.add_argument("-i", "--input", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=10)
    parser.add_argument("--folds", nargs="+", default=["0"])
    parser.add_argument("--mirroring", action="store_true")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--memory", action="store_true", help="the pipeline alone, and the peak memory")
    arguments = parser.parse_args()

    def load() -> Predictor:
        return Predictor(arguments.model, arguments.folds, arguments.device, mirroring=arguments.mirroring)

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
    wall, cpu = whole_pipeline(predictor, cases)
    print(f"{len(cases)} cases, {forward.passes} forward passes, device {predictor.device}")
    print(f"{'':16s}{'wall s':>9s}{'CPU s':>9s}\n{'forward alone':16s}{forward.wall:9.2f}{forward.cpu:9.2f}")
    print(f"{'whole pipeline':16s}{wall:9.2f}{cpu:9.2f}")
    print(f"{'on top':16s}{100 * (wall / forward.wall - 1):8.1f}%{100 * (cpu / forward.cpu - 1):8.1f}%")


if __name__ == "__main__":
    main()
