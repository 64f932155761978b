"""Several problems in one error; and what the system refused, in words, however a library says it."""

import errno
import os
import sys

import numpy as np
import pytest
import torch

from unetrpp.core.errors import UserError, in_words, limit_of, no_more_files, refuse, system_refusal


def caused(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), errno.ENOSPC),
        (OSError(errno.ENOENT, "No such file"), None),
        (RuntimeError("ITK ERROR: cannot be written: c.mha\nReason: File too large"), errno.EFBIG),
        (RuntimeError("std::bad_alloc"), errno.ENOMEM),
        (RuntimeError("can't start new thread"), errno.EAGAIN),
        (ImportError("libx.so: failed to map segment from shared object"), errno.ENOMEM),
        (MemoryError(), errno.ENOMEM),
        (SystemError("error return without exception set"), errno.ENOMEM),
        (SystemError("<built-in function f> returned NULL without setting an exception"), errno.ENOMEM),
        (OSError("out of memory error when writing image file"), errno.ENOMEM),
        (RuntimeError("could not create a primitive"), errno.ENOMEM),
        (RuntimeError("could not create a primitive descriptor for a convolution"), None),
        (caused(RuntimeError("write failed"), OSError(errno.EMFILE, "Too many open files")), errno.EMFILE),
        (ValueError("odd"), None),
        (UserError("No space left on device is what the label says"), None),
    ],
)
def test_the_number_of_what_was_refused(error, number):
    assert limit_of(error) == number


def test_memory_that_libraries_do_not_get():
    for ask in (lambda: np.empty(1 << 60, np.uint8), lambda: torch.empty(1 << 60)):
        with pytest.raises((MemoryError, RuntimeError)) as raised:
            ask()
        assert in_words(raised.value).startswith("memory ran out; end other programs")


@pytest.mark.parametrize(
    "text",
    [
        "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 7.79 GiB",
        "CUDA error: out of memory",
        "HIP out of memory. Tried to allocate 2.00 GiB",
        "MPS backend out of memory (MPS allocated: 8.00 GB)",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    ],
)
def test_the_memory_of_a_gpu_is_not_that_of_the_machine(text):
    assert in_words(RuntimeError(text)).startswith("the GPU's memory ran out; end other programs that use it")


def test_each_sentence_has_file_reason_and_repair():
    error = OSError(errno.EFBIG, "File too large", "out/a.nii.gz")
    assert in_words(error).startswith("out/a.nii.gz: File too large; raise the limit on file sizes (ulimit -f)")
    assert in_words(OSError(errno.EMFILE, "Too many open files")).startswith(
        "Too many open files; raise the limit (ulimit -n)"
    )
    assert in_words(UserError("is empty", case="a")) == "a: is empty"
    assert in_words(ValueError("odd")) == "ValueError: odd (--debug shows where)"
    assert in_words(OSError(errno.ENOENT, "No such file", "a")) == "a: No such file (--debug shows where)"


def test_only_what_the_system_refuses_is_its_refusal():
    refusal = system_refusal(RuntimeError("ITK: Too many open files"), "a.mha")
    assert refusal is not None
    assert in_words(refusal).startswith("a.mha: Too many open files; raise the limit (ulimit -n)")
    assert system_refusal(ValueError("odd"), "a.mha") is None


def test_all_problems_are_in_one_error():
    refuse([], "plans.json")
    with pytest.raises(UserError, match=r"^plans\.json: is red; paint it$"):
        refuse(["is red; paint it"], "plans.json")
    with pytest.raises(UserError, match=r"^plans\.json has 2 errors:\n- is red\n- is wet$"):
        refuse(["is red", "is wet"], "plans.json")


@pytest.mark.skipif(sys.platform == "win32", reason="limits of processes")
def test_files_run_out_a_few_before_the_last():
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert not no_more_files()
    free = os.open(os.devnull, os.O_RDONLY)  # the lowest free descriptor
    os.close(free)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + 3, before[1]))
        assert no_more_files()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert not no_more_files()
