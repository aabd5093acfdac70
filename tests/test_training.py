"""Training for real, on pictures so small and plain that it takes seconds."""

import dataclasses
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from captionbot import CaptionBotError, Captioner, load_image
from captionbot.decoders.soft_attention import SoftAttentionConfig, SoftAttentionDecoder
from captionbot.types import Features
from captionbot.vocabulary import Vocabulary
from training.config import TrainingConfig, load_config, save_config
from training.losses import caption_loss, self_critical_loss, teacher_force
from training.train import main

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220), "white": (240, 240, 240)}
SIDES = {"left": slice(0, 24), "right": slice(40, 64)}
SMALL = [
    "--encoder-config", "{architecture: mobilenet_v2, layer: features.3}",
    "--encoder-weights", "''",
    "--decoder-config",
    "{annotation_size: 16, embedding_size: 16, hidden_size: 16, attention_size: 8, dropout: 0.1}",
    "--image-size", "64", "--min-count", "1", "--batch-size", "4", "--warmup-steps", "0", "--device", "cpu",
]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Twelve photos in the form of Flickr8k: a coloured bar to the left or right, on black or grey."""
    folder = tmp_path_factory.mktemp("data")
    images = []
    for i, (colour, side) in enumerate(
        [(c, s) for s in SIDES for c in COLOURS] + [(c, "left") for c in COLOURS]
    ):
        pixels = np.full((64, 64, 3), 90 if i >= 8 else 0, dtype=np.uint8)
        pixels[:, SIDES[side]] = COLOURS[colour]
        Image.fromarray(pixels).save(folder / f"{i}.jpg")
        sentences = [
            {"raw": f"A {colour} bar is on the {side} ."},
            {"raw": f"there is a {colour} bar"},
        ] * 2 + [{"raw": f"the {side} is {colour}"}]
        images.append({"filename": f"{i}.jpg", "split": "val" if i >= 8 else "train", "sentences": sentences})
    (folder / "dataset_flickr8k.json").write_text(json.dumps({"images": images}))
    return folder


def train(data, out, *flags):
    return ["--data", str(data), "--cache", str(data / "cache"), "--out", str(out), *SMALL, *flags]


def weights(run):
    (file,) = Path(run).glob("*.safetensors")
    return load_file(file)


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


# Losses


def toy(batch=3, captions=2):
    torch.manual_seed(0)
    decoder = SoftAttentionDecoder(
        SoftAttentionConfig(9, 4, embedding_size=6, hidden_size=6, attention_size=6)
    ).eval()
    features = Features(torch.randn(batch, 5, 4), torch.rand(1, 5, 4))
    token_ids = torch.zeros(batch, captions, 7, dtype=torch.long)
    for i in range(batch):
        for j in range(captions):
            words = torch.randint(4, 9, (1 + (i + 2 * j) % 4,)).tolist()
            token_ids[i, j, : len(words) + 2] = torch.tensor([1, *words, 2])
    return decoder, features, token_ids


def test_teacher_forcing_is_the_decoders_own_step():
    decoder, features, token_ids = toy()
    forced = teacher_force(decoder, features, token_ids)
    for image in range(3):
        one = Features(features.values[image : image + 1], features.boxes)
        for caption in range(2):
            ids = [i for i in token_ids[image, caption].tolist() if i]
            mine = forced.rows == image * 2 + caption
            assert forced.targets[mine].tolist() == ids[1:]
            state, seen = decoder.start(one), 0
            for t, word in enumerate(ids[:-1]):
                log_probs, alpha, state = decoder.step(torch.tensor([word]), state)
                torch.testing.assert_close(forced.logits[mine][t].log_softmax(-1), log_probs[0])
                seen = seen + alpha[0]
            torch.testing.assert_close(forced.coverage[image * 2 + caption], seen)


def test_the_loss_is_the_equation_of_the_paper():
    decoder, features, token_ids = toy()
    forced = teacher_force(decoder, features, token_ids)
    words = -forced.logits.log_softmax(-1)[range(len(forced.targets)), forced.targets].mean()
    places = ((1 - forced.coverage) ** 2).mean()
    torch.testing.assert_close(caption_loss(forced, 0.0, 0.7), words + 0.7 * places)


def test_self_critical_training_prefers_what_was_rewarded():
    decoder, features, token_ids = toy(batch=1)
    rewards = torch.tensor([[2.0, 0.5]])
    before = [teacher_force(decoder, features, token_ids[:, [k]]).logits.log_softmax(-1) for k in (0, 1)]
    optimizer = torch.optim.SGD(decoder.parameters(), lr=0.05)
    self_critical_loss(teacher_force(decoder, features, token_ids), rewards).backward()
    optimizer.step()
    gains = []
    for k in (0, 1):
        forced = teacher_force(decoder, features, token_ids[:, [k]])
        own = range(len(forced.targets)), forced.targets
        gains.append((forced.logits.log_softmax(-1)[own] - before[k][own]).sum())
    assert gains[0] > 0 > gains[1]


def test_equal_rewards_teach_nothing():
    decoder, features, token_ids = toy(batch=2)
    loss = self_critical_loss(teacher_force(decoder, features, token_ids), torch.full((2, 2), 0.8))
    assert loss.item() == 0


def test_self_critical_training_gives_nothing_to_tokens_that_are_never_drawn():
    """Else all probability flows to the unknown word: bad samples lose it, and no reward is at stake."""
    decoder, features, token_ids = toy(batch=2)
    rewards = torch.tensor([[2.0, 0.5], [0.1, 0.3]])
    self_critical_loss(teacher_force(decoder, features, token_ids), rewards, temperature=0.5).backward()
    gradient = decoder.output_word.bias.grad
    assert gradient[list(Vocabulary.special_ids)].abs().max() == 0
    assert gradient.abs().max() > 0


# Configuration


def test_configurations_survive_yaml(tmp_path):
    config = dataclasses.replace(TrainingConfig(), encoder_config={"layer": "x"}, mean=(0.1, 0.2, 0.3))
    save_config(config, tmp_path / "c.yaml")
    assert load_config(str(tmp_path / "c.yaml")) == config


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[1] / "training" / "configs").glob("*.yaml")), ids=lambda p: p.stem
)
def test_the_configurations_that_ship_load(path):
    assert load_config(path.stem).epochs > 0


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--config", "nothing"], "no configuration 'nothing'; choose one of overfit-20"),
        (["--stage", "magic"], "'magic' is not a stage"),
        (["--data", "nowhere"], "There is no Flickr8k in nowhere"),
    ],
)
def test_mistakes_are_one_sentence(flags, sentence, capsys, tmp_path):
    assert main([*flags, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_unknown_fields_of_a_file_are_named(tmp_path):
    (tmp_path / "c.yaml").write_text("lerning_rate: 1\n")
    with pytest.raises(CaptionBotError, match="fields that do not exist: lerning_rate"):
        load_config(str(tmp_path / "c.yaml"))


# Runs


def test_a_few_photos_are_learnt_by_heart_and_the_run_is_a_captioner(data, tmp_path, capsys):
    flags = "--limit 4 --captions-per-image 1 --epochs 200 --patience 200 --ema 0 --learning-rate 0.01"
    flags += " --label-smoothing 0 --doubly-stochastic 0 --flips false --beam-size 1 --weight-decay 0"
    assert main(train(data, tmp_path / "run", *flags.split())) == 0
    assert "'exact': 1.0" in capsys.readouterr().out
    captioner = Captioner.from_pretrained(tmp_path / "run")
    (captioned,) = captioner.caption(load_image(data / "0.jpg"), beam_size=1)
    assert captioned.captions[0].text == "a red bar is on the left"


def test_seeds_give_the_same_numbers_twice(data, tmp_path):
    for run in "ab":
        assert main(train(data, tmp_path / run, "--epochs", "2")) == 0
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))


@pytest.mark.parametrize("stage", ["cross-entropy", "self-critical", "fine-tune"])
def test_a_killed_run_goes_on_to_what_it_would_have_been(data, tmp_path, stage):
    flags = ["--epochs", "3", "--checkpoint-minutes", "0", "--patience", "9"]
    flags += ["--train-encoder", "true"] if stage == "fine-tune" else ["--stage", stage]
    assert main(train(data, tmp_path / "whole", *flags)) == 0
    command = [sys.executable, "-m", "training.train", *train(data, tmp_path / "killed", *flags)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checkpoint = tmp_path / "killed" / "checkpoint.pt"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    assert main(train(data, tmp_path / "killed", *flags, "--resume")) == 0
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "killed"))


def test_stages_build_on_each_other(data, tmp_path):
    assert main(train(data, tmp_path / "one", "--epochs", "1")) == 0
    flags = ["--epochs", "1", "--train-encoder", "true", "--init", str(tmp_path / "one")]
    assert main(train(data, tmp_path / "two", *flags, "--decoder-config", "{dropout: 0.2}")) == 0
    before, after = weights(tmp_path / "one"), weights(tmp_path / "two")
    moved = [k for k in before if k.startswith("encoder.") and not torch.equal(before[k], after[k])]
    assert len(moved) == sum(k.startswith("encoder.") for k in before)  # end to end: every tensor of the CNN
    (card,) = (tmp_path / "two").glob("show*.json")
    stages = json.loads(card.read_text())["training"]["stages"]
    assert [stage["train_encoder"] for stage in stages] == [False, True]


def test_a_changed_photo_makes_another_cache(data, tmp_path):
    import shutil

    from training.data import open_images
    from training.features import cached_pixels

    copy = tmp_path / "copy"
    shutil.copytree(data, copy, ignore=shutil.ignore_patterns("cache"))
    names = ["0.jpg", "1.jpg"]
    first = cached_pixels(open_images(copy), names, 16, tmp_path / "cache")
    again = cached_pixels(open_images(copy), names, 16, tmp_path / "cache")
    assert first.filename == again.filename
    Image.new("RGB", (64, 64), (1, 200, 3)).save(copy / "0.jpg")
    changed = cached_pixels(open_images(copy), names, 16, tmp_path / "cache")
    assert changed.filename != first.filename
    assert (changed[0] != first[0]).any()


def test_a_corrupt_photo_is_named(data, tmp_path, capsys):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(data, copy, ignore=shutil.ignore_patterns("cache"))
    (copy / "3.jpg").write_bytes((copy / "3.jpg").read_bytes()[:200])
    assert main(train(copy, tmp_path / "run", "--epochs", "1")) == 2
    assert "3.jpg" in capsys.readouterr().err
    assert not list((copy / "cache").iterdir())  # nothing that a later run could take for a whole cache
