"""Captioners of the Hugging Face Hub: a repository or a folder -> a card beside the published weights.

The weights stay the file that was published; what is written is the card, which says how they are to be
used. See `captionbot.hub` for the families.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from zipfile import is_zipfile

from captionbot.errors import CaptionBotError, shortened
from captionbot.files import aside, read_json
from captionbot.images.archives import is_folder
from captionbot.store.downloads import Progress, recorded_sha256
from captionbot.store.hub import (
    PICKLE,
    TOKENIZERS,
    WEIGHTS,
    Published,
    Repository,
    fetch,
    in_users_cache,
    is_id,
    link,
    repository,
)
from captionbot.store.tensors import shapes_in

if TYPE_CHECKING:
    from captionbot.hub import HubFamily
    from captionbot.images.load import Preprocessing

_CONFIG, _PIXELS = "config.json", "preprocessor_config.json"
_ADDRESS = re.compile(r"https://huggingface\.co/(?P<id>[^/]+/[^/]+)/resolve/(?P<commit>[^/]+)/(?P<file>.+)")
_INTERPOLATIONS = {1: "lanczos", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers
_PUBLISHED = "Trained and published by others. No score of it was measured here."


@dataclass(frozen=True)
class Source:
    """Where a captioner comes from, as its card says: a repository's name and commit, "" of a folder."""

    id: str = ""
    revision: str = ""
    file: str = WEIGHTS
    licence: str = ""
    note: str = ""


def import_hub(
    source: str,
    folder: Path,
    name: str,
    revision: str | None = None,
    progress: Progress | None = None,
    ask: str = "",
) -> Path:
    """Write NAME.json and NAME.safetensors of a repository of the Hub, or of a folder with its files.

    source: OWNER/NAME, or a folder. revision: branch, tag or commit of the repository, None for main.
    ask: what the captioner is asked, of families that are asked a question or in a chat; "" for the usual.
    Returns the card's path. Raises CaptionBotError for another kind of model, files that are missing or
    damaged, weights that do not fit, and where the Hub cannot be asked.
    """
    if is_folder(Path(source)):
        if revision:
            raise CaptionBotError("A folder has no revisions: leave --revision out, or give OWNER/NAME.")
        return _import_folder(Path(source), folder, name, ask=ask)
    if not is_id(source):
        raise CaptionBotError(
            f"'{shortened(source)}' is no folder, and no repository of the Hugging Face Hub: give "
            "OWNER/NAME, or a folder with its files."
        )
    found = repository(source, revision)
    return _import_folder(
        fetched(found, folder, name, progress), folder, name, Source(found.id, found.commit), ask
    )


def download_hub(name: str, folder: Path | None = None, progress: Progress | None = None) -> Path:
    """The card of a captioner of weights/table.json, fetched from the Hub at the commit that stands there.

    folder: NAME is made in it; by default `cache_folder()`. CaptionBotError as of `import_hub`.
    """
    from captionbot.files import cache_folder
    from captionbot.store.weights import weight_files

    source, line = address_of(name), weight_files(name)[0]
    folder = (folder or cache_folder()) / name
    card, weights = folder / f"{name}.json", folder / f"{name}.safetensors"
    if card.is_file() and weights.is_file():
        return card
    if not (folder / _CONFIG).is_file() or not weights.is_file():
        there = _in_users_cache(source) or repository(source.id, source.revision)
        if line.sha256 and (said := there.files.get(source.file)) and said.sha256 not in ("", line.sha256):
            raise CaptionBotError(
                f"{source.id} has another {source.file} than {name} is known by (sha256 differs): nothing is "
                "taken of it; see whether a newer version of CaptionBot knows it."
            )
        if line.sha256:
            there.files[source.file] = Published(line.size, line.sha256)
        source = replace(source, revision=there.commit)
        fetched(there, folder, name, progress)
    path = write_card(folder, name, source)
    _write_variants(path)
    return path


