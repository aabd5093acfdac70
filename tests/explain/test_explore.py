"""Rivals, steering, hiding and the numbers behind the explanations, against plain computations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_explain import caption_of, grid_caption
from tiny import build_observant_captioner

from captionbot import CaptionBotError, Captioner, SearchOptions
from captionbot.explain import counterfactuals as explore
from captionbot.explain.counterfactuals import END, of_length
from captionbot.store.card import load
from captionbot.store.registry import find_card
from captionbot.types import Features, Size

PHOTO = Image.effect_noise((60, 40), 80).convert("RGB")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    build_observant_captioner(folder)
    return folder


@pytest.fixture(scope="module")
def captioner(folder: Path) -> Captioner:
    return Captioner.from_pretrained(folder, device="cpu")


@pytest.fixture(scope="module")
def features(captioner: Captioner) -> Features:
    return captioner.encode([PHOTO])


def plain_log_probs(captioner: Captioner, features: Features, ids: list[int]) -> np.ndarray:
    """(T + 1, V), one step after another."""
    state, rows = captioner.decoder.start(features), []
    with torch.inference_mode():
        for token_id in [captioner.vocabulary.bos_id, *ids]:
            log_probs, _, state = captioner.decoder.step(torch.tensor([token_id]), state)
            rows.append(log_probs[0].numpy())
    return np.stack(rows)


def test_rivals_are_the_likeliest_other_words_at_every_step(captioner: Captioner, features: Features) -> None:
    vocabulary = captioner.vocabulary
    ids = vocabulary.encode(["a", "dog", "runs"])
    found = explore.rivals(captioner, features, ids, count=5)
    expected = plain_log_probs(captioner, features, ids)
    assert len(found) == 4
    for step, (rivals, said) in enumerate(zip(found, [*ids, vocabulary.eos_id], strict=True)):
        excluded = {said, vocabulary.pad_id, vocabulary.bos_id, vocabulary.unk_id}
        others = [i for i in np.argsort(-expected[step]) if i not in excluded][:5]
        texts = [END if i == vocabulary.eos_id else vocabulary.tokens[i] for i in others]
        assert [rival.text for rival in rivals] == texts
        np.testing.assert_allclose([r.log_prob for r in rivals], expected[step][others], atol=1e-5)


def test_there_are_no_more_rivals_than_words(captioner: Captioner, features: Features) -> None:
    (first, _) = explore.rivals(captioner, features, captioner.vocabulary.encode(["a"]), count=1000)
    assert len(first) == len(captioner.vocabulary) - 3 - 1  # without the three unspoken ones and itself
    assert END in {rival.text for rival in first}


@pytest.mark.parametrize("words", [["a", "dog", "on"], ["snow"], []])
def test_steering_goes_on_from_the_words(captioner: Captioner, features: Features, words: list[str]) -> None:
    options = captioner.options(min_length=5)
    steered = explore.steer(captioner, features, Size(60, 40), options, words, banned_words=["the"])
    (alone,) = captioner.caption([PHOTO], options, prefix=" ".join(words), banned_words=["the"])
    said = [word.text for word in steered.captions[0].words]
    assert said[: len(words)] == words
    assert "the" not in said
    assert len(said) >= 5
    assert steered.captions[0].text == alone.captions[0].text
    assert steered.captions[0].log_prob == pytest.approx(alone.captions[0].log_prob, abs=1e-4)


def test_the_end_can_be_steered_to(captioner: Captioner, features: Features) -> None:
    options = captioner.options(min_length=6)
    steered = explore.steer(captioner, features, Size(60, 40), options, ["a", "dog", END])
    assert steered.captions[0].text == "a dog"
    with pytest.raises(CaptionBotError, match="cannot end before its first word"):
        explore.steer(captioner, features, Size(60, 40), options, [END])


def test_steering_to_an_unknown_word_names_near_ones(captioner: Captioner, features: Features) -> None:
    with pytest.raises(CaptionBotError, match=r"'dogg'.*'dog'"):
        explore.steer(captioner, features, Size(60, 40), captioner.options(), ["a", "dogg"])


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        ("a dog runs", "a dog runs", ("", "")),
        ("a dog runs", "a cat runs", ("dog", "cat")),
        ("a dog runs", "a brown dog runs", ("", "brown")),
        ("a dog on a man", "a man", ("a dog on", "")),
        ("a dog", "the man", ("a dog", "the man")),
    ],
)
def test_compare(before: str, after: str, changed: tuple[str, str]) -> None:
    found = explore.compare(before.split(), after.split())
    assert bool(found) == (before != after)
    for sentence, flags, words in zip((before, after), (found.before, found.after), changed, strict=True):
        marked = [word for word, flag in zip(sentence.split(), flags, strict=True) if flag]
        assert marked == words.split()


@pytest.mark.parametrize(
    ("share", "places"), [(0.25, [4]), (0.3, [4]), (0.45, [4, 3]), (0.5, [4, 3]), (0.6, [4, 3, 2])]
)
def test_looked_at_takes_the_fewest_places(share: float, places: list[int]) -> None:
    caption = grid_caption([[0.05, 0.1, 0.15, 0.2, 0.3, 0.1, 0.06, 0.04]])
    assert explore.looked_at(caption, 0, share).tolist() == places
    assert sorted(explore.looked_at(caption, 0, 1.0).tolist()) == list(range(8))


@pytest.mark.parametrize(
    ("options", "beams"),
    [
        ({}, 64),
        ({"beam_size": 80}, 80),
        ({"beam_size": 6, "num_groups": 3, "diversity_penalty": 0.5}, 63),
        ({"sample": True}, 5),
    ],
)
def test_a_shorter_sentence_is_looked_for_with_many_beams(options, beams: int) -> None:
    shorter = of_length(SearchOptions(**options), "shorter", said=4)
    assert (shorter.beam_size, shorter.max_length) == (beams, 3)
    assert of_length(SearchOptions(**options), "shorter", said=4, begun=5).max_length == 5
    assert of_length(SearchOptions(**options), "longer", said=4).min_length == 5
    with pytest.raises(CaptionBotError, match="'tiny' is no length to ask for; choose one of shorter"):
        of_length(SearchOptions(), "tiny", said=4)


def test_hide_paints_boxes_in_the_mean_colour() -> None:
    image = Image.new("RGB", (40, 20), (0, 100, 0))
    image.paste((100, 100, 200), (20, 0, 40, 20))
    mean = [50, 100, 100]
    hidden = np.asarray(explore.hide(image, explore.cover(image.size, [(10, 5, 30, 15)])))
    only = np.asarray(explore.hide(image, explore.cover(image.size, [(10, 5, 30, 15)], others=True)))
    inside = np.zeros((20, 40), bool)
    inside[5:15, 10:30] = True
    for drawn, covered in ((hidden, inside), (only, ~inside)):
        assert (drawn[covered] == mean).all()
        assert (drawn[~covered] == np.asarray(image)[~covered]).all()


def test_hiding_nothing_and_everything() -> None:
    assert explore.hide(PHOTO, explore.cover(PHOTO.size, [])).tobytes() == PHOTO.tobytes()
    assert len(explore.hide(PHOTO, explore.cover(PHOTO.size, [(0, 0, 60, 40)])).getcolors() or ()) == 1


def test_a_box_without_area_covers_a_pixel() -> None:
    assert np.count_nonzero(explore.cover((9, 9), [(4.2, 4.2, 4.3, 4.3)])) == 1


def test_without_places_is_as_if_they_had_not_been_found(captioner: Captioner, features: Features) -> None:
    kept = [1, 4, 5, 9]
    others = [place for place in range(features.values.shape[1]) if place not in kept]
    labelled = Features(
        features.values,
        features.boxes,
        labels=(tuple(f"thing {place}" for place in range(16)),),
        scores=torch.linspace(0, 1, 16)[None],
    )
    left = explore.without_places(labelled, others)
    torch.testing.assert_close(left.values, features.values[:, kept])
    torch.testing.assert_close(left.boxes, features.boxes[:, kept])
    assert left.labels == (("thing 1", "thing 4", "thing 5", "thing 9"),)
    assert left.grid is None
    (captioned,) = captioner.caption_features(left, [Size(60, 40)], captioner.options())
    assert captioned.captions[0].alphas.shape[1] == 4
    with pytest.raises(CaptionBotError, match="leave at least one"):
        explore.without_places(features, range(16))


def test_padding_is_no_place_that_is_left(features: Features) -> None:
    mask = torch.arange(16)[None] < 3
    padded = Features(features.values, features.boxes, mask=mask)
    torch.testing.assert_close(explore.without_places(padded, [1]).values, features.values[:, [0, 2]])


def test_entropy_is_0_for_one_place_and_3_bits_for_eight_alike() -> None:
    alphas = [[0.125] * 8, [0, 0, 1, 0, 0, 0, 0, 0], [0.5, 0.5, 0, 0, 0, 0, 0, 0]]
    np.testing.assert_allclose(explore.attention_entropy(grid_caption(alphas)), [3, 0, 1], atol=1e-6)


def test_gates_are_those_of_the_decoder(folder: Path, captioner: Captioner, features: Features) -> None:
    ids = captioner.vocabulary.encode(["a", "dog"])
    _, _, decoder = load(find_card(folder))  # as it is stored, packed for no CPU
    with torch.inference_mode():
        first = decoder.start(features)
        _, _, second = decoder.step(torch.tensor([captioner.vocabulary.bos_id]), first)
        expected = [
            torch.sigmoid(state.rows["hidden"] @ decoder.gate.weight.T + decoder.gate.bias).mean().item()
            for state in (first, second)
        ]
    found = explore.gates(captioner, features, ids)
    assert found is not None
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_caption_of_regions_has_its_places_too() -> None:
    caption = caption_of([[0.2, 0.3, 0.5]], [[0, 0, 20, 10], [10, 0, 30, 20], [35, 15, 40, 20]])
    assert explore.looked_at(caption, 0).tolist() == [2]
