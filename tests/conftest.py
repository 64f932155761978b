"""Fixtures for all tests."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real scans, named by UNETRPP_TEST_DATA."""
    folder = os.environ.get("UNETRPP_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("UNETRPP_TEST_DATA names no folder of real scans")
    return Path(folder)
