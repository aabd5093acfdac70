"""A user id without a name, as of `docker run --user 12345`: torch asks for the name, and needs none."""

from __future__ import annotations

import getpass
import os
import tempfile
from pathlib import Path

_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"


def name_cache_folder() -> None:
    """Name torch's cache folder where the user has no name to call it by, before a network is made.

    torch._dynamo fails without, which torchvision imports, and torch where it computes on "meta" or makes an
    optimizer.
    """
    if _VARIABLE in os.environ:
        return
    try:
        getpass.getuser()
    except (ImportError, KeyError, OSError):  # Python 3.13 has one exception for what were two before
        os.environ[_VARIABLE] = str(Path(tempfile.gettempdir()) / f"torchinductor_{_number()}")


def _number() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0
