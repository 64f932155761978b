"""Keep freed memory in the process: on Linux a large tensor otherwise gets new, zeroed pages in every operator."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h


def keep_freed_memory() -> bool:
    """Let glibc's malloc reuse memory instead of handing it back; for processes that compute on a CPU.

    Without it page faults take a fifth to a half of a network's time on a CPU. The process stays as large as it was at
    its peak. True where it took effect (glibc), False elsewhere.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, -1))
