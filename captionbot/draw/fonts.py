"""The font of drawings: the one that matplotlib carries, since systems may have none."""

from __future__ import annotations

from pathlib import Path


def font_path() -> str:
    import matplotlib

    return str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))
