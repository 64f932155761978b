"""Devices by name."""

import pytest

from unetrpp.devices import find_device
from unetrpp.errors import UserError


def test_an_unknown_device_is_refused():
    with pytest.raises(UserError, match="device 'tpu' is none of auto, cuda, mps, cpu"):
        find_device("tpu")


def test_auto_finds_one():
    assert find_device("auto").type in ("cuda", "mps", "cpu")
