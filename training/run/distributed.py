"""The processes that train one captioner together, under `torchrun`, or the one that trains it alone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch import distributed as dist

from captionbot.errors import CaptionBotError

PATIENCE = timedelta(hours=6)  # the others wait so long for the first, which fills the caches


@dataclass(frozen=True)
class World:
    """All processes of a run, and which of them this one is."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def main(self) -> bool:
        """The one that writes files and talks."""
        return self.rank == 0

    def share(self, items: np.ndarray) -> np.ndarray:
        """This process's part of what is to be done, near equal ones in the order of the ranks."""
        return np.array_split(items, self.size)[self.rank]

    def sum(self, numbers: Sequence[float]) -> list[float]:
        """The sums of all processes' numbers."""
        if self.size == 1:
            return list(numbers)
        # not every device has double precision, and these sums decide nothing that needs it
        tensor = torch.tensor(numbers, dtype=torch.float32, device=self.device)
        dist.all_reduce(tensor)
        return tensor.tolist()

    def gather(self, items: list[Any]) -> list[Any]:
        """The lists of all processes as one, in the order of the ranks."""
        if self.size == 1:
            return items
        lists: list[Any] = [None] * self.size
        dist.all_gather_object(lists, items)
        return [item for part in lists for item in part]

    def add_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Give every process the sum of all processes' gradients."""
        if self.size == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view(gradient.shape))

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The first process goes ahead, so that the others find its caches."""
        if self.size > 1 and not self.main:
            dist.barrier()
        yield
        if self.size > 1 and self.main:
            dist.barrier()


def device_of(name: str) -> torch.device:
    """A device by its name; CaptionBotError where torch cannot use it here."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:  # of an unknown name, and of one that is not there
        reason = str(error).splitlines()[0]
        raise CaptionBotError(
            f"The device '{name}' cannot be used ({reason}); give --device cpu, or cuda where there is a GPU."
        ) from error
    return device


@contextmanager
def join_world(device: str) -> Iterator[World]:
    """The world that `torchrun` started this process in (nccl on GPUs, else gloo), or a world of one."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World(device_of(device))
        return
    own = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if device == "cuda" else device_of(device)
    if own.type == "cuda":
        torch.cuda.set_device(own)
    dist.init_process_group("nccl" if own.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield World(own, dist.get_rank(), size)
    finally:
        dist.destroy_process_group()
