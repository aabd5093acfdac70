"""A collection of photos on many machines, by Ray Data (`pip install 'captionbot[ray]'`).

The driver knows the names; tasks load the photos, wherever a core is idle, and squash them to the encoder's
size; actors, each with a captioner of its own, make records; the driver writes these as shards. Ray does
again what a lost task, worker or node had in hand. `docs/collections.md` says when this pays.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from captionbot.backends import compile as compilation
from captionbot.backends.cpu.precision import VARIABLE
from captionbot.bulk.folder import BATCH, caption_each, load_ahead, try_options
from captionbot.bulk.records import as_written, records, written
from captionbot.captioner import Captioner
from captionbot.errors import CaptionBotError
from captionbot.files import aside, held_folder
from captionbot.images.archives import is_archive, is_folder
from captionbot.images.load import ImageSource, Preprocessing, find_images

Item = tuple[str, str]
"""What a photo or archive is called, and where every node finds it."""

Rows = dict[str, Any]
"""Columns of a batch, as Ray passes them on."""

COLUMNS = ("image", "path", "url")  # of a .parquet, the first that is there
SHARD = 2000  # rows of a shard; a minute's rows if those are fewer: what a kill can cost
SHARD_SECONDS = 60.0
_PIECE = 64  # photos that a loading task passes on at once
_ITEMS = 256  # photos of one loading task at most


def caption_collection(
    paths: Sequence[str],
    out: Path,
    *,
    format: str = "parquet",
    model: str | None = None,
    device: str = "auto",
    address: str | None = None,
    batch_size: int | None = None,
    resume: bool = False,
    options: dict[str, Any] | None = None,
) -> Iterator[dict[str, Any]]:
    """Caption a collection and write shards to a folder; yields each record, in no order, as it comes.

    paths: images, folders, archives, addresses, and .parquet files with a column `image`, `path` or `url`.
    format: "parquet" or "jsonl"; a failed image is a record with its "error".
    model, device: as of `Captioner.from_pretrained`, on every node; a GPU has one actor.
    address: of a running cluster, None for one of this machine alone.
    resume: go on with a folder of shards, leaving out what is in them.
    options: keyword arguments of `Captioner.caption`.
    Raises CaptionBotError for what does not fit, before any photo is loaded.
    """
    ray = _ray()
    captioner = Captioner.from_pretrained(model, device="cpu")
    options = options or {}
    try_options(captioner, options)
    name, wanted = captioner.name, captioner.preprocessing
    del captioner
    shards = _Shards(out, format)
    shards.make()
    with held_folder(out):
        done = shards.done(name, resume)
        archives: list[Item] = []
        photos: list[Item] = []
        for item in _items(paths):
            if is_archive(Path(item[1])):  # what of it is done is seen as it is read
                archives.append(item)
            elif not _is_in(item[0], done):
                photos.append(item)
        if not archives and not photos:
            return
        if model and Path(model).exists():
            model = str(Path(model).absolute())  # workers have a folder of their own
        # what the environment says here, since workers have another
        loading = {
            "model": model,
            "precision": os.environ.get(VARIABLE),
            "compiled": compilation.asked_for(),
            "options": options,
        }
        _connect(ray, address)
        try:
            data = _plan(ray, archives, photos, wanted, done, device, batch_size, loading)
            try:
                for batch in data.iter_batches(batch_size=None):
                    for text in batch["record"]:
                        record = json.loads(text)
                        shards.add(record)
                        yield record
            except ray.exceptions.RayError as error:
                why = str(error).strip().splitlines()[-1]
                raise CaptionBotError(
                    f"Ray gave up ({why}). What was captioned is in {out}: mend that, and go on with "
                    "--resume."
                ) from error
            finally:
                shards.close()
        finally:
            ray.shutdown()


def _ray() -> Any:
    """The module, told to keep what it sees to itself."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # stderr is for what a person can mend
    try:
        import ray.data
    except ImportError:
        raise CaptionBotError(
            "--engine ray needs Ray, which is not installed: pip install 'captionbot[ray]', or leave it out."
        ) from None
    return ray


def _connect(ray: Any, address: str | None) -> None:
    here: dict[str, Any] = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    try:
        ray.init(address or "local", log_to_driver=False, logging_level="error", **({} if address else here))
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise CaptionBotError(
            f"There is no Ray cluster at {address} ({error}): start one with `ray start --head`, or leave "
            "--ray-address out."
        ) from None
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False


