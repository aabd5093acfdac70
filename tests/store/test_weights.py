"""Captioners that ship, and the table of files that download."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from local_server import local_server

from captionbot.errors import CaptionBotError
from captionbot.files import cache_folder
from captionbot.store import weights
from captionbot.store.folders import weights_folder
from captionbot.store.registry import find_card, list_cards
from captionbot.store.weights import download, verification, weight_files

DATA = b"\x80weights" * 5000
SHA256 = hashlib.sha256(DATA).hexdigest()


def add_captioner(folder: Path, name: str, **card: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.safetensors").write_bytes(b"")
    path = folder / f"{name}.json"
    path.write_text(json.dumps(card))
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of shipped weights with a default captioner, another, a table and stray files."""
    folder = tmp_path / "shipped"
    monkeypatch.setenv("CAPTIONBOT_WEIGHTS", str(folder))
    add_captioner(folder, "b-default", default=True)
    add_captioner(folder, "a-small", default=False)
    (folder / "table.json").write_text("[]")
    (folder / "card-without-weights.json").write_text("{}")
    (folder / "weights-without-card.safetensors").write_bytes(b"")
    return folder


# Captioners that ship


def test_the_weights_lie_at_the_top_of_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CAPTIONBOT_WEIGHTS", raising=False)
    assert weights_folder() == Path(__file__).resolve().parents[2] / "weights"
    assert "table" not in [card.stem for card in list_cards()]


def test_cards_are_those_with_weights_beside_them(folder: Path) -> None:
    assert list_cards() == [folder / "a-small.json", folder / "b-default.json"]


def test_find_card(folder: Path, tmp_path: Path) -> None:
    own = add_captioner(tmp_path / "own", "mine")
    assert find_card() == folder / "b-default.json"
    assert find_card("a-small") == folder / "a-small.json"
    assert find_card(tmp_path / "own") == find_card(str(own)) == own


