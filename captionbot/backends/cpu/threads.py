"""How many threads torch spreads an operation on a CPU over."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import torch


@cache
def one_after_a_fork() -> None:
    """Let processes that are forked from now on begin with one thread.

    A fork takes no threads along, and OpenMP would wait for its own for ever. Data loaders do this too.
    """
    if hasattr(os, "register_at_fork"):  # not on Windows
        os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))


@contextmanager
def one_unless_they_spin() -> Iterator[None]:
    """The calling thread alone, unless the environment lets threads spin while they wait; others keep theirs.

    Waking them for each of a search's operations, which are many and small, takes as long as the operations.
    """
    openmp = None if os.environ.get("OMP_WAIT_POLICY", "").lower() == "active" else _openmp()
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
