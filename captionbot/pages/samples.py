"""Photos to try the pages with. They are free to redistribute (photos/LICENCES.md)."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).with_name("photos")
FAILS = "Hens"
"""What is beyond the captioner that ships, to show that too."""
_FILES = {
    "Giraffes": "giraffes.jpg",
    "A kitten": "kitten.jpg",
    "Musicians": "musicians.jpg",
    "A polar bear": "polar-bear.jpg",
    "A dog": "dog.jpg",
    "Birds": "birds.jpg",
    "A horse": "horse.jpg",
    "A sheep": "sheep.jpg",
    FAILS: "hens.jpg",
}


def sample_photos() -> dict[str, Path]:
    """Photos by a name to show; none where the package was installed without them."""
    found = {name: _FOLDER / file for name, file in _FILES.items()}
    return {name: path for name, path in found.items() if path.is_file()}
