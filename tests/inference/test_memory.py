"""What is kept on a device of a given free memory."""

import itertools

import pytest
import torch

from unetrpp.inference import memory
from unetrpp.inference.export import split_slabs
from unetrpp.inference.memory import accumulator_kind, image_device, part_values

GPU, HOST = torch.device("cuda", 0), torch.device("cpu")


@pytest.fixture
def free(monkeypatch):
    """A function that sets the free memory of every device, in bytes."""
    return lambda value: monkeypatch.setattr(memory, "free_memory", lambda device: value)


@pytest.mark.parametrize("total", [0, 7, 64, 1000, 4096])
def test_forward_passes_keep_half_of_the_memory(free, total):
    for size, values in itertools.product((0, 1, 50, 120, 512, 5000), (1, 10, 100, 460, 1000)):
        free(total)
        place = image_device(size, GPU)
        taken = size * (place == GPU)
        left = total - taken
        free(left)
        kept, dtype = accumulator_kind(values, GPU, taken)
        left -= values * dtype.itemsize * (kept == GPU)
        assert left >= total / 2
        if kept == HOST:
            assert dtype == torch.float32
            assert values * 2 > total / 2 - taken - 1  # it did not fit in float16 either
        if place == HOST:
            assert size > total / 8


def test_devices_that_do_not_say_keep_everything():
    for device in (HOST, torch.device("mps")):
        assert image_device(1 << 60, device) == device
        assert accumulator_kind(1 << 60, device) == (device, torch.float32)


@pytest.mark.parametrize(("gigabytes", "parts"), [(None, 11), (0.5, 11), (8, 3), (80, 1)])
def test_parts_of_export_are_larger_on_a_device_with_memory(free, gigabytes, parts):
    """Every part launches the same number of kernels."""
    free(None if gigabytes is None else int(gigabytes * (1 << 30)))
    slab = torch.zeros(()).expand(5, 4, 64, 256, 256)  # 84 million values, none of them stored
    assert len(list(split_slabs([slab]))) == parts
    assert part_values(GPU) >= 1 << 23
