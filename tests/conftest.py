"""Fixtures for all tests."""

import os
from pathlib import Path

import pytest

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
