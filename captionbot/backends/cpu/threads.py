"""How many threads torch spreads an operation on a CPU over."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, TypeVar

import torch

In = TypeVar("In")
Out = TypeVar("Out")


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


def side_by_side(work: Callable[[In], Out], items: Sequence[In]) -> list[Out]:
    """What `work` makes of each item, in as many threads as torch spreads an operation over, each by itself.

    Cores that do not wait for each other after every operation get more done.
    """
    threads, openmp = min(torch.get_num_threads(), len(items)), _openmp()
    if threads < 2 or openmp is None:
        return [work(item) for item in items]

    def begin() -> None:
        torch.get_num_threads()  # a thread's first question sets the number for it
        openmp.omp_set_num_threads(1)

    inferring, learning = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def alone(item: In) -> Out:
        with torch.inference_mode(inferring), torch.set_grad_enabled(learning):
            return work(item)

    # A pool for this call alone, as a fork takes no threads along.
    with ThreadPoolExecutor(threads, initializer=begin) as pool:
        return list(pool.map(alone, items))


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
