"""What a page or a command sets in its own process, which importing captionbot leaves as it is."""

from __future__ import annotations

import gc
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from threading import Lock

IMPORTS = Lock()
"""For whoever imports modules of captionbot beside another thread that does. A thread that imports a package
and one that begins with a module of it wait for each other: Python would hand out half-made modules rather
than wait for ever."""
HUB = "CAPTIONBOT_HUB"
"""Names whether visitors of a page may have captioners of the Hugging Face Hub fetched."""


def prepare() -> None:
    """To be called before torch is imported, which reads the first of these then.

    Threads that wait leave their core to others: those that wait by spinning take it from the one that they
    wait for, and a busy machine takes many times as long. Pillow warns of photos from 89 megapixels on,
    which here are allowed, and of each that is damaged, which a sentence says already. What the environment
    or the command line says of either stays.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if not sys.warnoptions:
        warnings.filterwarnings("ignore", "Image size .* exceeds limit")
        warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


@contextmanager
def uncollected() -> Iterator[None]:
    """For the import of torch and the loading of a captioner, whose 300,000 objects all stay: the collector
    of garbage would go through them again and again."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def run(module: str, arguments: list[str] | None = None) -> int:
    """Call `main` of a module in a process that is prepared for it; its exit code."""
    prepare()
    code: int = import_module(module).main(arguments)
    return code
