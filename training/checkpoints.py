"""Files of a run that must survive a kill and a full disk: written aside, then moved into place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from captionbot.errors import CaptionBotError


@contextmanager
def written(what: str, folder: Path) -> Iterator[None]:
    """Turn what goes wrong while a file is written into a sentence; the file that was there is whole."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        for partial in folder.glob("*.part"):
            partial.unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise CaptionBotError(
            f"{what} could not be written to {folder} ({reason}); the last one there is whole. "
            "Make room and go on with --resume."
        ) from error


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """state: tensors, plain numbers and containers of them, so that nothing has to be unpickled."""
    partial = path.with_suffix(".part")
    with written("The checkpoint", path.parent), partial.open("wb") as file:
        torch.save(state, file)
        file.flush()
        partial.replace(path)


def load_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch raises whatever its zip reader and unpickler raise
        reason = str(error).splitlines()[0]
        raise CaptionBotError(
            f"{path} is not a checkpoint that can be read ({reason}); take it away and start again without "
            "--resume."
        ) from error
