"""The cores and the memory that this process may use: a batch system or a container may leave less than the machine has."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

import psutil

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")  # lines ID:CONTROLLERS:PATH; version 2 has one with no controllers


def usable_cores() -> int:
    """Cores that this process may use, by its affinity and by the CPU quotas of its Linux control groups."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *_quotas()]))


def available_memory() -> int:
    """Bytes that new processes may take: what the system has available, or less where a control group leaves less."""
    return min([int(psutil.virtual_memory().available), *_memory_left()])


def default_processes(bytes_a_case: int) -> int:
    """As many processes as there are cores, or fewer where the memory does not hold that many cases at once."""
    return max(1, min(usable_cores(), available_memory() // max(bytes_a_case, 1)))


def _quotas() -> Iterator[int]:
    """Cores that each control group pays for, rounded up."""
    for folder in _cgroups("cpu"):
        for names in (["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]):
            quota = _numbers(folder, names)
            if quota is not None and quota[0] > 0:  # -1 is no limit
                yield math.ceil(quota[0] / quota[1])


def _memory_left() -> Iterator[int]:
    for folder in _cgroups("memory"):
        for names, cached in (
            (["memory.max", "memory.current"], "inactive_file"),
            (["memory.limit_in_bytes", "memory.usage_in_bytes"], "total_inactive_file"),
        ):
            memory = _numbers(folder, names)
            if memory is not None:
                yield memory[0] - memory[1] + _statistic(folder / "memory.stat", cached)


def _statistic(path: Path, name: str) -> int:
    """A number of a control group's memory.stat: pages of files, say, which count as used and are given back when memory is needed."""
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return 0
    return next((int(line[1]) for line in lines if len(line) == 2 and line[0] == name), 0)


def _cgroups(controller: str) -> Iterator[Path]:
    """Folders of the control groups that this process is in, and of those above; of version 2 and of version 1.

    In a container the path may be the host's, and its own group is the top folder.
    """
    try:
        lines = OWN_CGROUPS.read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "" or controller in controllers.split(","):
            top = CGROUPS / controllers
            group = top / path.strip("/")
            yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(top))


def _numbers(folder: Path, names: list[str]) -> list[int] | None:
    """The numbers in these files; None where one is missing, or says "max"."""
    try:
        return [int(word) for name in names for word in (folder / name).read_text().split()]
    except (OSError, ValueError):
        return None
