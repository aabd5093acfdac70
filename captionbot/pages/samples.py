"""Photos to try the pages with, carried by packages that are installed anyway, so that none ship here."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

_HOMES = {
    "A lion": ("gradio", "media_assets/images/lion.jpg"),  # first what is captioned best
    "A tower": ("gradio", "media_assets/images/tower.jpg"),
    "A cheetah": ("gradio", "media_assets/images/cheetah1.jpg"),
}


def sample_photos() -> dict[str, Path]:
    """Photos by a name to show, as many as there are; the packages are looked up, not imported."""
    found = {}
    for name, (package, file) in _HOMES.items():
        spec = find_spec(package)
        if spec and spec.origin and (path := Path(spec.origin).parent / file).is_file():
            found[name] = path
    return found