def test_a_name_comes_before_a_folder_of_the_same_name(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_captioner(tmp_path / "a-small", "other")
    monkeypatch.chdir(tmp_path)
    assert find_card("a-small") == folder / "a-small.json"
    assert find_card("./a-small").stem == "other"


@pytest.mark.parametrize("unknown", ["gone", "gone.json", "", "x" * 300, "table", "card-without-weights"])
def test_unknown_captioners(folder: Path, unknown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    with pytest.raises(CaptionBotError) as caught:
        find_card(unknown)
    assert re.search(r"a-small, b-default|holds 0 captioners", str(caught.value))


@pytest.mark.parametrize("names", [(), ("one", "two")])
def test_folders_that_do_not_hold_one_captioner(folder: Path, tmp_path: Path, names: tuple[str, ...]) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for name in names:
        add_captioner(other, name)
    with pytest.raises(CaptionBotError, match=f"holds {len(names)} captioners"):
        find_card(other)


def test_a_card_without_weights(folder: Path) -> None:
    with pytest.raises(CaptionBotError, match=r"has no card-without-weights\.safetensors beside it"):
        find_card(folder / "card-without-weights.json")


@pytest.mark.parametrize(("defaults", "count"), [((False, False), 0), ((True, True), 2), ((1, "yes"), 0)])
def test_there_must_be_one_default(folder: Path, defaults: tuple[object, object], count: int) -> None:
    for name, default in zip(("a-small", "b-default"), defaults, strict=True):
        add_captioner(folder, name, default=default)
    with pytest.raises(
        CaptionBotError, match=f"{count} captioners marked as the default.*a-small, b-default"
    ):
        find_card()


def test_none_ship(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CAPTIONBOT_WEIGHTS", str(tmp_path / "nowhere"))
    assert list_cards() == []
    for name in (None, "gone"):
        with pytest.raises(CaptionBotError, match="none ships here"):
            find_card(name)
    with pytest.raises(CaptionBotError, match="nowhere, the folder that CAPTIONBOT_WEIGHTS names, holds no"):
        find_card()


@pytest.mark.parametrize("name", [5, b"a-small", ["a-small"]])
def test_what_cannot_be_a_name(folder: Path, name: object) -> None:
    with pytest.raises(CaptionBotError, match="give its name, its folder or its card"):
        find_card(name)


def test_a_damaged_card(folder: Path) -> None:
    (folder / "a-small.json").write_text('{"default": tr')
    with pytest.raises(CaptionBotError, match=r"a-small\.json cannot be read"):
        find_card()


@pytest.mark.parametrize("content", ["[]", "null", "5"])
def test_what_is_no_card_is_not_the_default(folder: Path, content: str) -> None:
    (folder / "a-small.json").write_text(content)
    assert find_card().stem == "b-default"


def test_without_a_home_folder_what_ships_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("CAPTIONBOT_CACHE", raising=False)
    monkeypatch.setattr(Path, "home", home)
    assert find_card("a-small").stem == "a-small"
    with pytest.raises(CaptionBotError, match="set CAPTIONBOT_CACHE"):
        cache_folder()


# The table of files that download


def test_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CAPTIONBOT_WEIGHTS", raising=False)
    table = weight_files()
    assert len({entry.path for entry in table}) == len(table)
    for entry in table:
        assert re.fullmatch(r"[\w.-]+", entry.name)
        assert re.fullmatch(r"[\w-][\w.-]*", entry.file)
        parts = urlsplit(entry.url)
        assert parts.scheme == "https"
        of_the_hub = entry.importer == "hub"
        if of_the_hub:
            assert parts.hostname == "huggingface.co"
            pinned = re.search(r"/resolve/[0-9a-f]{40}/(model\.safetensors|pytorch_model\.bin)$", parts.path)
            assert pinned or entry.sha256  # what a name means never changes
        named_by_us = parts.hostname == "github.com" or of_the_hub
        suffix = "" if of_the_hub else Path(entry.file).suffix
        assert parts.path.endswith(suffix if named_by_us else f"/{entry.file}")
        assert parts.query == ("dl=1" if parts.hostname == "www.dropbox.com" else "")
        assert entry.size is None or entry.size > 0
        assert entry.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", entry.sha256)
        assert entry.sha256_prefix is None or re.fullmatch(r"[0-9a-f]{8}", entry.sha256_prefix)
        in_name = re.search(r"-([0-9a-f]{8})\.pth$", entry.file)  # where its author put it
        assert named_by_us or entry.digest[:8] == (in_name[1] if in_name else "")
        assert entry.licence
        assert entry.source.startswith("https://")
        assert entry.note.endswith(".")


@pytest.mark.parametrize("name", ["captionbot-v2-flickr30k", "captionbot-v1-flickr8k"])
def test_a_captioner_is_downloaded_with_all_that_its_importer_needs(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CAPTIONBOT_WEIGHTS", raising=False)
    files = weight_files(name)
    for entry, part in zip(files, ("decoder", "encoder", "vocabulary"), strict=True):
        assert entry.note.startswith(f"The {part} ")
        assert entry.importer == "sankalp1999"


def line(name: str, file: str, url: str, **other: object) -> dict[str, object]:
    known = {"name": name, "file": file, "url": url, "size": None, "sha256": None}
    return {**known, "licence": "MIT", "source": "https://example.org", "note": "A test.", **other}


def test_download_fetches_all_files_of_a_name(folder: Path, tmp_path: Path) -> None:
    with local_server() as server:
        url = server.says("/f", DATA)
        table = [
            line("pair", "encoder.pt", url, size=len(DATA), sha256=SHA256),
            line("pair", "decoder.pt", url, sha256_prefix=SHA256[:8]),
            line("alone", "alone.pt", url),
        ]
        (folder / "table.json").write_text(json.dumps(table))
        cache = tmp_path / "cache"
        seen: list[int] = []
        assert download("pair", cache, lambda done, total: seen.append(done)) == [
            cache / "pair" / "encoder.pt",
            cache / "pair" / "decoder.pt",
        ]
        assert seen.count(len(DATA)) == 2
        (alone,) = download("alone", cache)
    assert all(path.read_bytes() == DATA for path in [*cache.glob("pair/*.pt"), alone])
    sentences = [verification(entry, cache / entry.path) for entry in weight_files()]
    assert "has the sha256 that is published" in sentences[0]
    assert f"begins as is published for it, with {SHA256[:8]}" in sentences[1]
    assert f"is not verified, as no hash of it is published; its sha256 is {SHA256}" in sentences[2]


def test_the_published_size_and_hash_are_held_against_the_file(folder: Path, tmp_path: Path) -> None:
    with local_server() as server:
        url = server.says("/f", DATA)
        table = [line("size", "f", url, size=5), line("hash", "f", url, sha256="0" * 64)]
        (folder / "table.json").write_text(json.dumps(table))
        for name, sentence in (("size", "bytes where 5 were expected"), ("hash", "0000 is published")):
            with pytest.raises(CaptionBotError, match=sentence):
                download(name, tmp_path, delays=())


def test_unknown_downloads_list_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CAPTIONBOT_WEIGHTS", raising=False)
    with pytest.raises(CaptionBotError, match=r"Unknown download 'gone'\. Available: captionbot-v2"):
        download("gone")


def test_without_a_table_nothing_downloads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CAPTIONBOT_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(weights, "SHIPPED", tmp_path)
    assert weight_files() == []
    with pytest.raises(CaptionBotError, match=r"Unknown download 'gone'\. Available: none"):
        weight_files("gone")


@pytest.mark.parametrize("table", ["[1]", "null", "5", '[{"name": "a"}]', "[" * 99_999, "[SIZE]"])
def test_a_damaged_table(folder: Path, table: str) -> None:
    sized = json.dumps(line("a", "f", "https://a/f", size="large"))
    (folder / "table.json").write_text(table.replace("SIZE", sized))
    with pytest.raises(CaptionBotError, match=r"table\.json (is no table|cannot be read) .*put a good copy"):
        weight_files()


def test_a_folder_without_a_table(folder: Path) -> None:
    """Downloads are those of the weights that ship."""
    (folder / "table.json").unlink()
    assert {file.name for file in weight_files()} >= {"captionbot-v1-flickr8k", "inception_v3-imagenet"}


def test_the_cache_can_be_chosen(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CAPTIONBOT_CACHE", raising=False)
    assert cache_folder() == Path.home() / ".cache" / "captionbot"
    monkeypatch.setenv("CAPTIONBOT_CACHE", str(tmp_path / "chosen"))
    with local_server() as server:
        (folder / "table.json").write_text(json.dumps([line("alone", "f", server.says("/f", DATA))]))
        assert weights.download("alone") == [tmp_path / "chosen" / "alone" / "f"]
