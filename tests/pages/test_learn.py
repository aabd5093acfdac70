"""Explanations with a photo's own numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from tiny import build_tiny_captioner

from captionbot import Captioner
from captionbot.captioner import Captioned
from captionbot.pages import lessons as learn
from captionbot.types import Fate


@pytest.fixture(scope="module")
def captioned(tmp_path_factory: pytest.TempPathFactory) -> Captioned:
    captioner = Captioner.from_pretrained(build_tiny_captioner(tmp_path_factory.mktemp("weights")))
    return captioner.caption([Image.new("RGB", (64, 64), "red")])[0]


def test_attention_names_the_sharpest_and_the_widest_look(captioned):
    caption = captioned.captions[0]
    words = len(caption.words)
    alphas = np.full((words, 16), 1 / 16)
    alphas[1] = np.eye(16)[3]  # all on one place
    said = learn.attention(replace(caption, alphas=alphas), "soft-attention", np.linspace(0.2, 0.9, words))
    assert f"**“{caption.words[1].text}”**, as if at 1 places" in said.text
    assert "as if at 16." in said.text
    least, most = (words - 1) / 16, (words - 1) / 16 + 1
    assert f"between {least:.2f} and {most:.2f}" in said.text
    assert f"all alike it would be {words / 16:.2f} each" in said.text
    assert f"at 0.90, for “{caption.words[-1].text}”" in said.text
    assert "doubly stochastic" in said.text
    other = learn.attention(replace(caption, alphas=alphas, grid=None), "top-down")
    assert "16 boxes" in other.text
    assert not {"doubly", "gate"} & set(other.text.split())
    assert "1707.07998" in other.source


def test_beam_counts_what_the_search_weighed(captioned):
    search = captioned.search
    options = replace(learn.SearchOptions(), beam_size=3, length_penalty=0.7)
    text = learn.beam(search, options).text
    assert f"**{np.count_nonzero(search.fates != Fate.NONE)}** continuations" in text
    assert f"kept **{np.count_nonzero(search.fates == Fate.KEPT)}**" in text
    best = search.hypotheses[0][0]
    assert f"{best.log_prob:.2f} over {len(best.log_probs)} words" in text
    assert best.score == pytest.approx(best.log_prob / len(best.log_probs) ** 0.7)
