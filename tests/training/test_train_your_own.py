"""The steps of docs/train-your-own.md on a tiny scale, and words that a captioner learns later."""

from __future__ import annotations

import csv
import shlex
from pathlib import Path

import pytest
import torch
import yaml
from tiny import WORDS, build_tiny_captioner

from captionbot import Captioner, load_image
from captionbot.cli.main import main as captionbot
from captionbot.decoders import build_decoder
from captionbot.pages.samples import sample_photos
from captionbot.store import card as cards
from captionbot.store.card import Card
from captionbot.store.registry import find_card
from captionbot.text.vocabulary import Vocabulary
from training.data.__main__ import main as data
from training.evaluation.evaluate import main as evaluate
from training.run.captioners import build_captioner
from training.run.config import CONFIGS, TrainingConfig
from training.run.train import main as train

DOC = (Path(__file__).parents[2] / "docs" / "train-your-own.md").read_text(encoding="utf-8")
NEW = "zebra"


@pytest.fixture
def tiny(tmp_path) -> Path:
    """The folder of a captioner that ships, with scores of its own."""
    folder = tmp_path / "tiny"
    path = build_tiny_captioner(folder)
    card, encoder, decoder = cards.load(path)
    cards.save(folder, Card(**{**vars(card), "scores": {"CIDEr": 0.5}}), encoder, decoder)
    return folder


@pytest.fixture
def photos(tmp_path) -> Path:
    """A folder as the tutorial wants it: photos and a captions.csv, one word of which is new."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rows = [("image", "caption", "split")]
    said = (f"A {NEW} jumps on the grass.", "The dog runs in the snow.", f"A {NEW} jumps on the grass.")
    for i, (path, caption) in enumerate(zip(sample_photos().values(), said, strict=False)):
        image = load_image(path).resize((64, 64))
        for split, turned in (("train", 0), ("val", 9)):
            image.rotate(turned).save(folder / f"{i}-{split}.png")
            rows.append((f"{i}-{split}.png", caption, split))
    with (folder / "captions.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


def command(start: str) -> list[str]:
    """The arguments of the tutorial's own command."""
    lines = [line.partition("  #")[0] for line in DOC.splitlines() if line.startswith(start)]
    assert lines, f"docs/train-your-own.md has no command {start}"
    return shlex.split(lines[0])[3:]


def test_the_tutorial_from_photos_to_a_captioner_that_says_the_new_word(
    tiny, photos, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    photos.rename("my-photos")
    assert data(command("python -m training.data check")) == 0
    tiny_run = ["--init", str(tiny), "--epochs", "40", "--patience", "40", "--sample-photos", "0"]
    tiny_run += ["--learning-rate", "2e-2", "--ema", "0"]
    assert train([*command("python -m training.train"), *tiny_run, "--device", "cpu"]) == 0
    assert "unknown to" not in capsys.readouterr().out
    assert evaluate([*command("python -m training.evaluate"), "--no-meteor", "--no-spice"]) == 0
    capsys.readouterr()
    assert captionbot(command("python -m captionbot caption")) == 0
    assert NEW in capsys.readouterr().out

    card = Card.load(find_card("runs/my-captioner"))
    assert NEW in card.vocabulary
    assert (card.scores, card.description, card.default) == ({}, "", False)
    monkeypatch.setenv("CAPTIONBOT_WEIGHTS", "runs/my-captioner")  # as both pages are started
    captioner = Captioner.from_pretrained()
    (captioned,) = captioner.caption([load_image(Path("my-photos") / "0-val.png")])
    assert NEW in captioned.captions[0].text.split()


def test_words_that_are_not_learnt_are_named(tiny, photos, tmp_path, capsys):
    arguments = ["--config", "your-own", "--data", str(photos), "--init", str(tiny), "--epochs", "1"]
    arguments += ["--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "run"), "--device", "cpu"]
    assert train([*arguments, "--extend-vocabulary", "false"]) == 0
    said = capsys.readouterr().out
    assert f"1 words of the captions are unknown to {tiny} ({NEW}, ...)" in said
    assert "--extend-vocabulary true" in said


@pytest.mark.parametrize("tied", [True, False])
def test_new_words_begin_as_the_unknown_word_and_leave_the_others_as_they_were(tmp_path, tied):
    card, encoder, decoder = cards.load(build_tiny_captioner(tmp_path / "tied"))
    if not tied:
        sizes = {k: v for k, v in card.decoder.items() if k != "kind"} | {"tie_embedding": False}
        decoder = build_decoder("soft-attention", sizes)
        card = Card(**{**vars(card), "decoder": {"kind": "soft-attention", **sizes}})
    path = cards.save(tmp_path / "start", card, encoder, decoder)
    captions = [["a", NEW, "runs"], ["a", NEW, "eats"]]
    config = TrainingConfig(init=str(path), extend_vocabulary=True, min_count=2)
    extended, model = build_captioner(config, captions)
    assert extended.vocabulary == (*card.vocabulary, NEW)  # "eats" is seen once
    assert extended.decoder["vocabulary_size"] == len(WORDS) + 5

    features = encoder(torch.randn(2, 3, 64, 64))
    known = torch.tensor([Vocabulary.unk_id, 7])
    new = torch.tensor([len(WORDS) + 4, 7])
    before, _, _ = decoder.eval().advance(known, decoder.start(features))
    after, _, _ = model.decoder.eval().advance(new, model.decoder.start(features))
    torch.testing.assert_close(after, before)
    scores = model.decoder.logits(after)
    torch.testing.assert_close(scores[:, :-1], decoder.logits(before))
    torch.testing.assert_close(scores[:, -1], scores[:, Vocabulary.unk_id])


def test_the_configuration_starts_from_a_captioner_that_ships():
    config = yaml.safe_load((CONFIGS / "your-own.yaml").read_text())
    assert find_card(config["init"]).is_file()
