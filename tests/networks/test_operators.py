"""The number of operators, and of autocast's casts, in a step of every network on a GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.second_device import is_possible

CHECKS = Path(__file__).parents[1] / "helpers" / "operator_checks.py"


@pytest.mark.slow
@pytest.mark.skipif(not is_possible(), reason="this torch lets no Python code be a device")
def test_networks_dispatch_few_operators():
    """In a process of its own, because a device must be registered before the first backward pass and stays registered."""
    line = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(CHECKS)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(line, env=environment, cwd=CHECKS.parents[2], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout
