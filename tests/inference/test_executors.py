"""Reading and writing while the network runs, or synchronously."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from unetrpp.inference.executors import SynchronousExecutor, io_executor, prefetch


def test_only_another_device_leaves_the_processor_free_for_threads():
    with io_executor(torch.device("cpu")) as executor:
        assert executor.submit(threading.get_ident).result() == threading.get_ident()
    with io_executor(torch.device("cuda")) as executor:
        assert executor.submit(threading.get_ident).result() != threading.get_ident()


def test_a_synchronous_error_belongs_to_its_future():
    future = SynchronousExecutor().submit(int, "no number")
    assert isinstance(future.exception(), ValueError)
    assert SynchronousExecutor().submit(int, "12", base=8).result() == 10


@pytest.mark.parametrize("count", [0, 1, 2, 9])
def test_prefetch_keeps_the_order_and_submits_no_more_than_count_ahead(count):
    submitted: list[int] = []

    def square(n: int) -> int:
        submitted.append(n)
        return n * n

    seen = []
    for used, (item, future) in enumerate(prefetch(SynchronousExecutor(), square, range(5), count)):
        seen.append((item, future.result()))
        assert len(submitted) == min(5, used + 1 + count)
    assert seen == [(n, n * n) for n in range(5)]


def test_prefetch_works_in_a_thread():
    with ThreadPoolExecutor(1) as executor:
        assert [future.result() for _, future in prefetch(executor, str, range(4), 2)] == ["0", "1", "2", "3"]
