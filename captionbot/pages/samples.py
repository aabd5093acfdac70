"""Photos to try the pages with.

Those that ship are free to redistribute (photos/LICENCES.md). The lion, which shows where captioners fail, is
one that Gradio carries.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

_FOLDER = Path(__file__).with_name("photos")
_FILES = {  # first what is captioned best
    "A photographer": "photographer.jpg",
    "An officer": "officer.jpg",
    "An astronaut": "astronaut.jpg",
    "A cat": "cat.jpg",
    "A cup of coffee": "coffee.jpg",
    "A temple": "temple.jpg",
    "A flower": "flower.jpg",
    "A rocket": "rocket.jpg",
}
FAILS = "A lion"
"""What is beyond the captioner that ships, to show that too."""


def sample_photos() -> dict[str, Path]:
    """Photos by a name to show, as many as there are; Gradio is looked up, not imported."""
    found = {name: _FOLDER / file for name, file in _FILES.items()}
    spec = find_spec("gradio")
    if spec and spec.origin:
        found[FAILS] = Path(spec.origin).parent / "media_assets/images/lion.jpg"
    return {name: path for name, path in found.items() if path.is_file()}