def address_of(name: str) -> Source:
    """Where a captioner of weights/table.json lies on the Hub; CaptionBotError where it lies elsewhere."""
    from captionbot.store.weights import weight_files

    line = weight_files(name)[0]
    found = _ADDRESS.match(line.url)
    if found is None:
        raise CaptionBotError(
            f"'{shortened(name)}' is no captioner of the Hugging Face Hub: `python -m captionbot models` "
            "lists those that are."
        )
    return Source(found["id"], found["commit"], found["file"], line.licence, line.note)


def cached_hub(name: str) -> Path | None:
    """The card of a captioner of the table whose files the user's cache of the Hub has; None where not."""
    return download_hub(name) if _in_users_cache(address_of(name)) else None


def _in_users_cache(source: Source) -> Repository | None:
    """The repository as far as the user's own cache of the Hub has it, where that is all that is needed."""
    needed = (_CONFIG, _PIXELS, TOKENIZERS[0], source.file)
    if all(in_users_cache(source.id, source.revision, file) for file in needed):
        return Repository(source.id, source.revision, dict.fromkeys(needed, Published()))
    return None


def fetched(found: Repository, folder: Path, name: str, progress: Progress | None = None) -> Path:
    """The folder, with the files of a repository that a captioner needs, its configuration judged first.

    What the folder has of another commit is not taken for this one's.
    """
    from captionbot.hub import family_of_config

    known = _is_of(found, folder / f"{name}.json")
    for file in (_CONFIG, _PIXELS, *TOKENIZERS):
        if file in found.files and (file not in TOKENIZERS[1:] or TOKENIZERS[0] not in found.files):
            if not known:  # the Hub says no sha256 of small files
                (folder / file).unlink(missing_ok=True)
            fetch(found, file, folder / file, progress)
    family_of_config(read_config(folder / _CONFIG))
    weights = folder / f"{name}.safetensors"
    if WEIGHTS in found.files:
        if not known and not found.files[WEIGHTS].sha256:
            weights.unlink(missing_ok=True)
        fetch(found, WEIGHTS, weights, progress)
    elif PICKLE in found.files:
        if not known or not weights.is_file():
            pickled = fetch(found, PICKLE, folder / PICKLE, progress)
            _convert(pickled, weights)
            pickled.unlink()
    else:
        raise CaptionBotError(
            f"{found.id} has no {WEIGHTS} at {found.commit[:8]}, and weights in several files are not read: "
            "choose a captioner whose weights are one file."
        )
    return folder


def _is_of(found: Repository, card: Path) -> bool:
    """Whether a card is that of a repository at this commit."""
    try:
        source = read_json(card)["source"]
        return bool((source["id"], source["revision"]) == (found.id, found.commit))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _import_folder(given: Path, folder: Path, name: str, source: Source = Source(), ask: str = "") -> Path:
    """The card of a folder's files; weights and tokenizer are linked where they lie elsewhere.

    They are put together aside first: what the folder had before stays until all is known to fit, and no file
    of it is taken for one that is missing.
    """
    weights = f"{name}.safetensors"
    needed = {_CONFIG: (_CONFIG,), WEIGHTS: (weights, WEIGHTS, PICKLE), TOKENIZERS[0]: TOKENIZERS}
    for file, one_of in needed.items():
        if not any((given / other).is_file() for other in one_of):
            raise CaptionBotError(
                f"{shortened(given)} holds no {file}: give a folder with a model's files "
                f"({', '.join(needed)})."
            )
    if given.resolve() == folder.resolve():
        _weights_of(given, folder / weights)
        return write_card(folder, name, source, ask)
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".importing-", dir=folder) as temporary:
        there = Path(temporary)
        _weights_of(given, there / weights)
        for file in (_CONFIG, _PIXELS, *TOKENIZERS):
            if (given / file).is_file():
                link(given / file, there / file)
        try:
            write_card(there, name, source, ask)
        except CaptionBotError as error:  # of files under the names that they were given by
            told = str(error).replace(str(there / weights), str(given / WEIGHTS))
            raise CaptionBotError(told.replace(str(there), str(given))) from None
        for path in there.iterdir():
            path.replace(folder / path.name)
    return folder / f"{name}.json"


