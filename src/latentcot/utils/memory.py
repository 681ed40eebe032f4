"""How a process deals with the memory that it has freed."""

import ctypes
import os
import sys
from contextlib import suppress

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGEST = 2**30
"""Bytes of a block that is kept."""
_ALLOCATORS = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")
"""Whoever sets one of these has chosen."""
_KERNELS = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"


def keep_freed_memory() -> None:
    """Let this process keep the blocks that it frees: each update asks for as much again.

    glibc gives large blocks back to the system, which hands them out page by page, each wiped: 6 to
    17 % of an update's time on a CPU at widths of 512 and 768. In turn oneDNN keeps fewer of the
    kernels that it makes for each shape (of 1,024, which took over 1 GB, 128), so that the peak is
    no higher. Does nothing where there is no glibc, or the environment says otherwise.
    """
    os.environ.setdefault(_KERNELS, "128")
    if sys.platform != "linux" or any(name in os.environ for name in _ALLOCATORS):
        return
    with suppress(AttributeError, OSError):  # another library of C
        mallopt = ctypes.CDLL(None).mallopt
        if not mallopt(_MMAP_THRESHOLD, _LARGEST):  # before glibc 2.34: 32 MiB at most
            mallopt(_MMAP_THRESHOLD, 2**25)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
