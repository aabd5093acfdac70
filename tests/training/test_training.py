"""Training for real, on pictures so small and plain that it takes seconds."""

import dataclasses
import io
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny import build_tiny_captioner

from captionbot import CaptionBotError, Captioner, load_image
from captionbot.decoders import FAMILIES
from captionbot.decoders.evidence import WordEvidence
from captionbot.decoders.soft_attention import SoftAttentionConfig, SoftAttentionDecoder
from captionbot.encoders import build_encoder
from captionbot.images.load import Preprocessing
from captionbot.store import card as cards
from captionbot.text.tokenizer import tokenize
from captionbot.text.vocabulary import Vocabulary
from captionbot.types import Features
from training.compress.average import main as average
from training.compress.export import main as export
from training.data import open_images
from training.metrics import CiderD
from training.run.captioners import build_captioner
from training.run.checkpoints import read_weights
from training.run.config import TrainingConfig, load_config, save_config
from training.run.distributed import World
from training.run.features import PixelFeatures, augment, cached_features, cached_pixels, normalise
from training.run.losses import caption_loss, drop_words, self_critical_loss, soft_targets, teacher_force
from training.run.monitor import Monitor
from training.run.splits import read_splits
from training.run.stages import Reward, SelfCritical, sentence_bleu
from training.run.train import Run, main

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220), "white": (240, 240, 240)}
SIDES = {"left": slice(0, 24), "right": slice(40, 64)}
SMALL = [
    "--encoder-config", "{architecture: mobilenet_v2, layer: features.3}",
    "--encoder-weights", "",
    "--decoder-config",
    "{annotation_size: 16, embedding_size: 16, hidden_size: 16, attention_size: 8, dropout: 0.1}",
    "--image-size", "64", "--min-count", "1", "--batch-size", "4", "--warmup-steps", "0", "--device", "cpu",
    "--sample-photos", "0",
]  # fmt: skip
SMALL_TRANSFORMER = "embedding_size: 16, heads: 2, layers: 1, feedforward_size: 16"
SMALL_DECODERS = {
    "annotated-transformer": f"{{{SMALL_TRANSFORMER}, encoder_layers: 1}}",
    "gpt2-prefix": "{hidden_size: 16, layers: 1, heads: 2, prefix_length: 2}",
    "meshed-memory": f"{{{SMALL_TRANSFORMER}, encoder_layers: 1}}",
    "scratch-transformer": f"{{{SMALL_TRANSFORMER}}}",
    "soft-attention": "{embedding_size: 16, hidden_size: 16, attention_size: 8}",
}


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


@pytest.fixture
def text(tmp_path):
    """Captions without photos, of the words that the photos' captions have."""
    lines = [
        {
            "image": f"{colour}.jpg",
            "captions": [f"a {colour} bar is on the {side}", f"there is a {colour} bar"],
        }
        for colour in COLOURS
        for side in SIDES
    ]
    path = tmp_path / "text.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


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
    terms = caption_loss(forced, 0.0, 0.7)
    torch.testing.assert_close(sum(term.mean for term in terms), words + 0.7 * places)
    assert [term.count for term in terms] == [len(forced.targets), 6]


def test_self_critical_training_prefers_what_was_rewarded():
    decoder, features, token_ids = toy(batch=1)
    rewards = torch.tensor([[2.0, 0.5]])
    before = [teacher_force(decoder, features, token_ids[:, [k]]).logits.log_softmax(-1) for k in (0, 1)]
    optimizer = torch.optim.SGD(decoder.parameters(), lr=0.05)
    self_critical_loss(teacher_force(decoder, features, token_ids), rewards).mean.backward()
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
    assert loss.mean.item() == 0


def test_self_critical_training_gives_nothing_to_tokens_that_are_never_drawn():
    """Else all probability flows to the unknown word: bad samples lose it, and no reward is at stake."""
    decoder, features, token_ids = toy(batch=2)
    rewards = torch.tensor([[2.0, 0.5], [0.1, 0.3]])
    self_critical_loss(teacher_force(decoder, features, token_ids), rewards, temperature=0.5).mean.backward()
    gradient = decoder.output_word.bias.grad
    assert gradient[list(Vocabulary.special_ids)].abs().max() == 0
    assert gradient.abs().max() > 0


def test_an_end_that_the_search_forced_is_no_choice_to_learn_from():
    """It would cost long samples, which are bad ones, their end, and make them longer still."""
    vocabulary = Vocabulary.build([["a", "dog", "runs"]])
    stage = SelfCritical(TrainingConfig(max_words=3), vocabulary, [[["a", "dog", "runs"]]])
    token_ids = stage._token_ids([[(4, 5, 6), (4, 5)]])
    assert token_ids.tolist() == [[[1, 4, 5, 6, 0], [1, 4, 5, 2, 0]]]


# Configuration


