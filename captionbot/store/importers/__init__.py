"""Captioners of earlier public projects, read from their own files: the same maths behind our interfaces.

One module a project. Nothing in a file is run: see `checkpoint`, which reads pickles.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captionbot.errors import CaptionBotError, shortened
from captionbot.images.archives import is_file
from captionbot.store.importers import cs231n, dragonyong, ruotianluo, sankalp1999, sgrvinod
from captionbot.store.importers.checkpoint import read_checkpoint, read_vocabulary
from captionbot.store.importers.imported import Imported, listed

if TYPE_CHECKING:
    from captionbot.store.card import Card

__all__ = ["IMPORTERS", "OLD_KINDS", "import_captioner", "read_checkpoint", "read_vocabulary"]

IMPORTERS: dict[str, Callable[[Sequence[Path]], Imported]] = {
    "sankalp1999": sankalp1999.read,
    "sgrvinod": sgrvinod.read,
    "cs231n": cs231n.read,
    "dragonyong": dragonyong.read,
    "ruotianluo": ruotianluo.read,
}
OLD_KINDS = {"seed003": "cs231n", "seed004": "sankalp1999"}
"""What projects were called in version 0.1."""


def import_captioner(kind: str, files: Sequence[str | Path], folder: Path, name: str) -> Path:
    """Write NAME.json and NAME.safetensors, made from another project's files; returns the card's path.

    kind: a key of IMPORTERS, or for one release of OLD_KINDS.
    files: in any order, since they are told apart by what is in them.
    Raises CaptionBotError for files that are missing, damaged, poisoned or of another project.
    """
    kind = OLD_KINDS.get(kind, kind)
    if kind not in IMPORTERS:
        raise CaptionBotError(
            f"'{shortened(kind)}' cannot be imported: choose one of {', '.join(IMPORTERS)}."
        )
    from captionbot.store import card as cards

    paths = [Path(file) for file in files]
    if missing := [path for path in paths if not is_file(path)]:
        raise CaptionBotError(f"There is no file {shortened(missing[0])}: give the files of that project.")
    try:
        imported = IMPORTERS[kind](paths)
    except CaptionBotError:
        raise
    except KeyError as error:
        raise _wrong_files(kind, paths, f"there is no {error} in them") from None
    except Exception as error:  # files of another project fail in any way
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
        raise _wrong_files(kind, paths, reason) from None
    folder.mkdir(parents=True, exist_ok=True)
    return cards.save(folder, _card(kind, name, paths, imported), imported.encoder, imported.decoder)


def _wrong_files(kind: str, files: Sequence[Path], reason: str) -> CaptionBotError:
    return CaptionBotError(
        f"{listed(files)} cannot be imported as {kind}: {shortened(reason).rstrip('.')}; "
        "give the files as that project published them."
    )


def _card(kind: str, name: str, files: Sequence[Path], imported: Imported) -> Card:
    from captionbot.decoders import FAMILIES
    from captionbot.encoders import ENCODERS
    from captionbot.store.card import Card

    def spec(module: Any, kinds: Mapping[str, type[Any]]) -> dict[str, Any]:
        kind = next(kind for kind, built in kinds.items() if type(module) is built)
        return {"kind": kind, **asdict(module.config)}

    return Card(
        name=name,
        encoder=spec(imported.encoder, {kind: one.encoder for kind, one in ENCODERS.items()}),
        decoder=spec(imported.decoder, {kind: family.decoder for kind, family in FAMILIES.items()}),
        training={"imported": kind, "sha256": {path.name: _sha256(path) for path in files}},
        **imported.fields,
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
