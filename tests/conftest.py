"""Fixtures for all tests, and how many run at once."""

import os
from pathlib import Path

import pytest

# One compute thread a test process, set before torch is imported: tests run side by side, and training that times how many
# threads are fastest would choose anew in every run, so that weights of two runs could differ by rounding.
os.environ["OMP_NUM_THREADS"] = "1"

# Run by tests in processes of their own.
SCRIPTS = ("second_device_checks.py", "operator_checks.py", "nnunet_driver.py", "nnunet_start.py")


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real scans, named by UNETRPP_TEST_DATA."""
    folder = os.environ.get("UNETRPP_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("UNETRPP_TEST_DATA names no folder of real scans")
    return Path(folder)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Collecting doctests imports every file. Importing one gives the whole process a simulated device, others need nnU-Net."""
    alone = str(collection_path) in config.args
    return True if collection_path.name in SCRIPTS and not alone else None


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """As many test processes as this one may use cores; a container may allow fewer than the machine has."""
    from unetrpp.core.machine import usable_cores

    return usable_cores()