def test_configurations_survive_yaml(tmp_path):
    config = dataclasses.replace(TrainingConfig(), encoder_config={"layer": "x"}, mean=(0.1, 0.2, 0.3))
    save_config(config, tmp_path / "c.yaml")
    assert load_config(str(tmp_path / "c.yaml")) == config


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[2] / "training" / "configs").glob("*.yaml")), ids=lambda p: p.stem
)
def test_the_configurations_that_ship_load(path):
    assert load_config(path.stem).epochs > 0


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--config", "nothing"], "no configuration 'nothing'; choose one of"),
        (["--stage", "magic"], "stage is 'magic'; choose one of cross-entropy"),
        (
            ["--decoder", "magic"],
            "'magic' is not a kind of decoder; choose one of annotated-transformer, att2in",
        ),
        (
            ["--decoder-config", "{hiden_size: 3}"],
            "decoder soft-attention has no 'hiden_size'; its fields",
        ),
        (["--data", "nowhere"], "There is no data set at nowhere"),
        (["--epochs", "0"], "epochs is 0; give 1 or more."),
        (["--epochs", "-1"], "epochs is -1; give 1 or more."),
        (["--epochs", ".inf"], "epochs is inf; give a whole number."),
        (["--patience", "0"], "patience is 0; give 1 or more."),
        (["--batch-size", "0"], "batch_size is 0; give 1 or more."),
        (["--captions-per-image", "0"], "captions_per_image is 0; give 1 or more."),
        (["--limit", "-1"], "limit is -1; give 0 or more."),
        (["--learning-rate", "-1"], "learning_rate is -1.0; give 0 or more."),
        (["--learning-rate", ".nan"], "learning_rate is nan; give a finite number."),
        (["--learning-rate", ".inf"], "learning_rate is inf; give a finite number."),
        (["--learning-rate", "1e38"], "learning_rate is 1e+38; give 1e+30 or less."),
        (["--name", "runs/mine"], "name is 'runs/mine'; give one that can be a file's"),
        (["--flips", "maybe"], "flips is maybe; give true or false."),
        (["--std", "[0, 0, 0]"], "std is [0.0, 0.0, 0.0]; give three numbers above 0."),
        (["--mean", "half"], "mean is half; give a list of 3"),
        (["--reward", "[cider]"], "reward is ['cider']; give fields with their values"),
        (["--reward", "{cider: much}"], "reward's cider is much; give a number."),
        (["--reward", "{}"], "The reward is empty; give a weight"),
        (["--teachers", "5"], "teachers is 5; give a list"),
        (["--seed", "-1"], "seed is -1; give 0 or more."),
        (["--beam-size", "1000"], "beam_size is 1000; give 100 or less."),
        (["--image-size", "1e9"], "image_size is 1000000000; give 4096 or less."),
        (["--data", "2024"], "There is no data set at 2024:"),
        (["--data", "photos #2"], "There is no data set at photos #2:"),
        (["--min-count", "100"], "The training captions say no word 100 times"),
        (["--decoder-config", "{dropout: 2}"], "dropout is 2.0; give a share from 0 to 1."),
        (["--decoder-config", "{hidden_size: big}"], "hidden_size is big; give a number."),
        (["--decoder-config", "{hidden_size: 0}"], "hidden_size is 0; give 1 or more."),
        (
            ["--decoder-config", "{score_activation: sigmoid}"],
            "'sigmoid' is no score_activation",
        ),
        (["--encoder-config", "{grid: [0, 0]}"], "grid is (0, 0); give 1 or more."),
        (["--encoder-config", "{grid: 3}"], "grid is 3; give a list of 2"),
        (
            ["--encoder-config", "{architecture: vit_b_32, layer: encoder}", "--image-size", "224"],
            "encoder of vit_b_32 gives no grid of places",
        ),
        (
            ["--encoder", "regions", "--encoder-config", "{detector_options: {image_size: 5}}"],
            "The detector's image_size cannot be 5",
        ),
        (["--encoder-config", "{architecture: 18}"], "'18' is not a CNN of torchvision"),
        (
            ["--decoder", "scratch-transformer", "--decoder-config", "{embedding_size: 10, heads: 3}"],
            "An embedding of 10 cannot be split into 3 heads",
        ),
        (["--device", "zz"], "The device 'zz' cannot be used"),
        (["--device", "meta"], "The device 'meta' cannot be used"),
        (["--out", "/proc/x/y"], "The folder /proc/x/y cannot be made"),
        (["--out", "/proc/self"], "The folder /proc/self cannot be written to (no permission)"),
    ],
)
def test_mistakes_are_one_sentence(flags, sentence, data, capsys, tmp_path):
    assert main(train(data, tmp_path, *flags)) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"a: [\n", "is not YAML"),
        (b"name: chi\xe9\n", "is not text in UTF-8"),
        (b"- epochs\n", "is no configuration; give YAML"),
        (b"5\n", "is no configuration; give YAML"),
        (b"1: 2\nlr: 3\n", "fields that do not exist: 1, lr"),
        (b"tokenizer:\n", "tokenizer is empty; give text."),
        (b"reward:\n", "reward is empty; give fields"),
    ],
)
def test_a_file_that_is_no_configuration_is_one_sentence(text, sentence, tmp_path):
    (tmp_path / "c.yaml").write_bytes(text)
    with pytest.raises(CaptionBotError, match=sentence):
        load_config(str(tmp_path / "c.yaml"))


def test_unknown_fields_of_a_file_are_named(tmp_path):
    (tmp_path / "c.yaml").write_text("lerning_rate: 1\n")
    with pytest.raises(CaptionBotError, match="fields that do not exist: lerning_rate"):
        load_config(str(tmp_path / "c.yaml"))


# Runs


@pytest.mark.slow  # 80 epochs; test_train_your_own.py has a captioner learn in fewer
def test_a_few_photos_are_learnt_by_heart_and_the_run_is_a_captioner(data, tmp_path, capsys):
    flags = "--limit 4 --captions-per-image 1 --epochs 80 --patience 80 --ema 0 --learning-rate 0.02"
    flags += " --label-smoothing 0 --doubly-stochastic 0 --flips false --beam-size 1 --weight-decay 0"
    # features of an untrained CNN hardly differ: less than bf16 can tell, and than is learnt unnormalised
    flags += " --amp off --decoder-config"
    decoder = "{normalise: true, embedding_size: 16, hidden_size: 16, attention_size: 8, dropout: 0.0}"
    assert main(train(data, tmp_path / "run", *flags.split(), decoder)) == 0
    assert "exact 1.0000" in capsys.readouterr().out
    captioner = Captioner.from_pretrained(tmp_path / "run")
    (captioned,) = captioner.caption(load_image(data / "0.jpg"), beam_size=1)
    assert captioned.captions[0].text == "a red bar is on the left"


def test_seeds_give_the_same_numbers_twice(data, tmp_path):
    for run in "ab":
        assert main(train(data, tmp_path / run, "--epochs", "2")) == 0
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))


