"""Other people's weights that download: the lines of weights/table.json."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from captionbot.errors import CaptionBotError
from captionbot.fields import check_fields
from captionbot.files import cache_folder
from captionbot.store.downloads import DELAYS, Progress, download_file, recorded_sha256
from captionbot.store.folders import SHIPPED, read_listing, weights_folder


def _table() -> list[WeightFile]:
    """The lines of table.json, of the weights that ship where another folder has none."""
    tables = (folder / "table.json" for folder in (weights_folder(), SHIPPED))
    table = next((table for table in tables if table.is_file()), None)
    try:
        files = [WeightFile(**line) for line in read_listing(table)] if table else []
        for file in files:
            check_fields(file)
    except TypeError as error:
        raise CaptionBotError(
            f"{table} is no table of weights ({error}): put a good copy of it there."
        ) from None
    return files


def importable(name: str, importer: str = "") -> bool:
    """Whether `download` makes a captioner of the files of that name, by that importer or by any."""
    return any(file.name == name and file.importer and importer in ("", file.importer) for file in _table())


def listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none, as none ships here"


@dataclass(frozen=True)
class WeightFile:
    """A line of weights/table.json: one file of someone else's weights. None stands for not known.

    name: what `download` is asked for; files that belong together share it.
    size: in bytes.
    sha256_prefix: the first hex digits, where no more is published.
    family: of a captioner; None for encoders and detectors.
    importer: the kind that `captionbot.store.importers` makes a captioner of these files with, if any; "hub"
        for the weights of a repository, whose other files are fetched along.
    megabytes: about how many, where `size` is not known to the byte; parameters: about how many, in millions.
    title: what people call the captioner. products: what a caption of it costs, as `benchmarks.hub` says it.
    """

    name: str
    file: str
    url: str
    size: int | None
    sha256: str | None
    licence: str
    source: str
    note: str
    sha256_prefix: str | None = None
    family: str | None = None
    importer: str | None = None
    megabytes: int | None = None
    parameters: int | None = None
    title: str | None = None
    products: float | None = None

    @property
    def path(self) -> Path:
        """Where `download` puts it in the cache."""
        return Path(self.name) / self.file

    @property
    def digest(self) -> str:
        """As much of the sha256 as is published, perhaps nothing: then a download is not verified."""
        return self.sha256 or self.sha256_prefix or ""


def weight_files(name: str | None = None) -> list[WeightFile]:
    """The files of the table, or those of one name; CaptionBotError for a name that it does not have."""
    table = _table()
    files = [entry for entry in table if name in (None, entry.name)]
    if name is not None and not files:
        names = dict.fromkeys(entry.name for entry in table)
        raise CaptionBotError(f"Unknown download {name!r}. Available: {', '.join(names) or 'none'}.")
    return files


def download(
    name: str,
    folder: Path | None = None,
    progress: Progress | None = None,
    delays: Sequence[float] = DELAYS,
) -> list[Path]:
    """FOLDER/NAME/FILE for every file of one name of the table, as of `download_file`.

    folder: by default `cache_folder()`.
    """
    return [
        download_file(
            entry.url, (folder or cache_folder()) / entry.path, entry.size, entry.digest, progress, delays
        )
        for entry in weight_files(name)
    ]


def verification(entry: WeightFile, path: Path) -> str:
    """A sentence on how far a downloaded file is known to be what its author published."""
    if entry.sha256:
        return f"{path} has the sha256 that is published for it."
    if entry.sha256_prefix:
        return f"{path} has a sha256 that begins as is published for it, with {entry.sha256_prefix}."
    return f"{path} is not verified, as no hash of it is published; its sha256 is {recorded_sha256(path)}."
