"""Which epoch of a run is kept, and how well people's captions are foreseen."""

from __future__ import annotations

import math
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from captionbot.decoders.soft_attention import SoftAttentionConfig, SoftAttentionDecoder
from captionbot.text.vocabulary import Vocabulary
from captionbot.types import Features
from training.run.choice import ENOUGH_FOR_CIDER, ENOUGH_FOR_LOSS, Choice, choose
from training.run.config import TrainingConfig
from training.run.distributed import World
from training.run.splits import Split
from training.run.validation import Foreseen

CAPTIONS = [["a", "dog", "runs"], ["a", "cat"]]


def val(photos: int, sources: list[str] | None = None) -> Split:
    return Split([f"{i}.jpg" for i in range(photos)], [CAPTIONS] * photos, sources=sources or [])


@pytest.mark.parametrize(
    ("photos", "config", "by"),
    [
        (1, {}, "last"),
        (ENOUGH_FOR_LOSS - 1, {}, "last"),
        (ENOUGH_FOR_LOSS, {}, "loss"),
        (ENOUGH_FOR_CIDER - 1, {}, "loss"),
        (ENOUGH_FOR_CIDER, {}, "CIDEr"),
        (1, {"stage": "self-critical"}, "CIDEr"),  # cross-entropy rises as the reward does
        (1, {"limit": 1}, "CIDEr"),  # val is train, to be learnt by heart
        (ENOUGH_FOR_CIDER, {"stage": "language-model", "text": "a.jsonl"}, "loss"),
        (1, {"choose_by": "loss"}, "loss"),
        (ENOUGH_FOR_CIDER, {"choose_by": "last"}, "last"),
    ],
)
def test_the_number_that_chooses_is_one_that_val_is_large_enough_for(photos, config, by):
    assert choose(TrainingConfig(**config), val(photos)).by == by


def test_people_are_told_what_chooses_and_why():
    assert "of 8 val photos is mostly chance" in choose(TrainingConfig(), val(8)).why
    assert "1 val photo cannot choose by anything" in choose(TrainingConfig(), val(1)).why
    assert "of 2 val photos it is mostly chance" in choose(TrainingConfig(stage="self-critical"), val(2)).why
    small = ["a"] * ENOUGH_FOR_CIDER + ["b"] * 5  # the smaller part of a mixture is as noisy as it is alone
    assert "of 5 val photos" in choose(TrainingConfig(), val(len(small), small)).why


@pytest.mark.parametrize(("by", "kept"), [("CIDEr", 2), ("loss", 3), ("last", 4)])
def test_the_best_epoch_is_that_of_the_number_that_chooses(by, kept):
    epochs = [(0.1, 3.0), (0.5, 2.5), (0.2, 2.0), (math.nan, math.nan)]
    choice, best = Choice(by, ""), {}
    for epoch, (cider, loss) in enumerate(epochs, 1):
        scores = {"CIDEr": cider, "val_loss": loss, "epoch": epoch}
        if choice.is_better(scores, best):
            best = scores
    assert best["epoch"] == kept


def test_a_run_of_an_earlier_version_goes_on_though_its_best_has_no_loss():
    assert Choice("loss", "").is_better({"val_loss": 9.0, "epoch": 2}, {"CIDEr": 0.5, "epoch": 1})


def test_the_loss_on_val_is_the_mean_surprise_at_each_word_of_people():
    torch.manual_seed(0)
    vocabulary = Vocabulary.build(CAPTIONS)
    decoder = SoftAttentionDecoder(
        SoftAttentionConfig(len(vocabulary), 4, embedding_size=6, hidden_size=6, attention_size=6)
    ).eval()
    values = torch.randn(60, 3, 4)  # of more photos than are looked at in one go
    boxes = torch.rand(1, 3, 4)

    def features(encoder: Any, images: np.ndarray, *_: Any) -> Features:
        return Features(values[images], boxes)

    config = TrainingConfig(label_smoothing=0.3, captions_per_image=2, amp="off")
    foreseen = Foreseen(config, vocabulary, val(60), features, World(torch.device("cpu")))
    scores = foreseen(SimpleNamespace(), decoder)  # type: ignore[arg-type]
    nats = []
    for image in range(60):
        for caption in CAPTIONS:
            state = decoder.start(features(None, np.array([image])))
            ids = [vocabulary.bos_id, *vocabulary.encode(caption), vocabulary.eos_id]
            for word, following in pairwise(ids):
                log_probs, _, state = decoder.step(torch.tensor([word]), state)
                nats.append(-log_probs[0, following].item())
    assert scores["val_loss"] == pytest.approx(np.mean(nats), rel=1e-5)
    assert scores["perplexity"] == pytest.approx(math.exp(np.mean(nats)), rel=1e-5)