def _weights_of(given: Path, weights: Path) -> None:
    """The weights of a folder, under the name that a captioner's have."""
    if (given / WEIGHTS).is_file():
        link(given / WEIGHTS, weights)
    elif (given / PICKLE).is_file():
        _convert(given / PICKLE, weights)
    elif given != weights.parent:
        link(given / weights.name, weights)


def write_card(folder: Path, name: str, source: Source, ask: str = "") -> Path:
    """The card of NAME.safetensors and the files of its model beside it, once they are known to fit.

    ask: as of `import_hub`.
    """
    from captionbot.hub import family_of_config, loading
    from captionbot.store.card import Card
    from captionbot.text.pieces import HubVocabulary

    config = read_config(folder / _CONFIG)
    family = family_of_config(config)
    if ask and not family.ask:
        raise CaptionBotError(f"Captioners of {family.kind} are asked nothing: leave --ask out.")
    weights = folder / f"{name}.safetensors"
    shapes = shapes_in(weights)
    config, encoder = _slim(config), {"kind": "hub", "family": family.kind, "config": _slim(config)}
    loading.load(encoder, weights, mapped=True)
    size = loading.vocabulary_size(encoder)
    prompt, chat, end = _before(family, config, folder, ask or family.ask)
    words = HubVocabulary.load(folder, family.style, size, prompt[-1], end, family.space_first)
    tokenizer = folder / f"{name}.tokenizer.json"
    if not (folder / TOKENIZERS[0]).is_file():
        with aside(tokenizer) as partial:
            words.tokenizer.save(str(partial), pretty=False)
    else:
        link(folder / TOKENIZERS[0], tokenizer)
    question = chat or (words.question(ask or family.ask) if family.ask else [])
    pixels = read_config(folder / _PIXELS) if (folder / _PIXELS).is_file() else {}
    card = Card(
        name=name,
        family=family.kind,
        title=family.title(config),
        encoder=encoder,
        decoder={"kind": "hub", "family": family.kind, "prompt": [*prompt], "question": question},
        preprocessing=asdict(preprocessing_of(pixels, loading.image_size(encoder))),
        vocabulary={**words.spec, "source": tokenizer.name},
        search=dict(family.search),
        description=source.note or _PUBLISHED,
        licence=source.licence,
        storage="published",
        source={k: v for k, v in asdict(source).items() if k in ("id", "revision", "file") and v},
        parameters=sum(prod(shape) for shape in shapes.values()),
        size_bytes=weights.stat().st_size,
        sha256=recorded_sha256(weights) or _sha256(weights),
    )
    path = folder / f"{name}.json"
    with aside(path) as partial:
        card.write(partial)
    return path


def _before(
    family: HubFamily, config: Mapping[str, Any], folder: Path, ask: str
) -> tuple[tuple[int, ...], list[int], int]:
    """The ids that a search begins behind, those of a chat before them, and the id of the end."""
    if family.chat is None:
        assert family.prompt is not None and family.end is not None
        return family.prompt(config), [], family.end(config)
    from tokenizers import Tokenizer

    try:
        ids, end = family.chat(Tokenizer.from_file(str(folder / TOKENIZERS[0])), config, ask)
        if config["image_token_id"] not in ids or end is None:
            raise ValueError("it has no tokens of a chat about an image")
    except Exception as error:  # the Rust code behind it raises any
        raise CaptionBotError(
            f"{shortened(folder / TOKENIZERS[0])} does not fit {family.kind} ({shortened(error, 80)}): give "
            "the one that was published with the weights."
        ) from None
    return tuple(ids[-1:]), list(ids[:-1]), end


