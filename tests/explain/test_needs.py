"""What words need of a photo: the maps, their test, and the verdicts."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cells import BLOCK, SIZE, cells_captioner, first_caption
from PIL import Image
from torch import nn

from captionbot import Captioner
from captionbot.decoders import build_decoder
from captionbot.encoders import grid_boxes
from captionbot.errors import CaptionBotError
from captionbot.explain import needs
from captionbot.explain.faithfulness import Faithfulness, Measured, Rate, Share, cell_heat, over
from captionbot.explain.needs import Needs, Verdict
from captionbot.images.load import Preprocessing, to_pixel_values
from captionbot.store.card import Card
from captionbot.text.vocabulary import Vocabulary
from captionbot.types import Features, Size

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def known(bright: Image.Image) -> Needs:
    """Of a word that hangs on BLOCK, while the captioner claims to look elsewhere."""
    captioner = cells_captioner([cell for cell in range(64) if cell not in BLOCK], seen=BLOCK)
    return needs.needs(captioner, bright, first_caption(captioner, bright))


def heat(cells: list[int]) -> np.ndarray:
    return np.isin(np.arange(64), cells).astype(float)[None]


def planted(words: int = 60, seed: int = 0, noise: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """(T, 64) maps, patches each, and (N, T) what words lose whose losses they are, with noise."""
    maps = needs.random_fields(words, seed)
    maps = maps - maps.mean(1, keepdims=True)
    lost = needs.design().hidden @ maps.T
    return maps, lost + noise * lost.std(0) * np.random.default_rng(seed + 1).standard_normal(lost.shape)


def test_the_map_is_where_the_word_hangs_and_a_claim_elsewhere_fails(known: Needs) -> None:
    assert known.words == ("bright",)
    assert known.verdicts == (Verdict.PLACE,)
    assert known.r[0] > 0.9
    assert known.p[0] == 0.001
    assert set(np.flatnonzero(known.hottest[0])) >= set(BLOCK[5:7] + BLOCK[9:11])  # the middle of it
    assert int(known.maps[0].argmax()) in BLOCK
    assert known.after[0] < known.before[0] / 2
    elsewhere = needs.test(heat([cell for cell in range(64) if cell not in BLOCK]), known.drops)
    there = needs.test(heat(BLOCK), known.drops)
    assert elsewhere[1][0] > 0.9
    assert there[1][0] == 0.001


def test_a_word_that_hangs_on_nothing_comes_from_the_sentence(bright: Image.Image) -> None:
    captioner = cells_captioner(None, seen=BLOCK)
    caption = first_caption(captioner, Image.new("RGB", (SIZE, SIZE), (90, 90, 90)))  # hiding changes nothing
    even = needs.needs(captioner, Image.new("RGB", (SIZE, SIZE), (90, 90, 90)), caption)
    assert even.verdicts == (Verdict.SENTENCE,)
    assert even.p[0] == 1
    assert even.after[0] == pytest.approx(even.before[0], rel=1e-3)


@pytest.mark.parametrize("regions", [False, True])
def test_captioners_of_regions_and_without_attention(regions: bool, bright: Image.Image) -> None:
    captioner = cells_captioner(None, regions, BLOCK)
    caption = first_caption(captioner, bright)
    found = needs.needs(captioner, bright, caption)
    assert found.verdicts == (Verdict.PLACE,)
    assert int(found.maps[0].argmax()) in BLOCK
    if regions:  # whose places are boxes, the whole photo the first of them
        drawn = found.on(caption)
        assert drawn.grid is None
        np.testing.assert_array_equal(drawn.boxes, caption.boxes)
        np.testing.assert_allclose(drawn.alphas[0, 1:], np.maximum(found.maps[0].ravel(), 0), atol=1e-9)
        assert drawn.alphas[0, 0] == 0


def test_a_box_costs_what_hiding_it_costs(bright: Image.Image) -> None:
    """Boxes that overlap: of the block that the word hangs on, of parts of it, and elsewhere."""
    captioner = cells_captioner(None, seen=BLOCK)
    caption = first_caption(captioner, bright)
    boxes = np.array([[8, 8, 24, 24], [8, 8, 24, 16], [0, 8, 16, 24], [24, 0, 32, 32], [0, 0, 32, 32]], float)
    found = needs.needs(captioner, bright, caption)
    told = found.as_word_maps(replace(caption, boxes=boxes, alphas=np.ones((1, 5)), grid=None))
    assert told.grid is None
    lost = []
    for box in boxes[:4].astype(int).tolist():
        hidden = bright.copy()
        hidden.paste(tuple(np.asarray(bright).reshape(-1, 3).mean(0).round().astype(int).tolist()), box)
        again = needs.caption_of(captioner, captioner.encode([hidden]), Size(SIZE, SIZE), caption.text)
        lost.append(caption.words[0].log_prob - again.words[0].log_prob)
    assert np.argmax(told.maps[0]) == np.argmax(lost) == 0
    assert np.argmin(told.maps[0, :4]) == np.argmin(lost) == 3
    assert np.corrcoef(told.maps[0, :4], lost)[0, 1] > 0.9
    assert told.maps[0, 4] == 0  # the whole photo


def test_the_closed_form_is_what_refits_foretell() -> None:
    """Each copy foretold by a regression on the 82 others, written out anew."""
    _, lost = planted(3)
    of = needs.design()
    z = of.hidden.astype(float)
    y, x = np.divmod(np.arange(64), 8)
    distances = np.subtract.outer(y, y) ** 2 + np.subtract.outer(x, x) ** 2
    prior = np.exp(-distances / (2 * 1.2**2)) + 0.05 * np.eye(64)
    found = needs.fit(lost)
    for left_out in (0, 40, 82):
        others = np.delete(np.arange(len(z)), left_out)
        inverse = np.linalg.inv(z[others] @ prior @ z[others].T + 10 * np.eye(82))
        level = (inverse @ lost[others]).sum(0) / inverse.sum()
        maps = prior @ z[others].T @ inverse @ (lost[others] - level)
        np.testing.assert_allclose(found.foretold[left_out], level + z[left_out] @ maps, atol=1e-9)


def test_true_maps_pass_and_other_words_lose() -> None:
    maps, lost = planted()
    found = needs.fit(lost)
    assert (found.p <= 0.05).mean() > 0.95
    like = [np.corrcoef(own, true)[0, 1] for own, true in zip(found.maps, maps, strict=True)]
    assert np.median(like) > 0.8
    foretold = needs._unit(torch.from_numpy(found.foretold.T)).numpy()
    happened = needs._unit(torch.from_numpy(lost.T)).numpy()
    agreement = happened @ foretold.T  # of each word's losses with each word's map
    assert (agreement.argmax(1) == np.arange(len(maps))).mean() > 0.95


def test_random_patches_and_shuffled_outcomes_pass_one_time_in_twenty() -> None:
    """2,000 tries of each: 72 to 128 is p = 1/20 within 99.7 %, for independent tries; fewer are."""
    _, lost = planted(200)
    patches = [needs.test(needs.random_fields(200, 50_000 + i), lost)[1] for i in range(10)]
    assert 0.03 < (np.array(patches) <= 0.05).mean() < 0.07
    rng = np.random.default_rng(7)
    shuffled = [needs.fit(rng.permutation(lost, axis=0)).p for _ in range(10)]
    assert 0.03 < (np.array(shuffled) <= 0.05).mean() < 0.075


def test_a_seed_is_a_map_and_two_seeds_agree(bright: Image.Image, known: Needs) -> None:
    captioner = cells_captioner(BLOCK, seen=BLOCK)
    caption = first_caption(captioner, bright)
    again, other = (needs.needs(captioner, bright, caption, seed=seed) for seed in (needs.SEED, 1))
    np.testing.assert_allclose(again.maps, known.maps)
    assert not np.array_equal(needs.design(seed=1).hidden, needs.design().hidden)
    assert np.corrcoef(other.maps.ravel(), known.maps.ravel())[0, 1] > 0.9


def test_coarse_to_fine_ends_with_what_is_measured_at_once(tiny: Captioner, bright: Image.Image) -> None:
    caption = first_caption(tiny, bright)
    stages = list(needs.stream(tiny, bright, caption))
    assert [stage.copies for stage in stages] == [*needs.STAGES, needs.COPIES]
    assert [stage.done for stage in stages] == [False] * len(needs.STAGES) + [True]
    last = stages[-1]
    np.testing.assert_allclose(last.before, np.exp([word.log_prob for word in caption.words]), atol=1e-4)
    np.testing.assert_array_equal(stages[1].drops, last.drops[:32])
    boxes = [needs.cell_boxes(caption.image_size)[last.hottest[t]] for t in range(len(last.words))]
    np.testing.assert_array_equal(last.hidden(0, caption.image_size), boxes[0])
    whole = needs.needs(tiny, bright, caption)
    np.testing.assert_allclose(whole.drops, last.drops, atol=1e-5)
    np.testing.assert_allclose(whole.after, last.after, atol=1e-5)
    few = needs.needs(tiny, bright, caption, copies=40)
    assert few.copies == 40
    assert few.done


@pytest.mark.parametrize("copies", [1, 3, 4])
def test_a_few_copies_will_do(tiny: Captioner, bright: Image.Image, copies: int) -> None:
    assert needs.needs(tiny, bright, first_caption(tiny, bright), copies).copies == copies


def test_what_a_page_draws(known: Needs) -> None:
    drawn = json.loads(json.dumps(needs.to_json(known)))
    assert drawn["done"]
    (word,) = drawn["words"]
    assert len(word["cells"]) == 64
    assert max(word["cells"]) == 100
    assert int(np.argmax(word["cells"])) in BLOCK
    assert (word["verdict"], word["says"]) == ("place", "needs this place")
    assert len(word["hidden"]) == 16
    assert sum(word["chance"]) == 999
    unfinished = needs.to_json(replace(known, after=np.full(1, np.nan)))["words"][0]
    assert unfinished["after"] is unfinished["verdict"] is None
    json.dumps(unfinished, allow_nan=False)


def test_which_words_need_a_place(known: Needs) -> None:
    whole = known.at((0, 0, 1, 1))
    np.testing.assert_allclose(whole, known.maps.sum((1, 2)))
    np.testing.assert_allclose(known.at((0.3, 0.3, 0.3, 0.3)), known.maps[:, 2, 2])
    np.testing.assert_allclose(known.at((0.25, 0.25, 0.375, 0.3125)), known.maps[:, 2, 2] / 2)
    np.testing.assert_allclose(known.at((1, 1, 1, 1)), known.maps[:, 7, 7])
    shuffled = replace(known, drops=np.random.default_rng(1).permutation(known.drops))
    assert shuffled.p[0] > 0.05
    assert not shuffled.at((0, 0, 1, 1)).any()


def word_of(p: float, effect: float, most: float = 0.0) -> Needs:
    """A word of that p, by hand."""
    drops = np.full((needs.COPIES, 1), 0.0)
    drops[0] = most
    found = Needs(("dog",), np.ones(1), drops, np.exp([-effect]))
    object.__setattr__(found, "p", np.array([p]))
    return found


@pytest.mark.parametrize(
    ("p", "effect", "most", "verdict"),
    [
        (0.05, 0.7, 0.7, Verdict.PLACE),
        (0.05, 0.6, 3.0, Verdict.PLACE),
        (0.05, 0.6, 0.6, Verdict.LITTLE),
        (0.051, 0.1, 0.7, Verdict.PHOTO),
        (0.051, 0.7, 0.1, Verdict.PHOTO),
        (0.051, 0.6, 0.6, Verdict.SENTENCE),
    ],
)
def test_the_rules(p: float, effect: float, most: float, verdict: Verdict) -> None:
    assert word_of(p, effect, most).verdicts == (verdict,)


def test_a_sentence_of_ones_own_is_measured_alike(tiny: Captioner, bright: Image.Image) -> None:
    own = first_caption(tiny, bright)
    size = Size(*bright.size)
    found = needs.caption_of(tiny, tiny.encode([bright]), size, own.text)
    assert found.token_ids == own.token_ids
    other = " ".join(reversed([word.text for word in own.words]))
    measured = needs.needs(tiny, bright, needs.caption_of(tiny, tiny.encode([bright]), size, other))
    assert list(measured.words) == other.split()
    assert measured.done
    with pytest.raises(CaptionBotError, match="is empty"):
        needs.caption_of(tiny, tiny.encode([bright]), size, "  ")
    with pytest.raises(CaptionBotError, match="does not know the word"):
        needs.caption_of(tiny, tiny.encode([bright]), size, "qwertz")


def caption_needs(words: str, lost: np.ndarray, after: float) -> Needs:
    count = len(words.split())
    return Needs(tuple(words.split()), np.full(count, 0.8), lost[:, :count], np.full(count, after))


def test_figures_over_many_photos() -> None:
    maps, lost = planted(40)
    luck = np.random.default_rng(5).standard_normal(lost.shape)
    true = [caption_needs("a dog chases two balls", lost[:, 5 * i :], 0.1) for i in range(6)]
    false = [caption_needs("a dog", luck[:, 2 * i :] * 3, 0.7) for i in range(2)]
    looked = [Measured(found, maps[5 * i : 5 * i + 5]) for i, found in enumerate(true)]
    found = over([*looked, *(Measured(own, np.random.default_rng(0).random((2, 64))) for own in false)])
    assert found.photos == 8
    nouns = found.of("noun")
    assert nouns is not None
    assert nouns.words == 14
    assert nouns.place == nouns.quarter == 12
    assert nouns.photo == 2
    assert nouns.attention == 12
    assert nouns.true == Rate(12, 14)
    assert nouns.halved == Rate(12, 14)
    everything = found.of("all")
    assert everything is not None
    assert everything.words == 34
    assert found.own == Rate(12, 12)  # of captions with several nouns
    assert found.own_by_chance == 0.5
    assert found.patches.of == found.shuffled.of == 20 * 34
    low, high = found.patches.interval
    assert low < 0.05 < high
    assert type(found).from_json(json.loads(json.dumps(found.to_json()))) == found
    assert over([Measured(true[0], None)]).shares[0].attention is None


def test_what_ships_has_true_maps_of_nouns() -> None:
    """Every captioner that ships, measured with the weights that it has; the default over 40 photos."""
    cards = [json.loads(path.read_text()) for path in (ROOT / "weights").glob("*.json")]
    shipped = {card["name"]: card for card in cards if isinstance(card, dict) and "vocabulary" in card}
    rows = {row["name"]: row for row in json.loads((ROOT / "weights" / "faithfulness.json").read_text())}
    assert {name: row["sha256"] for name, row in rows.items()} == {
        name: card["sha256"] for name, card in shipped.items()
    }
    passed = tried = 0
    for name, row in rows.items():
        found = Faithfulness.from_json(row)
        nouns = found.of("noun")
        assert nouns is not None
        assert nouns.true.share >= 0.8
        assert found.patches.interval[0] <= 0.05
        assert found.shuffled.interval[0] <= 0.05
        assert found.own.share > found.own_by_chance
        passed, tried = passed + nouns.true.passed, tried + nouns.words
        if shipped[name].get("default"):
            assert found.photos == 40
            assert nouns.true.share >= 0.9
            assert nouns.halved.share >= 0.8
    assert Rate(passed, tried).interval[0] >= 0.8


def test_intervals_are_wilsons() -> None:
    assert Share("noun", 10, 3, 1, 4, 2).true == Rate(4, 10)
    low, high = Rate(4, 10).interval  # as in Newcombe, Stat. Med. 17 (1998), method 3
    assert (low, high) == (pytest.approx(0.1682, abs=1e-3), pytest.approx(0.6873, abs=1e-3))
    assert Rate(0, 3).interval[0] == 0


def test_attention_in_cells(bright: Image.Image) -> None:
    captioner = cells_captioner(BLOCK, seen=BLOCK)
    heat_of = cell_heat(first_caption(captioner, bright), 0)
    assert set(np.argsort(-heat_of)[:16]) == set(BLOCK)


# A captioner that learnt to name coloured squares: where they are is known, what it does with them is its own

COLOURS = {
    "red": (230, 30, 30),
    "green": (30, 200, 30),
    "blue": (40, 40, 230),
    "yellow": (230, 220, 30),
    "purple": (200, 30, 200),
    "cyan": (30, 210, 220),
}


class Conv(nn.Module):
    """8 x 8 places of 32 channels."""

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Conv2d(a, b, 3, s, 1) for a, b, s in ((3, 24, 2), (24, 32, 2), (32, 32, 1))]
        self.layers = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2], nn.ReLU())

    def forward(self, pixels: torch.Tensor) -> Features:
        return Features(self.layers(pixels).flatten(2).transpose(1, 2), grid_boxes(8, 8), (8, 8))


def squares(rng: np.random.Generator) -> tuple[Image.Image, list[str], list[set[int]]]:
    """Two squares of 2 x 2 cells on noise, their colours in the order of COLOURS, and their cells."""
    pixels = rng.integers(80, 160, (SIZE, SIZE, 3)).astype(np.uint8)
    names = [list(COLOURS)[i] for i in sorted(rng.choice(len(COLOURS), 2, replace=False))]
    columns = rng.permutation([rng.integers(0, 3), rng.integers(4, 7)])  # so that they are apart
    cells = []
    for name, column in zip(names, columns, strict=True):
        row = int(rng.integers(0, 7))
        pixels[4 * row : 4 * row + 8, 4 * column : 4 * column + 8] = COLOURS[name]
        cells.append({8 * (row + y) + int(column) + x for y in (0, 1) for x in (0, 1)})
    return Image.fromarray(pixels), names, cells


@pytest.fixture(scope="module")
def learnt() -> Captioner:
    """It says “red and blue”, after some seconds of training."""
    torch.manual_seed(0)
    rng, vocabulary = np.random.default_rng(0), Vocabulary.build([["and", *COLOURS]])
    preprocessing = Preprocessing((SIZE, SIZE), (0.5,) * 3, (0.5,) * 3)
    decoder = {
        "vocabulary_size": len(vocabulary), "feature_size": 32,
        "embedding_size": 32, "hidden_size": 64, "attention_size": 32,
    }  # fmt: skip
    captioner = Captioner(
        Card(
            "squares", "test", {}, {}, dataclasses.asdict(preprocessing), vocabulary.tokens, {"beam_size": 1}
        ),
        Conv(),
        build_decoder("soft-attention", decoder),
        torch.device("cpu"),
    )
    parts = nn.ModuleList([captioner.encoder, captioner.decoder]).train()
    optimizer = torch.optim.Adam(parts.parameters(), 3e-3)
    for _ in range(400):
        shown = [squares(rng)[:2] for _ in range(48)]
        said = [vocabulary.encode([first, "and", last]) for _, (first, last) in shown]
        ids = torch.tensor([[vocabulary.bos_id, *words, vocabulary.eos_id] for words in said])
        features = captioner.encoder(to_pixel_values([image for image, _ in shown], preprocessing))
        outputs, _, _ = captioner.decoder.advance_all(ids[:, :-1], captioner.decoder.start(features))
        logits = captioner.decoder.logits(outputs)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    parts.eval().requires_grad_(False)
    return captioner


@pytest.mark.slow
def test_maps_sit_on_what_a_captioner_learnt_to_name(learnt: Captioner) -> None:
    rng, right, sits, needed, own = np.random.default_rng(9), 0, 0, 0, 0
    for _ in range(12):
        photo, names, cells = squares(rng)
        caption = first_caption(learnt, photo)
        right += caption.text == f"{names[0]} and {names[1]}"
        true = needs.caption_of(learnt, learnt.encode([photo]), Size(32, 32), " and ".join(names))
        found = needs.needs(learnt, photo, true)
        for t, there in ((0, cells[0]), (2, cells[1])):
            sits += int(found.maps[t].argmax()) in there
            needed += found.verdicts[t] is Verdict.PLACE
            mine, others = (found.maps[word].ravel()[sorted(there)].mean() for word in (t, 2 - t))
            own += mine > others
        assert found.verdicts[1] is not Verdict.PLACE  # “and”
    assert right >= 11
    assert min(sits, needed, own) >= 21  # of 24
