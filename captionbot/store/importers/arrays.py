"""NumPy's .npz files, checked before anything of their size is made."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from captionbot.errors import CaptionBotError, shortened

if TYPE_CHECKING:
    from torch import Tensor

_MOST_BYTES = 500_000_000  # of all arrays; those of CS231n's decoders have a tenth as many


def read_arrays(path: Path) -> dict[str, Tensor]:
    """The arrays of an .npz file; CaptionBotError for pickled objects among them, which are not read."""
    try:
        return _read(path)
    except OSError as error:
        raise CaptionBotError(
            f"{shortened(path)} cannot be read ({error.strerror}): give an existing file."
        ) from None
    except Exception:  # a damaged file raises errors of every kind
        raise CaptionBotError(
            f"{shortened(path)} holds more than plain arrays, or is damaged: nothing of it was run; fetch it "
            "again."
        ) from None


def _read(path: Path) -> dict[str, Tensor]:
    import numpy as np
    import torch

    arrays, left = {}, _MOST_BYTES
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            left -= member.file_size  # which is all that is read of it
            if left < 0:
                raise ValueError("the arrays are too large")
            with archive.open(member) as file:
                version = np.lib.format.read_magic(file)
                read_header = {
                    (1, 0): np.lib.format.read_array_header_1_0,
                    (2, 0): np.lib.format.read_array_header_2_0,
                }[version]
                shape, by_columns, dtype = read_header(file)
                if dtype.kind not in "fiu":
                    raise ValueError("an array holds no numbers")
                data = bytearray(file.read())
            if math.prod(shape) * dtype.itemsize != len(data):
                raise ValueError("an array is not of its size")
            array = np.frombuffer(data, dtype=dtype)
            arrays[member.filename.removesuffix(".npy")] = torch.from_numpy(
                array.reshape(shape, order="F" if by_columns else "C").astype(np.float32)
            )
    return arrays