def _write_variants(path: Path) -> None:
    """The cards of the other captioners of the same file, each in a folder beside that of the first."""
    from captionbot.hub import family_of
    from captionbot.store.card import Card
    from captionbot.text.pieces import HubVocabulary

    card = Card.load(path)
    variants = family_of(card.encoder["family"]).variants
    if not variants:
        return
    spec: Any = card.vocabulary
    words = HubVocabulary.load(**{name: value for name, value in spec.items() if name != "kind"})
    for kind, variant in variants.items():
        name = f"{card.name}-{kind}"
        folder = path.parent.parent / name
        link(path.with_suffix(".safetensors"), folder / f"{name}.safetensors")
        tokenizer = link(Path(words.source), folder / f"{name}.tokenizer.json")
        asked = replace(
            card,
            name=name,
            title=f"{card.title}, {kind}",
            decoder={**card.decoder, "question": words.question(variant.ask)},
            vocabulary={**words.spec, "source": tokenizer.name},
            search=dict(variant.search),
        )
        with aside(folder / f"{name}.json") as partial:
            asked.write(partial)


def preprocessing_of(values: Mapping[str, Any], image_size: int) -> Preprocessing:
    """What a preprocessor_config.json says; image_size where it says nothing. Photos are shrunk in one go, as
    there. CaptionBotError for what is done to photos there and not here."""
    from captionbot.images.load import Preprocessing

    try:
        crop = bool(values.get("do_center_crop"))
        size = values.get("crop_size" if crop else "size", image_size)
        if "max_image_size" in values:  # of one tile, where photos can be cut into several
            size = image_size
        if isinstance(size, Mapping):
            side = size.get("shortest_edge")
            size = (size.get("height", side), size.get("width", side))
        else:
            size = (size, size)
        if crop:
            shorter = values.get("size", size[0])
            if isinstance(shorter, Mapping):
                shorter = shorter.get("shortest_edge", shorter.get("height"))
            if shorter != size[0] or size[0] != size[1]:
                raise ValueError(f"photos are cut from {shorter} to {size}")
        mean, std = (values.get(key, [0.5] * 3) for key in ("image_mean", "image_std"))
        interpolation = _INTERPOLATIONS[values.get("resample", 3)]
        return Preprocessing.from_json(
            {
                "size": [int(size[0]), int(size[1])],
                "mean": [float(number) for number in mean],
                "std": [float(number) for number in std],
                "interpolation": interpolation,
                "crop": crop,
                "exact": True,
            }
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CaptionBotError(
            f"Its {_PIXELS} asks for what is not done to photos here ({shortened(error, 80)}): choose "
            "another captioner."
        ) from None


def _slim(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without names of classes and the like, which would fill a card."""
    dropped = {"id2label", "label2id", "task_specific_params", "_name_or_path", "transformers_version"}
    return {
        key: _slim(value) if isinstance(value, Mapping) else value
        for key, value in config.items()
        if key not in dropped
    }


def read_config(path: Path) -> dict[str, Any]:
    try:
        values = read_json(path)
    except (OSError, ValueError) as error:
        raise CaptionBotError(
            f"{shortened(path)} cannot be read ({shortened(error, 80)}): give a model's files, its "
            "config.json among them."
        ) from None
    if not isinstance(values, dict):
        raise CaptionBotError(f"{shortened(path)} holds no configuration: give a good copy of it.")
    return values


def _convert(pickled: Path, weights: Path) -> None:
    """Write the tensors of a PyTorch pickle, of which nothing is run, as safetensors."""
    import torch
    from safetensors.torch import save_file

    try:
        found = torch.load(pickled, map_location="cpu", weights_only=True, mmap=is_zipfile(pickled))
        tensors = {
            str(name): tensor.detach().clone().contiguous()
            for name, tensor in found.items()
            if isinstance(tensor, torch.Tensor)
        }
    except Exception:  # damaged and poisoned files fail in any way
        raise CaptionBotError(
            f"{shortened(pickled)} holds more than plain tensors, or is damaged: nothing of it was run; "
            "choose a captioner with safetensors."
        ) from None
    with aside(weights) as partial:
        save_file(tensors, partial, {"format": "pt"})
        partial.chmod(0o644)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
