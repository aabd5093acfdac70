"""Networks without numbers, to be given weights or to be asked for their shapes alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_RANDOM = frozenset({torch.Tensor.normal_, torch.Tensor.uniform_})


class _Unfilled(TorchFunctionMode):
    """Leaves out what fills a tensor with first numbers.

    Random numbers on "meta" would make torch import torch._dynamo: a second of every start, for nothing.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        tensor = args[0] if args else (kwargs or {}).get("tensor")
        filling = func in _RANDOM or getattr(func, "__module__", "") == "torch.nn.init"
        if filling and isinstance(tensor, torch.Tensor) and tensor.is_meta:
            return tensor
        return func(*args, **(kwargs or {}))


@contextmanager
def unfilled() -> Iterator[None]:
    """Modules made within have their parameters on "meta": nothing of their size is made or computed."""
    with torch.device("meta"), _Unfilled():
        yield
