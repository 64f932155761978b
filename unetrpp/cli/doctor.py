"""`unetrpp_doctor`: versions, devices, cores, memory and disk of this machine, and what will not work on it."""

import argparse
import os
import platform
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING

from unetrpp import __version__
from unetrpp.core.command_line import Parser, run
from unetrpp.core.reply import Outcome

if TYPE_CHECKING:
    import torch
    from packaging.requirements import Requirement

    from unetrpp.core.workspace import Workspace

LITTLE_DISK = 10 * 2**30
PARTS = {"raw dataset": "raw/*", "preprocessed dataset": "preprocessed/*", "model": "results/*/*"}
EXAMPLES = """
unetrpp_doctor
unetrpp_doctor --workspace /data/unetrpp
unetrpp_doctor > report.txt    paste it into a bug report
"""


@dataclass(frozen=True)
class Finding:
    """One line of the report. ``problem`` is empty where all is well; ``fatal`` problems stop commands."""

    topic: str
    text: str
    problem: str = ""
    fatal: bool = False


@dataclass(frozen=True)
class Diagnosis:
    """The whole report."""

    python: str
    platform: str
    findings: tuple[Finding, ...]


def build_parser() -> Parser:
    return Parser(
        "unetrpp_doctor",
        "Print versions, devices, cores, memory and the workspace's disk for a bug report, and say what will not work. "
        "Ends with 2 if something will not, else with 0. Nothing is changed.",
        EXAMPLES,
    )


def main(argv: Sequence[str] | None = None) -> int:
    return run(build_parser(), work, argv)


def result_types() -> dict[str, object]:
    """What ``--json`` gives."""
    return {"": Diagnosis}


def work(arguments: argparse.Namespace) -> Outcome:
    from unetrpp.core.workspace import Workspace

    found = [*packages(), *processor(), *devices(), *workspace_disk(Workspace.find(arguments.workspace))]
    print(f"unetrpp {__version__}, Python {platform.python_version()}, {platform.platform()}")
    for finding in found:
        print(textwrap.fill(finding.text, 114, initial_indent=f"{finding.topic:14s}", subsequent_indent=14 * " "))
    fatal = [f"{f.topic}: {f.problem}" for f in found if f.fatal]
    doubtful = [f"{f.topic}: {f.problem}" for f in found if f.problem and not f.fatal]
    print("\n".join(["\nwill not work:", *fatal]) if fatal else "\nno problem was found that stops a command")
    if doubtful:
        print("\n".join(["\nto look at:", *doubtful]))
    return Outcome(Diagnosis(platform.python_version(), platform.platform(), tuple(found)), 2 if fatal else 0)


def packages() -> Iterator[Finding]:
    """Versions of the required packages, then of those of every extra."""
    from packaging.requirements import Requirement

    groups: dict[str, list[Requirement]] = {"": []}
    for line in requires("unetrpp") or []:
        requirement = Requirement(line)
        extra = "" if requirement.marker is None else str(requirement.marker).partition("extra == ")[2].strip("\"'")
        groups.setdefault(extra, []).append(requirement)
    for extra, requirements in groups.items():
        installed = {r.name: _version(r.name) for r in requirements}
        old = [
            f"{r.name}{r.specifier} is needed, {installed[r.name]} is there"
            for r in requirements
            if _is_old(installed[r.name], r)
        ]
        missing = [name for name, found in installed.items() if found is None]
        text = ", ".join(f"{name} {found}" for name, found in installed.items() if found is not None)
        if extra:
            what = f"not installed: {', '.join(missing)}" if missing else ""
            parts = " | ".join(part for part in (text, what) if part)
            yield Finding(f"[{extra}]", parts, "; ".join(old))
        else:
            problem = "; ".join([*old, *(f"{name} is missing" for name in missing)])
            yield Finding("packages", text, problem and f"{problem}; install unetrpp again with pip", bool(problem))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _is_old(installed: str | None, requirement: "Requirement") -> bool:
    return installed is not None and not requirement.specifier.contains(installed, prereleases=True)


