"""Modules under the names that they had in version 0.1, for one release.

`from captionbot.tokenizer import tokenize` gives what `from captionbot.text.tokenizer import tokenize` gives.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

CAPTIONBOT = {
    "archives": "images.archives",
    "arithmetic": "backends.cpu.precision",
    "batch": "bulk.folder",
    "beam_search": "search.beam",
    "beam_tree": "draw.beam_tree",
    "card": "store.card",
    "collection": "bulk.ray",
    "commands": "cli.commands",
    "constraints": "search.constraints",
    "downloads": "store.downloads",
    "explore": "explain.counterfactuals",
    "importers": "store.importers",
    "learn": "pages.lessons",
    "parts_of_speech": "text.parts_of_speech",
    "records": "bulk.records",
    "render": "draw.overlays draw.boxes draw.sheets draw.files text.display",
    "report": "draw.report",
    "results": "pages.results",
    "samples": "pages.samples",
    "search_options": "search.options",
    "tokenizer": "text.tokenizer",
    "uploads": "pages.uploads",
    "urls": "images.urls",
    "vocabulary": "text.vocabulary",
    "weights": "store.registry store.folders store.weights",
}
TRAINING = {
    "config": "run.config",
    "features": "run.features",
    "losses": "run.losses",
    "predictions": "evaluation.predictions",
    "splits": "run.splits",
}


class OldNames(MetaPathFinder, Loader):
    """Finds a module of a package by its old name; it comes last, so a module of that name wins."""

    def __init__(self, package: str, names: Mapping[str, str]) -> None:
        self.names = {
            f"{package}.{old}": [f"{package}.{name}" for name in new.split()] for old, new in names.items()
        }

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name in self.names else None

    def exec_module(self, module: ModuleType) -> None:
        """One module under two names: the import system takes what stands in `sys.modules` afterwards.

        Of one that was split, what its parts define.
        """
        parts = [import_module(name) for name in self.names[module.__name__]]
        if len(parts) == 1:
            sys.modules[module.__name__] = parts[0]
        for part in parts:
            vars(module).update({name: value for name, value in vars(part).items() if name[:1] != "_"})


def install(package: str, names: Mapping[str, str]) -> None:
    sys.meta_path.append(OldNames(package, names))