def test_a_run_is_replaced_only_where_that_is_said(data, tmp_path, capsys):
    flags = train(data, tmp_path / "run", "--epochs", "1")
    assert main(flags) == 0
    before = weights(tmp_path / "run")
    capsys.readouterr()
    assert main([*flags, "--seed", "2"]) == 2
    error = capsys.readouterr().err
    assert "has a run already" in error
    assert error.count("\n") == 1
    assert same(weights(tmp_path / "run"), before)
    assert main([*flags, "--seed", "2", "--replace"]) == 0
    assert not same(weights(tmp_path / "run"), before)


@pytest.mark.parametrize(
    "stage",
    [
        pytest.param("cross-entropy", marks=pytest.mark.slow),
        "self-critical",
        pytest.param("fine-tune", marks=pytest.mark.slow),
        pytest.param("language-model", marks=pytest.mark.slow),
        pytest.param("distillation", marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_goes_on_to_what_it_would_have_been(data, text, tmp_path, stage):
    flags = ["--epochs", "3", "--checkpoint-minutes", "0", "--patience", "9"]
    if stage == "fine-tune":
        flags += ["--train-encoder", "true"]
    elif stage == "distillation":  # with all else that draws random numbers
        assert main(train(data, tmp_path / "teacher", "--epochs", "1")) == 0
        flags += ["--teachers", str(tmp_path / "teacher"), "--keep", "2"]
        flags += ["--scheduled-sampling", "0.5", "--word-dropout", "0.2"]
    else:
        flags += ["--stage", stage, "--text", str(text)]
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
    assert stages[0]["image_size"] and not {"image_size", "decoder"} & set(stages[1])  # taken over
    assert (card.with_suffix(".safetensors").stat().st_mode ^ card.stat().st_mode) & 0o777 == 0
    assert [stage["train_encoder"] for stage in stages] == [False, True]


def test_a_changed_photo_makes_another_cache(data, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(data, copy, ignore=shutil.ignore_patterns("cache"))
    names = ["0.jpg", "1.jpg"]
    small = Preprocessing((16, 16), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    first, _ = cached_pixels(open_images(copy), names, small, tmp_path / "cache")
    again, _ = cached_pixels(open_images(copy), names, small, tmp_path / "cache")
    assert first.filename == again.filename
    Image.new("RGB", (64, 64), (1, 200, 3)).save(copy / "0.jpg")
    changed, _ = cached_pixels(open_images(copy), names, small, tmp_path / "cache")
    assert changed.filename != first.filename
    assert (changed[0] != first[0]).any()


def test_a_corrupt_photo_is_named(data, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(data, copy, ignore=shutil.ignore_patterns("cache"))
    (copy / "3.jpg").write_bytes((copy / "3.jpg").read_bytes()[:200])
    assert main(train(copy, tmp_path / "run", "--epochs", "1")) == 2
    assert "3.jpg" in capsys.readouterr().err
    assert not list((copy / "cache").iterdir())  # nothing that a later run could take for a whole cache


def test_a_photo_that_cannot_be_read_can_be_left_out_and_is_named_at_the_end(data, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(data, copy, ignore=shutil.ignore_patterns("cache"))
    (copy / "3.jpg").write_bytes((copy / "3.jpg").read_bytes()[:200])
    (copy / "9.jpg").unlink()
    assert main(train(copy, tmp_path / "run", "--epochs", "1", "--on-bad-image", "skip")) == 0
    out = capsys.readouterr().out
    assert "2 photos were left out:" in out
    assert "3.jpg" in out and "9.jpg" in out
    (card,) = (tmp_path / "run").glob("show*.json")
    assert "7 training photos" in card.read_text()
    capsys.readouterr()
    assert main(train(copy, tmp_path / "again", "--epochs", "1")) == 2  # what was skipped once still stops
    assert "3.jpg" in capsys.readouterr().err


def unlinked(photo):
    photo.unlink()


def locked(photo):
    photo.chmod(0)
    if os.access(photo, os.R_OK):
        pytest.skip("no permission keeps this user, root perhaps, from reading a file")


@pytest.mark.parametrize("spoil", [unlinked, locked])
def test_a_photo_that_was_found_and_then_cannot_be_opened_is_left_out_until_it_can(data, tmp_path, spoil):
    copy = tmp_path / "copy"
    shutil.copytree(data, copy, ignore=shutil.ignore_patterns("cache"))
    photo, names = copy / "3.jpg", ["0.jpg", "3.jpg"]
    small, store = Preprocessing((16, 16), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), open_images(copy)
    spoil(photo)
    pixels, bad = cached_pixels(store, names, small, tmp_path / "cache", skip=True)
    assert len(pixels) == 1
    assert list(bad) == ["3.jpg"] and "cannot be read" in bad["3.jpg"]
    with pytest.raises(CaptionBotError, match=r"'3\.jpg' cannot be read"):
        cached_pixels(store, names, small, tmp_path / "cache")
    photo.unlink(missing_ok=True)
    shutil.copy(data / "3.jpg", photo)
    assert len(cached_pixels(store, names, small, tmp_path / "cache", skip=True)[0]) == 2


def test_a_loss_that_is_no_number_stops_the_run_and_the_checkpoint_is_the_one_before(data, tmp_path, capsys):
    flags = ["--epochs", "3", "--patience", "9"]
    assert main(train(data, tmp_path / "whole", *flags)) == 0
    assert main(train(data, tmp_path / "run", *flags, "--epochs", "1")) == 0
    before = (tmp_path / "run" / "checkpoint.pt").read_bytes()
    assert main(train(data, tmp_path / "run", *flags, "--learning-rate", "1e30", "--resume")) == 2
    error = capsys.readouterr().err
    assert "go on with --resume from the last checkpoint" in error
    assert "nan" in error or "not finite" in error
    assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == before
    assert main(train(data, tmp_path / "run", *flags, "--resume")) == 0


def test_a_checkpoint_that_lacks_something_is_one_sentence(data, tmp_path, capsys):
    assert main(train(data, tmp_path, "--epochs", "1")) == 0
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    del state["progress"]
    torch.save(state, tmp_path / "checkpoint.pt")
    assert main(train(data, tmp_path, "--epochs", "2", "--resume")) == 2
    assert "is of another captioner or stage" in capsys.readouterr().err


def test_ctrl_c_ends_a_run_that_can_be_resumed_without_closing_tensorboard(
    data, tmp_path, monkeypatch, capsys
):
    """To close it waits for a lock, which is held for ever where Ctrl-C struck as it was taken."""
    assert main(train(data, tmp_path, "--epochs", "1")) == 0

    def struck(self, *_):
        monkeypatch.setattr(self.monitor.writer, "close", lambda: pytest.fail("it was closed"))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Run, "_learn", struck)
        assert main(train(data, tmp_path, "--epochs", "2", "--resume")) == 130
    assert "Stopped; --resume goes on from the last checkpoint" in capsys.readouterr().err
    assert main(train(data, tmp_path, "--epochs", "2", "--resume")) == 0


def test_half_an_emoji_is_no_word_of_a_captioner(tmp_path):
    """A card is UTF-8, which cannot hold it."""
    captions = [tokenize("a dog \ud83d runs\ud83d")]
    assert captions == [["a", "dog", "runs"]]


@contextmanager
def files_of_at_most(size):
    """A limit of this process, which answers as a full disk does: the kernel refuses to write more."""
    resource = pytest.importorskip("resource", reason="needs limits of a process, which Windows lacks")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_last_checkpoint_whole(data, tmp_path, capsys):
    assert main(train(data, tmp_path / "run", "--epochs", "1")) == 0
    before = (tmp_path / "run" / "checkpoint.pt").read_bytes()
    flags = train(data, tmp_path / "run", "--epochs", "2", "--resume")
    with files_of_at_most(50_000):
        assert main(flags) == 2
    error = capsys.readouterr().err
    assert "The checkpoint could not be written" in error
    assert "Traceback" not in error
    assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == before
    assert not list((tmp_path / "run").glob("*.part"))
    assert main(flags) == 0


def test_a_step_in_parts_learns_what_it_learns_at_once(data, tmp_path):
    """Words, which differ in number from part to part, count alike; so do places."""
    flags = ["--epochs", "2", "--amp", "off", "--batch-size", "3", "--decoder-config"]
    flags += ["{embedding_size: 16, hidden_size: 16, attention_size: 8, dropout: 0.0}"]
    for out, parts in (("one", "1"), ("two", "2")):
        assert main(train(data, tmp_path / out, *flags, "--accumulate", parts)) == 0
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-3, atol=1e-5)
    flags = ["--stage", "self-critical", "--init", str(tmp_path / "one"), "--epochs", "1"]
    flags += [
        "--accumulate",
        "2",
        "--decoder-config",
        "{dropout: 0.0}",
        "--objective",
        "best",
        "--samples",
        "3",
    ]
    asked, told = [], []
    with pytest.MonkeyPatch.context() as patch:
        ask, scalars = Run._ask, Monitor.scalars
        patch.setattr(Run, "_ask", lambda *given: asked.append(ask(*given)) or asked[-1])
        patch.setattr(
            Monitor, "scalars", lambda self, said, step: told.append(said) or scalars(self, said, step)
        )
        assert main(train(data, tmp_path / "three", *flags)) == 0
    assert not same(one, weights(tmp_path / "three"))
    parts = [loss.figures["reward"] for loss in asked]  # of two photos each
    rewards = [said["reward"] for said in told if "reward" in said]
    assert len(parts) == 2 * len(rewards) > 2
    assert rewards == pytest.approx([(a + b) / 2 for a, b in zip(parts[::2], parts[1::2], strict=True)])


def test_a_run_ends_after_so_many_steps(data, tmp_path, capsys):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    flags = ["--epochs", "9", "--max-steps", "3", "--schedule", "linear", "--final-learning-rate", "0"]
    assert main(train(data, tmp_path / "run", *flags, "--learning-rate", "0.003")) == 0  # 2 steps an epoch
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    rates = [(e.step, e.value) for e in events.Scalars("learning_rate")]
    assert [step for step, _ in rates] == [1, 2, 3]
    assert [rate for _, rate in rates] == pytest.approx([0.003, 0.002, 0.001])
    assert "epoch 2: loss" in (said := capsys.readouterr().out) and "epoch 3" not in said
    assert main(train(data, tmp_path / "run", *flags, "--max-steps", "5", "--resume")) == 0
    assert "epoch 3: loss" in capsys.readouterr().out


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(data, tmp_path):
    """Under torchrun, at the same batch of all together; without what each draws for itself."""
    flags = ["--epochs", "2", "--amp", "off", "--batch-size", "3", "--decoder-config", "{dropout: 0.0}"]
    start = tmp_path / "start"
    assert main(train(data, start, "--epochs", "1")) == 0
    flags += ["--init", str(start)]
    assert main(train(data, tmp_path / "one", *flags)) == 0
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, "-m", "training.train", *train(data, tmp_path / "two", *flags)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("epoch 2: loss") == 1  # one of them talks
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-3, atol=1e-5)
    states = [torch.load(tmp_path / run / "checkpoint.pt", weights_only=True) for run in ("one", "two")]
    assert states[0]["best"] == pytest.approx(states[1]["best"])
    assert len(states[1]["random"]) == 2


def test_an_average_that_finds_no_room_leaves_nothing_behind(data, tmp_path, capsys):
    assert main(train(data, tmp_path / "run", "--epochs", "1")) == 0
    with files_of_at_most(50_000):
        assert average([str(tmp_path / "run"), "--out", str(tmp_path / "mean")]) == 2
    error = capsys.readouterr().err
    assert "The captioner could not be written" in error
    assert "run the command again." in error
    assert not list((tmp_path / "mean").iterdir())


def test_the_best_epochs_are_kept_and_averaged(data, tmp_path, capsys):
    flags = ["--epochs", "4", "--patience", "9", "--keep", "2"]
    assert main(train(data, tmp_path / "run", *flags)) == 0
    kept = sorted((tmp_path / "run" / "kept").glob("*.safetensors"))
    assert len(kept) == 2
    said = capsys.readouterr().out
    scores = {int(e): float(c) for e, c in re.findall(r"epoch (\d+): .*val_loss ([\d.]+)", said)}
    best = sorted(scores, key=scores.__getitem__)[:2]
    assert {int(file.stem.rpartition("-")[2]) for file in kept} == set(best)
    assert ("The last epoch was still the best: more --epochs may be better" in said) == (best[0] == 4)
    assert average([str(tmp_path / "run"), "--out", str(tmp_path / "mean")]) == 0
    mean, members = weights(tmp_path / "mean"), [load_file(file) for file in kept]
    for name in mean:
        torch.testing.assert_close(mean[name], (members[0][name] + members[1][name]) / 2)
    (card,) = (tmp_path / "mean").glob("*.json")
    written = json.loads(card.read_text())["training"]["val"]
    assert set(written) == {"val_loss", "perplexity", "CIDEr", "Bleu_4"}
    assert Captioner.from_pretrained(tmp_path / "mean").caption(load_image(data / "0.jpg"))
    assert average([str(tmp_path / "run"), str(data), "--out", str(tmp_path / "mean")]) == 2
    capsys.readouterr()
    assert average([str(card), "--out", str(tmp_path / "again")]) == 2  # it has no configuration of its own
    assert "has no config.yaml; say what to validate on with --config" in capsys.readouterr().err
    assert average([str(kept[0].with_suffix(".json")), "--out", str(card)]) == 2  # looked at before the work
    assert "cannot be made (File exists); give another --out" in capsys.readouterr().err


def test_tensorboard_shows_captions_with_their_heatmaps(data, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert main(train(data, tmp_path / "run", "--epochs", "2", "--sample-photos", "1")) == 0
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert [e.step for e in events.Scalars("val/CIDEr")] == [1, 2]
    assert [e.step for e in events.Scalars("loss")] == [1, 2, 3, 4]
    pictures = events.Images("10.jpg")
    assert [picture.step for picture in pictures] == [1, 2]
    drawn = Image.open(io.BytesIO(pictures[0].encoded_image_string))
    assert drawn.width > 200 and len(drawn.convert("RGB").getcolors(1 << 20)) > 100


# Stages


def test_scheduled_sampling_feeds_the_models_own_words():
    """A model that is sure of one word reads nothing else when it always reads its own."""
    decoder, features, token_ids = toy()
    with torch.no_grad():
        decoder.output_word.bias[5] = 100.0
    fives = token_ids.where((token_ids < 4) & (token_ids != 2), torch.tensor(5))
    fives = fives.where(token_ids != 0, torch.tensor(0))
    own = teacher_force(decoder, features, token_ids, own_words=1.0)
    told = teacher_force(decoder, features, token_ids, inputs=fives)
    torch.testing.assert_close(own.logits, told.logits)
    assert torch.equal(own.targets, teacher_force(decoder, features, token_ids).targets)


def test_dropped_words_are_unknown_and_marks_stay():
    _, _, token_ids = toy()
    vocabulary = Vocabulary.build([["a", "b", "c", "d", "e"]])
    dropped = drop_words(token_ids, 1.0, vocabulary)
    assert torch.equal(dropped, token_ids.where(token_ids < 4, torch.tensor(vocabulary.unk_id)))
    assert torch.equal(drop_words(token_ids, 0.0, vocabulary), token_ids)


def test_distillation_is_the_cross_entropy_to_the_teachers_mean():
    decoder, features, token_ids = toy()
    teachers = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        other = SoftAttentionDecoder(decoder.config).eval()
        teachers.append((other, Features(torch.randn(3, 2 + seed, 4), torch.rand(1, 2 + seed, 4))))
    forced = teacher_force(decoder, features, token_ids)
    soft = soft_targets(forced, [teacher_force(d, f, token_ids) for d, f in teachers])
    (term,) = caption_loss(forced, 0.0, 0.0, soft, 0.3)
    expected, words = 0.0, 0
    for image in range(3):
        for caption in range(2):
            ids = [i for i in token_ids[image, caption].tolist() if i]
            answers = []
            for d, f in [(decoder, features), *teachers]:
                state, steps = d.start(Features(f.values[image : image + 1], f.boxes)), []
                for word in ids[:-1]:
                    log_probs, _, state = d.step(torch.tensor([word]), state)
                    steps.append(log_probs[0])
                answers.append(torch.stack(steps))
            mine, target = answers[0], (answers[1].exp() + answers[2].exp()) / 2
            expected = expected - 0.7 * mine[range(len(mine)), ids[1:]].sum() - 0.3 * (target * mine).sum()
            words += len(mine)
    torch.testing.assert_close(term.mean, expected / words)


def test_a_greedy_baseline_is_what_samples_have_to_beat():
    decoder, features, token_ids = toy(batch=2)
    forced = teacher_force(decoder, features, token_ids)
    rewards, baseline = torch.tensor([[0.5, 0.9], [0.1, 0.2]]), torch.tensor([0.5, 0.4])
    loss = self_critical_loss(forced, rewards, baseline=baseline)
    logits = forced.logits.clone()
    logits[:, list(Vocabulary.special_ids)] = float("-inf")
    costs = -logits.log_softmax(-1)[range(len(forced.targets)), forced.targets]
    advantage = torch.tensor([0.0, 0.4, -0.3, -0.2])
    torch.testing.assert_close(loss.mean, (costs * advantage[forced.rows]).mean())


def test_the_reward_is_weighed_from_cider_and_sentence_bleu():
    references = [
        [["a", "dog", "runs", "on", "the", "grass"], ["a", "brown", "dog", "runs"]],
        [["a", "red", "ball"]],
    ]
    captions, images = [["a", "dog", "runs"], ["a", "red", "ball"], ["the", "the"]], [0, 1, 1]
    ended = [[*c, "<eos>"] for c in captions]
    truth = [[[*r, "<eos>"] for r in image] for image in references]
    cider, scores = CiderD(truth)(ended, images), sentence_bleu(ended, [truth[i] for i in images])
    both = Reward(references, {"cider": 0.5, "bleu_4": 2.0})(captions, images)
    np.testing.assert_allclose(both, 0.5 * cider + 2.0 * scores)
    # of "the the <eos>" the end alone is right: 1/3, (0+1)/(2+1), (0+1)/(1+1), (0+1)/(0+1)
    assert scores[1] == pytest.approx(1.0, abs=1e-6)
    assert scores[2] == pytest.approx((1 / 3 * 1 / 3 * 1 / 2 * 1 / 1) ** 0.25 * math.exp(1 - 4 / 3), abs=1e-6)


@pytest.mark.parametrize("frozen", [True, False])
def test_self_critical_training_reaches_what_it_is_to_train(data, tmp_path, frozen):
    """Also end to end: what is sampled from features without gradient is learnt with it, down to the CNN."""
    start = tmp_path / "start"
    flags = ["--epochs", "6", "--learning-rate", "0.01", "--patience", "9", "--ema", "0", "--amp", "off"]
    assert main(train(data, start, *flags)) == 0
    flags = ["--stage", "self-critical", "--init", str(start), "--epochs", "1", "--baseline", "greedy"]
    flags += [
        "--reward",
        "{cider: 1.0, bleu_4: 0.5}",
        "--train-encoder",
        str(not frozen).lower(),
        "--ema",
        "0",
    ]
    assert main(train(data, tmp_path / "run", *flags)) == 0
    before, after = weights(start), weights(tmp_path / "run")
    moved = [k for k in before if not torch.equal(before[k], after[k])]
    assert any(k.startswith("decoder.") for k in moved)
    assert any(k.startswith("encoder.") for k in moved) is not frozen


def test_a_decoder_learns_the_language_first_and_then_to_see(data, text, tmp_path, capsys):
    flags = ["--stage", "language-model", "--text", str(text), "--epochs", "8", "--learning-rate", "0.02"]
    flags += ["--ema", "0", "--label-smoothing", "0", "--batch-size", "2"]
    assert main(train(data, tmp_path / "language", *flags)) == 0
    found = [float(p) for p in re.findall(r"epoch \d+:.* perplexity ([\d.]+)", capsys.readouterr().out)]
    assert found[-1] < 0.7 * found[0]
    assert found[0] < 17  # the words that there are
    flags = ["--init", str(tmp_path / "language"), "--epochs", "1"]
    assert main(train(data, tmp_path / "seeing", *flags)) == 0
    (card,) = (tmp_path / "seeing").glob("show*.json")
    stages = json.loads(card.read_text())["training"]["stages"]
    assert [s["stage"] for s in stages] == ["language-model", "cross-entropy"]
    assert [len(s["curve"]) for s in stages] == [s["best"]["epoch"] for s in stages]
    assert stages[1]["curve"][-1]["CIDEr"] == pytest.approx(stages[1]["best"]["CIDEr"], abs=1e-4)


def test_what_text_cannot_teach_is_left_as_it_was(data, text, tmp_path):
    """The CNN, and the attention, which has but one place to look at; weight decay leaves them alone too."""
    flags = ["--stage", "language-model", "--text", str(text), "--ema", "0", "--weight-decay", "0.5"]
    flags += ["--amp", "off", "--learning-rate", "0.01", "--patience", "9"]
    for run, epochs in (("one", "1"), ("two", "3")):
        assert main(train(data, tmp_path / run, *flags, "--epochs", epochs)) == 0
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    same_in_both = {k for k in one if torch.equal(one[k], two[k])}
    assert {k for k in one if k.startswith("encoder.")} <= same_in_both
    assert {"decoder.attend_score.weight", "decoder.annotate.weight"} <= same_in_both
    assert "decoder.embedding.weight" not in same_in_both


def test_a_process_without_a_caption_learns_what_the_others_learn(data, text, tmp_path):
    """The last batch of text may have fewer captions than there are processes."""

    class Idle(World):
        def share(self, items):
            return items[:0]

        def sum(self, numbers):
            return [1.0, 1.0, 0.0][: len(numbers)]  # the others' loss, captions, and no checkpoint

        def add_gradients(self, parameters):
            found = [p.grad.add_(1.0) for p in parameters if p.grad is not None]
            assert found

    config = load_config(
        "show-attend-tell-flickr8k", data=str(data), cache=str(tmp_path / "cache"), stage="language-model",
        text=str(text), image_size=64, encoder_weights="", warmup_steps=0, weight_decay=0, ema=0, min_count=1,
        encoder_config={"architecture": "mobilenet_v2", "layer": "features.3"},
        decoder_config={"embedding_size": 16, "hidden_size": 16, "attention_size": 8},
    )  # fmt: skip
    run = Run(config, tmp_path, Idle(torch.device("cpu")))
    before = run.learner.model.decoder.embedding.weight.clone()
    with Monitor(tmp_path, run.world) as run.monitor:
        run._learn(np.arange(1), np.zeros(1, bool), torch.zeros(1, 6), False)
    assert (run.learner.model.decoder.embedding.weight < before).all()


def test_a_student_learns_from_teachers_with_other_eyes(data, tmp_path, capsys):
    sizes = "{annotation_size: 8, embedding_size: 12, hidden_size: 12, attention_size: 8}"
    other = ["--encoder-config", "{architecture: mobilenet_v2, layer: features.2}", "--image-size", "48"]
    assert main(train(data, tmp_path / "one", "--epochs", "1")) == 0
    assert main(train(data, tmp_path / "two", "--epochs", "1", *other, "--decoder-config", sizes)) == 0
    teachers = ["--teachers", f"[{tmp_path / 'one'}, {tmp_path / 'two'}]"]
    assert main(train(data, tmp_path / "run", "--epochs", "1", *teachers)) == 0
    assert main(train(data, tmp_path / "alone", "--epochs", "1")) == 0
    assert not same(weights(tmp_path / "run"), weights(tmp_path / "alone"))
    assert main(train(data, tmp_path / "three", "--epochs", "1", "--max-size", "5")) == 0
    capsys.readouterr()
    flags = ["--epochs", "1", "--teachers", str(tmp_path / "three")]
    assert main(train(data, tmp_path / "four", *flags)) == 2
    assert "another vocabulary than the student" in capsys.readouterr().err


def test_a_student_says_what_a_teacher_says(data, tmp_path, capsys):
    """One photo in two is called by another name than people's: the student learns the teacher's."""
    said = [{"image": f"{i}.jpg", "caption": f"the bar is {'blue' if i % 2 else 'green'}"} for i in range(8)]
    (tmp_path / "said.json").write_text(json.dumps(said))
    flags = ["--sentences", str(tmp_path / "said.json"), "--epochs", "1"]
    split, _ = read_splits(TrainingConfig(data=str(data), sentences=str(tmp_path / "said.json")))
    assert split.captions == read_splits(TrainingConfig(data=str(data)))[0].captions
    vocabulary = Vocabulary.build([c for image in split.captions for c in image], min_count=1)
    ids = split.token_ids(vocabulary, 3, 20)
    assert [vocabulary.decode(row[1:5].tolist()) for row in ids[1]] == [
        ["the", "bar", "is", "blue"], ["a", "green", "bar", "is"], ["there", "is", "a", "green"],
    ]  # fmt: skip
    assert main(train(data, tmp_path / "run", *flags, "--captions-per-image", "1")) == 0
    assert main(train(data, tmp_path / "people", "--epochs", "1", "--captions-per-image", "1")) == 0
    assert not same(weights(tmp_path / "run"), weights(tmp_path / "people"))
    (tmp_path / "said.json").write_text(json.dumps(said[:-1]))
    capsys.readouterr()
    assert main(train(data, tmp_path / "lacking", *flags)) == 2
    assert "no caption of '7.jpg'" in capsys.readouterr().err


# Features


class Regions(torch.nn.Module):
    """As many places as a photo is bright, each with a box of its own: as a detector gives them."""

    def forward(self, pixel_values):
        counts = 1 + (pixel_values.mean((1, 2, 3)) * 3).long().clamp(0, 3)
        places = int(counts.max())
        mask = torch.arange(places) < counts[:, None]
        values = pixel_values.mean((2, 3)).unsqueeze(1) + torch.arange(places).view(1, -1, 1)
        boxes = torch.rand(len(values), places, 4, generator=torch.Generator().manual_seed(places))
        return Features(values * mask.unsqueeze(-1), boxes, None, mask)


def test_regions_are_cached_with_their_boxes_and_without_padding(tmp_path):
    rng = np.random.default_rng(0)
    bright = rng.permutation(70)[:, None, None, None] * 3.5
    pixels = np.broadcast_to(bright, (70, 8, 8, 3)).astype(np.uint8)
    plain, device = Preprocessing((8, 8), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)), torch.device("cpu")
    encoder = Regions()
    cached = cached_features(encoder, plain, pixels, True, tmp_path, device)
    assert len(cached) == 70
    images = np.array([5, 69, 0, 33])
    found = cached(encoder, images, np.array([True, False, False, True]))
    for row, image in enumerate(images):
        batch = image // 32 * 32
        whole = encoder(normalise(pixels[batch : batch + 32], plain, device))
        mask = whole.mask[image - batch]
        count = int(mask.sum())
        assert found.mask[row].tolist() == [True] * count + [False] * (found.mask.shape[1] - count)
        torch.testing.assert_close(
            found.values[row, :count], whole.values[image - batch][mask], rtol=1e-3, atol=1e-3
        )
        torch.testing.assert_close(found.boxes[row, :count], whole.boxes[image - batch][mask])
        assert not found.values[row, count:].any()


def test_cached_grids_are_the_encoders_own(data, tmp_path):
    encoder = build_encoder("grid", {"architecture": "mobilenet_v2", "layer": "features.3"}).eval()
    half = Preprocessing((32, 32), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    pixels, bad = cached_pixels(open_images(data), ["4.jpg", "0.jpg", "9.jpg"], half, tmp_path)
    assert not bad
    cached = cached_features(encoder, half, pixels, True, tmp_path, torch.device("cpu"))
    found = cached(encoder, np.array([2, 0]), np.array([True, False]))
    values = normalise(pixels, half, torch.device("cpu"))
    with torch.inference_mode():
        own = encoder(torch.stack([values[2].flip(-1), values[0]]))
    torch.testing.assert_close(found.values, own.values, rtol=1e-3, atol=1e-3)
    assert torch.equal(found.boxes, own.boxes)
    assert found.grid == own.grid and found.mask is None


def test_a_share_of_the_photos_is_seen_without_a_quarter(data, tmp_path):
    encoder = build_encoder("grid", {"architecture": "mobilenet_v2", "layer": "features.3"}).eval()
    half = Preprocessing((32, 32), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    pixels, _ = cached_pixels(open_images(data), ["4.jpg", "0.jpg", "9.jpg"], half, tmp_path)
    device, images, plain = torch.device("cpu"), np.array([2, 0]), np.zeros(2, bool)
    crops = torch.full((2, 7), 0.5)
    crops[:, 6] = torch.tensor([0.2, 0.4])  # the first alone is below the share of 0.3
    kept = cached_features(encoder, half, pixels, True, tmp_path, device, hide_patches=0.3)
    anew = PixelFeatures(pixels, half, device, hide_patches=0.3)
    with torch.inference_mode():
        for source in (kept, anew):
            whole, found = source(encoder, images), source(encoder, images, plain, crops)
            torch.testing.assert_close(found.values[1], whole.values[1], rtol=1e-3, atol=1e-3)
            changed = (found.values[0] - whole.values[0]).abs().amax(1) > 0.01 * whole.values.abs().max()
            assert 0.25 <= changed.float().mean() < 0.8  # the quarter and what sees some of it
        mirrored = kept(encoder, images, ~plain, crops).values - kept(encoder, images, ~plain).values
        assert mirrored[0].any() and not mirrored[1].any()


# Families


@pytest.mark.parametrize("kind", [kind for kind in FAMILIES if kind != "ensemble"])
def test_every_kind_of_decoder_is_trained_by_the_same_stages(data, tmp_path, kind):
    decoder = [
        "--decoder",
        kind,
        "--decoder-config",
        SMALL_DECODERS.get(kind, "{embedding_size: 16, hidden_size: 16}"),
    ]
    assert main(train(data, tmp_path / "one", "--epochs", "1", "--word-dropout", "0.1", *decoder)) == 0
    flags = ["--epochs", "1", "--init", str(tmp_path / "one"), "--stage", "self-critical", "--samples", "2"]
    assert main(train(data, tmp_path / "two", *flags, "--decoder-config", "{}")) == 0
    (captioned,) = Captioner.from_pretrained(tmp_path / "two").caption(load_image(data / "0.jpg"))
    assert captioned.captions[0].words


def test_a_photo_is_mirrored_cropped_to_a_share_of_its_sides_and_changed_in_colour():
    torch.manual_seed(0)
    photos = torch.rand(2, 3, 20, 20)
    still, whole = torch.full((2, 6), 0.5), torch.full((2, 6), 1.0)
    both = torch.tensor([False, True])
    seen = augment(photos, both, whole, crop=0.5, jitter=0.0)
    torch.testing.assert_close(seen, torch.stack([photos[0], photos[1].flip(-1)]), atol=1e-4, rtol=0)

    ramp = torch.linspace(0, 1, 20).expand(2, 3, 20, 20)
    corner = torch.zeros(2, 6)  # the smallest crop, at the left
    seen = augment(ramp, torch.tensor([False, False]), corner, crop=0.5)
    torch.testing.assert_close(seen[..., 1:], ramp[..., :19] / 2 + 0.25 / 19, atol=1e-3, rtol=0)

    neither = torch.tensor([False, False])
    torch.testing.assert_close(augment(photos, neither, still, 1.0, 0.4), photos, atol=1e-4, rtol=0)
    bright = still.clone()
    bright[:, 3] = 1
    torch.testing.assert_close(augment(photos, neither, bright, 1.0, 0.4), photos + 0.4, atol=1e-4, rtol=0)
    pale = still.clone()
    pale[:, 5] = 0
    seen = augment(photos, neither, pale, 1.0, 1.0)  # all colour is gone, brightness stays
    torch.testing.assert_close(seen, photos.mean(1, keepdim=True).expand_as(photos), atol=1e-4, rtol=0)


def test_a_decoder_moves_to_the_encoder_of_another_captioner(tmp_path):
    start = build_tiny_captioner(tmp_path / "start")
    card, encoder, decoder = cards.load(start)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(1)
    cards.save(tmp_path / "other", card, encoder, decoder)
    config = TrainingConfig(init=str(tmp_path / "start"), encoder_weights=str(tmp_path / "other"))
    _, model = build_captioner(config, [])
    for part, expected in ((model.encoder, encoder), (model.decoder, decoder)):
        torch.testing.assert_close(dict(part.state_dict()), dict(expected.state_dict()))


def test_export_puts_another_cnn_under_a_captioner(tmp_path, capsys):
    start = build_tiny_captioner(tmp_path / "start")
    card, encoder, decoder = cards.load(start)
    sizes = decoder.config.feature_size, decoder.config.vocabulary_size
    decoder.evidence = WordEvidence(*sizes, rank=2)
    cards.save(
        tmp_path / "start",
        dataclasses.replace(card, evidence={"phrases": sizes[1], "rank": 2}, scores={"CIDEr": 1.0}),
        encoder,
        decoder,
    )
    decoder.evidence = None
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(1)
    other = cards.save(tmp_path / "other", card, encoder, decoder)
    arguments = [str(start), "--name", "moved", "--out", str(tmp_path), "--storage", "float32"]
    assert export([*arguments, "--cnn", str(other)]) == 0
    of_before, moved, speaker = cards.load(tmp_path / "moved.json")
    torch.testing.assert_close(dict(moved.state_dict()), dict(encoder.state_dict()))
    assert (of_before.evidence, of_before.scores, speaker.evidence) == ({}, {}, None)
    another = build_tiny_captioner(tmp_path / "another", cnn=("squeezenet1_1", "features.6", 256))
    assert export([*arguments, "--cnn", str(another)]) == 2
    assert "does not fit" in capsys.readouterr().err


@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
def test_a_cnns_weights_come_as_torchvision_has_them_or_as_safetensors(tmp_path, ending):
    path, cnn = tmp_path / f"squeezenet{ending}", torchvision.models.squeezenet1_1()
    if ending == ".pth":
        torch.save(cnn.state_dict(), path)
    else:
        save_file(cnn.state_dict(), path)
    options = {"encoder_config": {"architecture": "squeezenet1_1", "layer": "features.3"}, "image_size": 32}
    config = TrainingConfig(encoder_weights=str(path), **options)
    _, model = build_captioner(config, [["a", "dog"]] * 9)
    torch.testing.assert_close(model.encoder.cnn.get_submodule("features.0").weight, cnn.features[0].weight)


@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
def test_what_holds_no_weights_is_one_sentence(tmp_path, ending):
    path = tmp_path / f"odd{ending}"
    with pytest.raises(CaptionBotError, match="There are no weights at"):
        read_weights(path)
    path.write_bytes(b"no weights at all")
    with pytest.raises(CaptionBotError, match=r"odd.* holds no weights"):
        read_weights(path)
    if ending == ".pth":
        torch.save(["nothing", 3], path)
        with pytest.raises(CaptionBotError, match=r"odd.* holds no weights"):
            read_weights(path)
