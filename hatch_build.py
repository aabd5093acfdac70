"""Puts the default captioner into the wheel, as `captionbot/_weights`; `weights/` stays where it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class DefaultCaptioner(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":  # the checkout's weights are found
            return
        for file in packaged(Path(self.root) / "weights"):
            build_data["force_include"][str(file)] = f"captionbot/_weights/{file.name}"


def packaged(weights: Path) -> Iterator[Path]:
    """The default captioner, the file that it shares, and the tables, which have no weights beside them."""
    for path in sorted(weights.glob("*.json")):
        parameters = path.with_suffix(".safetensors")
        if not parameters.is_file():
            yield path
            continue
        card = json.loads(path.read_text(encoding="utf-8"))
        if card.get("default") is True:
            yield from (path, parameters)
            if card.get("shared"):
                yield weights / card["shared"]["file"]
