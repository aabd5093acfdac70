"""A captioner of one's own, as a visitor uploads it; what strangers make of that."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tiny import SHARED, build_region_captioner, build_tiny_captioner

from captionbot import CaptionBotError, Captioner
from captionbot.pages.uploads import load_captioner
from captionbot.store import card as cards

Files = list[tuple[str, bytes]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_captioner(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def tiny(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained.parent, tmp_path / "trained") / trained.name


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def files_of(card: Path) -> Files:
    return [(path.name, path.read_bytes()) for path in (card, card.with_suffix(".safetensors"))]


def changed(card: Path, change: Callable[[dict[str, Any]], object]) -> Files:
    values = json.loads(card.read_text())
    change(values)
    card.write_text(json.dumps(values))
    return files_of(card)


def zipped(files: Sequence[tuple[str, bytes]], folder: str = "") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files:
            archive.writestr(f"{folder}{name}", data)
    return out.getvalue()


@pytest.mark.parametrize(
    "packed",
    [
        lambda files: files,
        lambda files: [(f"C/my folder/{name}", data) for name, data in reversed(files)],
        lambda files: [("mine.zip", zipped([*files, ("notes.txt", b"Dear diary")], "runs/mine/"))],
    ],
)
def test_what_is_uploaded_says_what_it_says_from_its_folder(tiny, temporary, packed):
    captioner = load_captioner(packed(files_of(tiny)))
    photo = Image.effect_mandelbrot((120, 90), (-2, -1, 1, 1), 50).convert("RGB")
    (said,), (expected,) = captioner.caption([photo]), Captioner.from_pretrained(tiny).caption([photo])
    assert captioner.name == "tiny"
    assert said.captions[0].text == expected.captions[0].text
    assert list(temporary.glob("captioner-*")) == []


@pytest.mark.parametrize("detector", [{}, SHARED])
def test_a_captioner_of_boxes_can_be_uploaded(detector, tmp_path):
    card = build_region_captioner(tmp_path / "trained", detector=detector)
    assert load_captioner(files_of(card)).card.encoder["kind"] == "regions"


def test_the_encoder_that_ships_need_not_be_uploaded(tiny, tmp_path, monkeypatch):
    folder = tmp_path / "weights"
    card, encoder, decoder = cards.load(tiny)
    folder.mkdir()
    cards.save_part(folder / "cnn.safetensors", encoder, "float16")
    path = cards.save(
        folder, dataclasses.replace(card, name="own"), encoder, decoder, "float16", "cnn.safetensors"
    )
    files = files_of(path)
    with pytest.raises(CaptionBotError, match=r"names 'cnn\.safetensors' for its encoder's weights: upload"):
        load_captioner(files)
    assert load_captioner([*files, ("cnn.safetensors", (folder / "cnn.safetensors").read_bytes())])
    monkeypatch.setenv("CAPTIONBOT_WEIGHTS", str(folder))
    assert load_captioner(files).name == "own"


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ([], "found here: none of these"),
        ([("tiny.json", b"{}")], r"found here: tiny\.json"),
        ([("mine.zip", b"not a zip")], r"^mine\.zip is damaged"),
        ([("x.json", b"[]"), ("x.safetensors", b"")], r"^x\.json is not the card"),
        ([("x.json", b"[" * 100_000), ("x.safetensors", b"")], r"^x\.json is not the card"),
        ([("x.json", b"\xff"), ("x.safetensors", b"")], r"^x\.json is not the card"),
    ],
)
def test_what_is_no_captioner_is_a_sentence(files, sentence, temporary):
    with pytest.raises(CaptionBotError, match=sentence) as error:
        load_captioner(files)
    assert str(temporary) not in str(error.value)
    assert list(temporary.glob("captioner-*")) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda card: card.pop("vocabulary"), "is not the card.*vocabulary"),
        (lambda card: card["vocabulary"].pop(), "vocabulary has 23 words, its decoder 24"),
        (lambda card: card["decoder"].update(hidden_size=8), r"^The captioner tiny\.json cannot be loaded"),
        (lambda card: card["decoder"].update(kind="rm -rf"), "'rm -rf'"),
        (lambda card: card["decoder"].update(embedding_size=0), "cannot be loaded"),
        (lambda card: card["decoder"].update(hidden_size=10**9), "more than pages compute with"),
        (lambda card: card["decoder"].update(hidden_size=60_000), "million parameters"),
        (lambda card: card["encoder"].update(architecture="vit_h_14"), "633 million parameters"),
        (lambda card: card["encoder"].update(architecture="../x"), "which pages do not load"),
        (lambda card: card["encoder"].update(detector_options={"x": "${oc.env:HOME}"}), "do not load"),
        (lambda card: card["preprocessing"].update(size=[99_999, 64]), "size = 99999"),
        (lambda card: card["search"].update(beam_size=1000), "beam_size is 1000"),
        (lambda card: card.update(vocabulary={"kind": "gpt2", "source": "/etc/passwd"}), "'/etc/passwd'"),
        (lambda card: card.update(vocabulary={"kind": "gpt2", "source": "openai-community/gpt2"}), "upload"),
        (lambda card: card.update(shared={"file": "../x.safetensors", "sha256": "", "part": ""}), "upload"),
        (lambda card: card.update(sha256="0" * 64), "not the file that its card describes"),
    ],
)
def test_a_card_that_asks_for_too_much_or_does_not_fit_is_a_sentence(tiny, change, sentence, temporary):
    with pytest.raises(CaptionBotError, match=sentence) as error:
        load_captioner(changed(tiny, change))
    assert str(temporary) not in str(error.value)
    assert list(temporary.glob("captioner-*")) == []


def test_weights_that_are_none_are_a_sentence(tiny):
    card, (name, data) = files_of(tiny)
    for bad in (b"", b"Dear diary", data[: len(data) // 2]):
        with pytest.raises(CaptionBotError, match=r"^tiny\.safetensors is no safetensors file"):
            load_captioner([card, (name, bad)])


def test_scales_that_would_fill_the_memory_are_refused(tiny):
    import torch
    from safetensors.torch import save

    card, (name, _) = files_of(tiny)
    for scales in (torch.ones(100_000), torch.ones(1, 100_000), torch.ones(2, 2)):
        bomb = save({"w": torch.zeros(1, 100_000, dtype=torch.int8), "w.scale": scales})
        with pytest.raises(CaptionBotError, match="scales"):
            load_captioner([card, (name, bomb)])


def with_header(weights: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    length = int.from_bytes(weights[:8], "little")
    header = json.loads(weights[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + weights[8 + length :]


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header[min(header)].update(data_offsets=[0, 4]),
        lambda header: header[min(header)].update(shape=[10**12]),
        lambda header: header[min(header)].update(shape=[0, 10**30]),
        lambda header: header[min(header)].update(dtype="F4"),
        lambda header: header.update(more={"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}),
    ],
)
def test_headers_that_claim_what_is_not_there_are_a_sentence(tiny, change):
    card, (name, data) = files_of(tiny)
    with pytest.raises(CaptionBotError, match=r"^tiny\.safetensors is no safetensors file, or damaged"):
        load_captioner([card, (name, with_header(data, change))])
    long = (2**62).to_bytes(8, "little") + data[8:]
    with pytest.raises(CaptionBotError, match="header is cut off, or too long"):
        load_captioner([card, (name, long)])


def test_many_members_are_counted(tiny):
    notes, empty = ([(f"{i}.{ending}", b"") for i in range(60_000)] for ending in ("txt", "json"))
    for some, said in ((notes, "more than 1000 files"), (empty, "more than 16 cards")):
        with pytest.raises(CaptionBotError, match=said):
            load_captioner([("many.zip", zipped([*some, *files_of(tiny)]))])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"backbone_args": {"pretrained": True}}, "arguments for its backbone"),
        ({"url": "x"}, "option 'url'"),
        ({"min_level": -9}, "levels from 1"),
        ({"min_level": 1, "image_size": [1536, 1536]}, "anchors"),
        ({"fpn_channels": 60_000}, "million parameters"),
    ],
)
def test_a_detector_that_asks_for_too_much_is_a_sentence(options, said, tmp_path):
    card = build_region_captioner(tmp_path / "trained")
    files = changed(card, lambda values: values["encoder"]["detector_options"].update(options))
    with pytest.raises(CaptionBotError, match=said):
        load_captioner(files)


def test_a_detector_takes_no_more_maps_than_it_has_levels(tmp_path):
    card = build_region_captioner(tmp_path / "trained", detector=SHARED)
    files = changed(card, lambda values: values["encoder"].update(detector_layers=["features.6"] * 9))
    with pytest.raises(CaptionBotError, match="has 3 levels and maps for more"):
        load_captioner(files)


def test_layers_that_give_too_much_of_a_photo_are_a_sentence(tiny):
    with pytest.raises(CaptionBotError, match="give it smaller photos"):
        load_captioner(changed(tiny, lambda card: card["preprocessing"].update(size=[1024, 1024])))


def test_a_zip_that_unpacks_to_too_much_is_refused(tiny, monkeypatch, temporary):
    monkeypatch.setattr("captionbot.pages.uploads.MAX_MEGABYTES", 1)
    bomb = zipped([("x.json", b" " * 900_000), ("x.safetensors", b" " * 900_000)])
    assert len(bomb) < 10_000
    with pytest.raises(CaptionBotError, match="larger than 1 MB"):
        load_captioner([("bomb.zip", bomb)])
    assert list(temporary.glob("captioner-*")) == []
