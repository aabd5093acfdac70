"""Weights to begin with, and files of a run, which must survive a kill and a full disk."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from captionbot.errors import CaptionBotError
from captionbot.files import aside
from captionbot.store.card import unpack

CHECKPOINT = "checkpoint.pt"


def prepare_folder(out: Path, used: bool) -> None:
    """Make the folder of a run or of a captioner before any work; `used` where it may have an earlier run."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CaptionBotError(
            f"The folder {out} cannot be made ({error.strerror}); give another --out."
        ) from error
    if not os.access(out, os.W_OK):
        raise CaptionBotError(f"The folder {out} cannot be written to (no permission); give another --out.")
    if not used and (out / CHECKPOINT).exists():
        raise CaptionBotError(
            f"{out} has a run already; go on with it by --resume, give another --out, or put a new run in "
            "its place by --replace."
        )


def check_outputs(outputs: Sequence[Path], inputs: Iterable[Path | None]) -> None:
    """Refuse, before any work, files that cannot be written or that would replace what is read."""
    if len(set(outputs)) < len(outputs):
        raise CaptionBotError(
            f"{outputs[0]} is also the name of a file that is left beside it; give another --out."
        )
    there = [path for path in inputs if path and path.exists()]
    for path in outputs:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            exists = path.exists()
        except OSError as error:
            raise CaptionBotError(
                f"{path} cannot be written ({error.strerror}); give another --out."
            ) from error
        if path.is_dir():
            raise CaptionBotError(f"{path} is a folder; give a file as --out.")
        if exists and any(path.samefile(read) for read in there):
            raise CaptionBotError(f"{path} is read and would be replaced; give another --out.")
        if not os.access(path if exists else path.parent, os.W_OK):
            raise CaptionBotError(f"{path} cannot be written (no permission); give another --out.")


@contextmanager
def written(what: str, folder: Path, remedy: str = "go on with --resume") -> Iterator[None]:
    """Turn what goes wrong while a file is written into a sentence; the file that was there is whole.

    remedy: what to do once there is room.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or _reason(error)
        raise CaptionBotError(
            f"{what} could not be written to {folder} ({reason}); the last one there is whole. "
            f"Make room and {remedy}."
        ) from error


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """state: tensors, plain numbers and containers of them, so that nothing has to be unpickled."""
    with written("The checkpoint", path.parent), aside(path) as partial, partial.open("wb") as file:
        torch.save(state, file)


def load_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch raises whatever its zip reader and unpickler raise
        raise CaptionBotError(
            f"{path} is not a checkpoint that can be read ({_reason(error)}); take it away and start again "
            "without --resume."
        ) from error


def other_run(folder: Path, error: Exception) -> CaptionBotError:
    """What to say of a checkpoint that a run cannot take over."""
    return CaptionBotError(
        f"The checkpoint in {folder} is of another captioner or stage than this configuration's "
        f"({_reason(error)}); resume with the one it was begun with, or give another --out."
    )


def read_weights(path: Path) -> dict[str, Tensor]:
    """fp32 tensors of a .safetensors file, as they were before packing, or of a .pth of torchvision."""
    from safetensors.torch import load_file

    if not path.is_file():
        raise CaptionBotError(f"There are no weights at {path}; give a .safetensors or .pth file.")
    try:
        pickled = path.suffix in (".pth", ".pt")
        found = torch.load(path, map_location="cpu", weights_only=True) if pickled else load_file(path)
        return unpack(found)
    except Exception as error:  # torch raises whatever its zip reader and unpickler raise
        raise CaptionBotError(
            f"{path} holds no weights ({_reason(error)}); give a .safetensors or .pth file of tensors."
        ) from error


def _reason(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