def _plan(
    ray: Any,
    archives: list[Item],
    photos: list[Item],
    wanted: Preprocessing,
    done: np.ndarray,
    device: str,
    batch_size: int | None,
    loading: dict[str, Any],
) -> Any:
    """The dataset of records, a JSON text each; nothing runs before it is iterated over."""
    there = ray.cluster_resources()
    cores, gpus = int(there.get("CPU", 1)), int(there.get("GPU", 0)) if device in ("auto", "cuda") else 0
    if device == "cuda" and not gpus:
        raise CaptionBotError("The Ray cluster has no GPU; choose --device auto or cpu.")
    blocks = [(archives, 1), (photos, min(_ITEMS, 1 + len(photos) // (4 * cores)))]
    first, *others = [
        ray.data.from_items(
            [{"image": name, "place": place} for name, place in part],
            override_num_blocks=-(-len(part) // size),
        )
        for part, size in blocks
        if part
    ]
    everything = first.union(*others) if others else first
    return everything.map_batches(
        _load,
        batch_size=None,
        fn_kwargs={"wanted": wanted, "done": ray.put(done)},
        # Loading takes no slot: it is short beside the model's work, and actors may hold every core.
        num_cpus=0,
        compute=ray.data.TaskPoolStrategy(size=max(1, cores if gpus else cores // 4)),
    ).map_batches(
        _Captions,
        batch_size=batch_size or BATCH["cuda" if gpus else "cpu"],
        fn_constructor_kwargs={"device": "cuda" if gpus else "cpu", **loading},
        num_cpus=1,
        num_gpus=1 if gpus else 0,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=gpus or cores),
    )


def _load(rows: Rows, wanted: Preprocessing, done: Any) -> Iterator[Rows]:
    """Names and places -> names, (n, height, width, 3) uint8 pixels, and errors ("" for none)."""
    import ray

    if isinstance(done, ray.ObjectRef):
        done = ray.get(done)
    items = zip(map(str, rows["image"]), map(str, rows["place"]), strict=True)
    loaded = load_ahead(_sources(items, done), _PIECE, wanted, loaders=1)
    while piece := list(islice(loaded, _PIECE)):
        pixels = np.zeros((len(piece), *wanted.size, 3), np.uint8)
        for row, (_, image) in zip(pixels, piece, strict=True):
            if not isinstance(image, CaptionBotError):
                row[:] = np.asarray(image)
        errors = [str(image) if isinstance(image, CaptionBotError) else "" for _, image in piece]
        yield {"image": [as_written(name) for name, _ in piece], "pixels": pixels, "error": errors}


def _sources(items: Iterable[Item], done: np.ndarray) -> Iterator[ImageSource]:
    for name, place in items:
        for source in find_images([place]):
            called = name + source.name.removeprefix(place)
            if not _is_in(called, done):
                yield ImageSource(called, source.load)


class _Captions:
    """An actor's captioner: a batch of `_load` -> records."""

    def __init__(
        self, model: str | None, device: str, precision: str | None, compiled: bool, options: dict[str, Any]
    ) -> None:
        self.captioner = Captioner.from_pretrained(model, device, precision, compiled)
        self.options = options

    def __call__(self, batch: Rows) -> Rows:
        columns = (batch[name] for name in ("image", "pixels", "error"))
        images = [
            (str(name), CaptionBotError(error) if error else Image.fromarray(pixels))
            for name, pixels, error in zip(*columns, strict=True)
        ]
        results = caption_each(self.captioner, images, len(images), self.options)
        return {"record": [json.dumps(record) for record in records(results, self.captioner.name)]}


def _items(paths: Iterable[str]) -> Iterator[Item]:
    """Photos and archives; what is in an archive is found where it is read."""
    for path in paths:
        if path.lower().endswith(".parquet"):
            yield from ((name, _place(name)) for name in _column(path))
        elif is_folder(Path(path)):
            yield from ((source.name, _place(source.name)) for source in find_images([path]))
        else:
            yield path, _place(path)


def _place(name: str) -> str:
    return name if "://" in name else str(Path(name).absolute())


def _column(path: str) -> list[str]:
    import pyarrow
    import pyarrow.parquet

    try:
        names = pyarrow.parquet.read_schema(path).names
        column = next((name for name in COLUMNS if name in names), None)
        if column is None:
            raise CaptionBotError(
                f"{path} has the columns {', '.join(names)}; one of them must be {' or '.join(COLUMNS)}."
            )
        found = pyarrow.parquet.read_table(path, columns=[column])[column].to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise CaptionBotError(f"{path} cannot be read ({error}): give a .parquet of paths or URLs.") from None
    names = [name for name in found if name]
    if not names or not all(isinstance(name, str) for name in names):
        raise CaptionBotError(
            f"{path} has no texts in its column {column}: give a .parquet of paths or URLs."
        )
    return names


def _keys(names: Iterable[str]) -> np.ndarray:
    """(n,) sorted uint64: 8 bytes a name, which every node can hold for millions."""
    digests = b"".join(hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names)
    return np.sort(np.frombuffer(digests, np.uint64))


def _is_in(name: str, keys: np.ndarray) -> bool:
    if not len(keys):
        return False
    (key,) = _keys([as_written(name)])
    at = np.searchsorted(keys, key)
    return bool(at < len(keys) and keys[at] == key)


class _Shards:
    """Records -> captions-00000.parquet (or .jsonl), ..., each whole or not there at all."""

    def __init__(self, folder: Path, format: str) -> None:
        self.folder, self.format = folder, format
        self.rows: list[dict[str, Any]] = []
        self.begun = 0.0

    def make(self) -> None:
        """Make the folder where it is missing."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CaptionBotError(f"{self.folder} cannot be a folder of shards ({error.strerror}).") from None

    def done(self, model: str, resume: bool) -> np.ndarray:
        """Keys of the images that are in the folder's shards."""
        there = self._there()
        if there and not resume:
            raise CaptionBotError(
                f"{self.folder} holds captions already: go on with --resume, or name another folder."
            )
        return _keys(name for shard in there for name in self._names(shard, model))

    def add(self, record: dict[str, Any]) -> None:
        if not self.rows:
            self.begun = time.monotonic()
        self.rows.append(record)
        if len(self.rows) >= SHARD or time.monotonic() - self.begun >= SHARD_SECONDS:
            self.close()

    def close(self) -> None:
        """Write what has gathered, as a shard of its own."""
        if self.rows:
            number = 1 + max((int(path.stem.rpartition("-")[2]) for path in self._there()), default=-1)
            path = self.folder / f"captions-{number:05}.{self.format}"
            with aside(path) as partial:
                self._write(partial)
        self.rows = []

    def _there(self) -> list[Path]:
        return sorted(self.folder.glob(f"captions-*.{self.format}"))

    def _write(self, path: Path) -> None:
        if self.format == "jsonl":
            lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in self.rows)
            path.write_text("".join(lines), encoding="utf-8")
            return
        import pyarrow as pa
        import pyarrow.parquet

        word = pa.struct({"text": pa.string(), "log_prob": pa.float32()})
        judgement = pa.struct({
            "probability": pa.float32(), "band": pa.string(), "reason": pa.string(),
            "doubtful_word": pa.int32(), "general": pa.string(), "general_probability": pa.float32(),
        })  # fmt: skip
        caption = pa.struct({
            "text": pa.string(), "log_prob": pa.float32(), "words": pa.list_(word), "judgement": judgement,
        })  # fmt: skip
        columns = {"image": pa.string(), "model": pa.string(), "captions": pa.list_(caption)}
        schema = pa.schema({**columns, "error": pa.string()})
        pyarrow.parquet.write_table(pa.Table.from_pylist(self.rows, schema), path)

    def _names(self, shard: Path, model: str) -> Iterable[str]:
        if self.format == "jsonl":
            return written(shard, model)[0]
        import pyarrow
        import pyarrow.parquet

        try:
            table = pyarrow.parquet.read_table(shard, columns=["image", "model"])
        except (OSError, pyarrow.ArrowException) as error:
            raise CaptionBotError(
                f"{shard} is no shard of captions ({error}): take it away, or name another folder."
            ) from None
        if others := set(table["model"].to_pylist()) - {model, None}:
            raise CaptionBotError(
                f"The captions in {shard} are by {others.pop()}, not by {model}: name another folder."
            )
        names: list[str] = table["image"].to_pylist()
        return names
