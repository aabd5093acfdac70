"""How many threads torch spreads an operation on a CPU over."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch


@contextmanager
def one_if_they_sleep() -> Iterator[None]:
    """The calling thread alone, where OpenMP's threads sleep while they wait; others keep theirs.

    They do unless the environment says otherwise, as those that wait by spinning take the cores of others.
    Waking them for each of a search's operations, which are many and small, takes as long as the operations.
    """
    openmp = _openmp() if os.environ.get("OMP_WAIT_POLICY", "").lower() == "passive" else None
    if openmp is None:
        yield
        return
    count = openmp.omp_get_max_threads()
    openmp.omp_set_num_threads(1)
    try:
        yield
    finally:
        openmp.omp_set_num_threads(count)


@cache
def _openmp() -> Any:
    """The OpenMP that torch runs on, None where it is not to be had.

    `torch.set_num_threads` would not do: it also says how many those threads get that come next.
    """
    before = torch.get_num_threads()
    try:
        openmp = ctypes.CDLL(None)
        openmp.omp_set_num_threads(before + 1)
        ours = torch.get_num_threads() == before + 1
        openmp.omp_set_num_threads(before)
    except (AttributeError, OSError, TypeError):  # the last one on Windows
        return None
    return openmp if ours else None
