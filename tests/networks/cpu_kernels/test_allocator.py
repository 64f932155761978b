"""Keeping freed memory takes effect with glibc and returns False elsewhere."""

import subprocess
import sys

import pytest

from unetrpp.networks.cpu_kernels.allocator import keep_freed_memory

FAULTS = """
import resource, sys, torch
from unetrpp.networks.cpu_kernels.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
x = torch.ones(8 << 20)
y = x + 1
del y
faults = []
for _ in range(10):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    y = x + 1
    del y
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(min(faults))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_a_large_tensor_reuses_its_pages():
    def faults(mode: str) -> int:
        run = subprocess.run([sys.executable, "-c", FAULTS, mode], capture_output=True, text=True, check=True)
        return int(run.stdout)

    assert faults("default") > 1000  # 32 MB in pages of 4 KB are 8192
    assert faults("keep") < 10


def test_other_systems_return_false(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    assert keep_freed_memory() is False
