"""How the process treats its memory: the garbage collector's and the C library's thresholds."""

import ctypes
import gc

GARBAGE_THRESHOLDS = (20_000, 20, 20)
"""A batch of 200 events is some thousands of small objects that live for its few milliseconds.
With Python's own first threshold of 700 the collector walks through them several times while they
are in use, which takes a tenth of the time of decrypting."""

# glibc's numbers for mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_SETTINGS = {
    # Segments and compressed lines come and go. By itself the C library raises both thresholds to
    # the largest of them it has seen, and from then on gives nothing of that size back.
    _TRIM_THRESHOLD: 1024 * 1024,
    _MMAP_THRESHOLD: 256 * 1024,
    # Otherwise each of our threads keeps free memory of its own.
    _ARENA_MAX: 2,
}


def set_thresholds() -> None:
    """Set them for the rest of the process's life; where the C library is not glibc, Python's only.

    Source: mallopt(3).
    """
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in _SETTINGS.items():
            mallopt(parameter, value)