def processor() -> Iterator[Finding]:
    import psutil
    import torch

    from unetrpp.core.devices import half_precision
    from unetrpp.core.machine import available_memory, usable_cores
    from unetrpp.core.text import counted, format_bytes

    cores, threads = usable_cores(), torch.get_num_threads()
    asked = os.environ.get("OMP_NUM_THREADS", "not set")
    used = counted(min(threads, cores), "thread")
    text = f"{cores} of {os.cpu_count()} cores may be used; commands compute with {used} (OMP_NUM_THREADS: {asked})"
    training = str(half_precision(torch.device("cpu")) or torch.float32).removeprefix("torch.")
    yield Finding("processor", f"{text}; training in {training}")
    total = psutil.virtual_memory().total
    yield Finding("memory", f"{format_bytes(available_memory())} of {format_bytes(total)} may be used")
    yield Finding("OpenMP", *_openmp())


def _openmp() -> tuple[str, str]:
    """The OpenMP libraries that are loaded, and what is wrong with their combination."""
    import SimpleITK  # noqa: F401  # loads its own
    from threadpoolctl import threadpool_info

    names = sorted({info["prefix"] for info in threadpool_info() if info["user_api"] == "openmp"})
    mixed = (
        f"{' and '.join(names)} are loaded together, which can crash or block; reinstall the packages from one source"
    )
    return ", ".join(names) or "none", mixed if len(set(names) & {"libiomp", "libomp"}) > 1 else ""


def devices() -> Iterator[Finding]:
    """The CPU, NVIDIA GPUs and Apple's, each with a convolution and its gradient as a trial."""
    import torch

    yield _device(torch.device("cpu"), platform.processor() or platform.machine())
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        yield _device(torch.device("cuda", i), _gpu(i))
    if torch.cuda.is_available():
        return
    if shutil.which("nvidia-smi") is not None:
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        why = f"torch {torch.__version__} ({built}) cannot use the NVIDIA GPU of this machine; install a torch that fits its driver"
        yield Finding("cuda", "no GPU that torch can use", why)
    if torch.backends.mps.is_available():
        yield _device(torch.device("mps"), "Apple GPU")


def _gpu(i: int) -> str:
    """Name, memory and compute capability of GPU ``i``."""
    import torch

    from unetrpp.core.devices import half_precision
    from unetrpp.core.text import format_bytes

    properties = torch.cuda.get_device_properties(i)
    free, total = torch.cuda.mem_get_info(i)
    half = str(half_precision(torch.device("cuda", i))).removeprefix("torch.")
    return (
        f"{properties.name}, {format_bytes(free)} of {format_bytes(total)} free, "
        f"compute capability {properties.major}.{properties.minor}, {half}, CUDA {torch.version.cuda}"
    )


def _device(device: "torch.device", text: str) -> Finding:
    error = trial(device)
    problem = f"a convolution fails ({error}); use another device" if error else ""
    return Finding(str(device), text, problem, bool(error))


def trial(device: "torch.device") -> str:
    """Compute a convolution and its gradient; returns the first line of the error, empty where it works."""
    import torch

    try:
        layer = torch.nn.Conv3d(1, 4, 3).to(device)
        layer(torch.ones(1, 1, 8, 8, 8, device=device)).sum().backward()
        gradient = layer.weight.grad
        return "" if gradient is not None and gradient.isfinite().all().item() else "its gradient is not finite"
    except RuntimeError as error:
        return str(error).partition("\n")[0]


def workspace_disk(workspace: "Workspace") -> Iterator[Finding]:
    """What the workspace holds, whether it can be written, and the free disk."""
    from unetrpp.core.text import counted, format_bytes

    root = workspace.root.absolute()
    existing = next(folder for folder in (root, *root.parents) if folder.exists())
    count = {part: len([p for p in root.glob(pattern) if p.is_dir()]) for part, pattern in PARTS.items()}
    holds = ", ".join(counted(n, part) for part, n in count.items()) if root.is_dir() else "does not exist yet"
    yield Finding("workspace", f"{root}: {holds}", problem := _not_writable(existing), bool(problem))
    free = shutil.disk_usage(existing).free
    little = f"less than {format_bytes(LITTLE_DISK)} are free; preprocessed cases and checkpoints may not fit"
    yield Finding("disk", f"{format_bytes(free)} free", little if free < LITTLE_DISK else "")


def _not_writable(folder: Path) -> str:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return f"{folder} cannot be written ({error.strerror}); give another --workspace"


if __name__ == "__main__":
    sys.exit(main())
