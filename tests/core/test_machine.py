"""Cores and memory by affinity, and by the limits of control groups of both versions."""

from types import SimpleNamespace

import pytest
import torch

from unetrpp.core import machine
from unetrpp.core.devices import find_device, limit_threads
from unetrpp.core.machine import available_memory, default_processes, usable_cores


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A Linux machine with 8 cores and 5000 available bytes; returns a function that writes its control groups."""
    monkeypatch.setattr(machine, "CGROUPS", tmp_path)
    monkeypatch.setattr(machine, "OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=5000))

    def write(own: str, files: dict[str, str]) -> None:
        (tmp_path / "own").write_text(own)
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(f"{text}\n")

    return write


def test_without_control_groups_the_machine_counts(system):
    assert (usable_cores(), available_memory()) == (8, 5000)
    assert (default_processes(1), default_processes(1000), default_processes(1 << 60)) == (8, 5, 1)


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 8), ("200000 100000", 2), ("150000 100000", 2), ("50000 100000", 1)]
)
def test_quota_of_a_container(system, quota, cores):
    system("0::/\n", {"cpu.max": quota})
    assert usable_cores() == cores


@pytest.mark.parametrize(("limit", "left"), [("3000", 2000), ("9000", 5000), ("max", 5000)])
def test_memory_of_a_container(system, limit, left):
    system("0::/\n", {"memory.max": limit, "memory.current": "1000"})
    assert available_memory() == left
    assert default_processes(1000) == left // 1000


def test_pages_of_files_are_given_back_when_memory_is_needed(system):
    system(
        "0::/\n",
        {
            "memory.max": "3000",
            "memory.current": "2900",
            "memory.stat": "anon 400\ninactive_file 2000\nactive_file 500",
        },
    )
    assert available_memory() == 2100


def test_a_group_above_may_have_the_limit(system):
    limits = {"jobs/cpu.max": "300000 100000", "jobs/memory.max": "3000", "jobs/memory.current": "1000"}
    system("0::/jobs/step\n", {**limits, "jobs/step/cpu.max": "max 100000"})
    assert (usable_cores(), available_memory()) == (3, 2000)


def test_the_path_of_the_host_does_not_exist_in_a_container(system):
    system("0::/docker/1234\n", {"cpu.max": "200000 100000"})
    assert usable_cores() == 2


def test_version_1(system):
    own = "5:memory:/job\n3:cpu,cpuacct:/job\n2:cpuset:/other\n0::/\n"
    cpu = {"cpu,cpuacct/job/cpu.cfs_quota_us": "400000", "cpu,cpuacct/job/cpu.cfs_period_us": "100000"}
    memory = {"memory/job/memory.limit_in_bytes": "4000", "memory/job/memory.usage_in_bytes": "500"}
    system(own, {**cpu, **memory, "cpu,cpuacct/cpu.cfs_quota_us": "-1", "cpu,cpuacct/cpu.cfs_period_us": "100000"})
    assert (usable_cores(), available_memory()) == (4, 3500)
    system(own, {"memory/job/memory.stat": "cache 500\ntotal_inactive_file 200"})
    assert available_memory() == 3700


@pytest.fixture
def threads(monkeypatch):
    """The numbers of threads that torch was given; it has 64 at first."""
    given = [64]
    monkeypatch.setattr(torch, "get_num_threads", lambda: given[-1])
    monkeypatch.setattr(torch, "set_num_threads", given.append)
    return given


@pytest.mark.parametrize(("quota", "cores"), [("max 100000", 8), ("200000 100000", 2), ("50000 100000", 1)])
def test_torch_computes_with_the_cores_that_the_container_pays_for(system, threads, quota, cores):
    system("0::/\n", {"cpu.max": quota})
    find_device("cpu")
    assert threads[-1] == cores


def test_fewer_threads_stay_fewer(system, threads):
    threads.append(3)
    find_device("cpu")
    assert threads[-1] == 3


@pytest.mark.parametrize(("processes", "each"), [(1, 8), (2, 4), (3, 2), (9, 1)])
def test_processes_share_the_cores(system, threads, processes, each):
    limit_threads(processes)
    find_device("cpu")  # in each of them
    assert threads[-1] == each
