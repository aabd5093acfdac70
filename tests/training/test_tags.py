import json

import pytest
import torch
from PIL import Image

from captionbot.captioner import Captioner
from captionbot.decoders.gpt2_prefix import Tagger
from captionbot.encoders import grid_boxes
from captionbot.store import card as cards
from captionbot.store.registry import find_card
from captionbot.text.vocabulary import Vocabulary
from captionbot.types import Features
from training.fit.tags import content_words, fit, main, mentions, precision
from training.run.splits import Split

CAPTIONS = [
    ["a", "dog", "runs", "on", "the", "grass", "with", "a", "dog"],
    ["two", "dogs", "run", "on", "grass"],
    ["the", "dog", "is", "on", "the", "beach"],
]


def test_tags_are_words_that_say_something_most_frequent_first():
    vocabulary = Vocabulary.build(CAPTIONS)
    assert content_words(CAPTIONS, vocabulary, 4) == ["dog", "grass", "beach", "dogs"]
    assert content_words(CAPTIONS, Vocabulary.build([["grass"]]), 4) == ["grass"]


def test_an_image_mentions_a_tag_as_often_as_its_captions_do():
    shares = mentions(Split(["x", "y"], [CAPTIONS, [["a", "beach"]]]), ["dog", "beach"])
    torch.testing.assert_close(shares, torch.tensor([[2 / 3, 1 / 3], [0, 1]]))


def test_a_tagger_learns_what_the_features_show():
    torch.manual_seed(0)
    targets = (torch.rand(300, 4) < 0.3).float()
    seen = torch.randn(300, 9, 16)  # nine places an image
    seen[..., :4] += 4 * targets[:, None]
    tagger = Tagger(16, 4)
    pooled = tagger.pool(Features(seen, grid_boxes(3, 3), (3, 3)))
    fit(tagger, pooled[:200], targets[:200])
    right, usual = precision(tagger, pooled[200:], targets[:200], targets[200:], 1)
    best = targets[200:].amax(1).mean()  # some images have no tag at all
    assert right > 0.9 * best
    assert usual < 0.5 * best


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Twelve photos, red ones with dogs and blue ones with beaches."""
    folder = tmp_path_factory.mktemp("data")
    images = []
    for i in range(12):
        red = i % 2 == 0
        Image.new("RGB", (64, 64), (255, 9 * i, 0) if red else (0, 9 * i, 255)).save(folder / f"{i}.jpg")
        raw = "a dog runs on the grass" if red else "the waves of a beach"
        images.append(
            {"filename": f"{i}.jpg", "split": "val" if i > 7 else "train", "sentences": [{"raw": raw}] * 2}
        )
    (folder / "dataset.json").write_text(json.dumps({"dataset": "flickr8k", "images": images}))
    return folder


def arguments(data, tmp_path, decoder="gpt2-prefix"):
    (tmp_path / "tiny.yaml").write_text(
        f"data: {data}\nformat: karpathy\ncache: {tmp_path / 'cache'}\nmin_count: 1\nimage_size: 64\n"
        "encoder_config: {architecture: mobilenet_v2, layer: features.10}\n"
        f"decoder: {decoder}\n"
        + ("decoder_config: {hidden_size: 16, layers: 1, heads: 2}\n" if decoder == "gpt2-prefix" else "")
    )
    out = ["--config", tmp_path / "tiny.yaml", "--out", tmp_path / "tagged", "--device", "cpu"]
    return [*map(str, out), "--words", "5", "--tags", "2"]


def test_a_captioner_gets_tags_and_says_them_to_itself(data, tmp_path, capsys):
    assert main(arguments(data, tmp_path)) == 0
    assert "are in its captions" in capsys.readouterr().out
    card, _, decoder = cards.load(find_card(tmp_path / "tagged"))
    captioner = Captioner.from_pretrained(tmp_path / "tagged")
    words = captioner.vocabulary.decode(card.decoder["tag_ids"])
    assert sorted(words) == ["beach", "dog", "grass", "runs", "waves"]
    said = []
    for name in ("10.jpg", "11.jpg"):
        features = captioner.encode([Image.open(data / name)])
        best = decoder.tagger(features).topk(2).indices[0]
        said.append({words[i] for i in best})
        assert captioner.caption(Image.open(data / name))[0].captions[0].words
    assert said[0] < {"dog", "runs", "grass"}
    assert said[1] == {"beach", "waves"}


def test_tags_need_a_decoder_that_reads_them(data, tmp_path, capsys):
    assert main(arguments(data, tmp_path, "soft-attention")) == 2
    assert "this captioner's is soft-attention" in capsys.readouterr().err
