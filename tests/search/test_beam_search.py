"""The search against exhaustive search, against greedy, alone against in a batch, and on broken models."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.plain_search import plain_search
from captionbot.decoders.base import Decoder, State
from captionbot.errors import CaptionBotError
from captionbot.search import beam as module
from captionbot.search.beam import beam_search, image_of, tree
from captionbot.search.options import SearchOptions
from captionbot.text.naming import Naming
from captionbot.types import Fate, Features, Hypothesis, Search

BOS, EOS = 0, 1
PLACES, CHANNELS, HIDDEN = 3, 4, 8

Sentence = tuple[int, ...]


class TinyDecoder(Decoder):
    """A random GRU with attention: its words and its looks depend on the image and on all words before.

    In double precision, so that batches of other sizes round to the same single precision.
    """

    def __init__(self, vocabulary: int = 5, seed: int = 0, sharpness: float = 3.0, end: float = 0.0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, HIDDEN)
        self.initial = nn.Linear(CHANNELS, HIDDEN)
        self.query = nn.Linear(HIDDEN, CHANNELS)
        self.gru = nn.GRUCell(HIDDEN + CHANNELS, HIDDEN)
        self.output = nn.Linear(HIDDEN, vocabulary)
        self.double()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
            self.output.weight *= sharpness / HIDDEN**0.5
            self.output.bias[EOS] += end

    def start(self, features: Features) -> State:
        return State(
            {"annotations": features.values}, {"hidden": self.initial(features.values.mean(1)).tanh()}
        )

    def advance(self, token_ids: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        annotations, hidden = state.images["annotations"], state.rows["hidden"]
        query = self.query(hidden).unflatten(0, (len(annotations), -1))  # (B, K, C)
        alphas = (query @ annotations.mT).softmax(-1)  # (B, K, P)
        context = (alphas @ annotations).flatten(0, 1)
        hidden = self.gru(torch.cat([self.embedding(token_ids), context], -1), hidden)
        return hidden, alphas.flatten(0, 1), State(state.images, {"hidden": hidden})

    def logits(self, output: Tensor) -> Tensor:
        return self.output(output)


class BrokenDecoder(TinyDecoder):
    """A decoder whose log-probabilities are replaced."""

    def __init__(self, spoil: Callable[[Tensor], Tensor], alpha: float = 1 / PLACES) -> None:
        super().__init__()
        self.spoil = spoil
        self.alpha = alpha

    def step(self, token_ids: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        log_probs, alphas, state = super().step(token_ids, state)
        return self.spoil(log_probs), torch.full_like(alphas, self.alpha), state


def some_features(images: int = 1, seed: int = 0) -> Features:
    values = torch.randn(images, PLACES, CHANNELS, generator=torch.Generator().manual_seed(seed))
    return Features(values.double(), torch.zeros(1, PLACES, 4))


def features_of(features: Features, image: int) -> Features:
    return Features(features.values[image : image + 1], features.boxes)


def search(
    decoder: Decoder, features: Features, prefix=None, banned_ids=(), naming=None, **options
) -> Search:
    return beam_search(
        decoder,
        features,
        bos_id=BOS,
        eos_id=EOS,
        options=SearchOptions(**options),
        prefix=prefix,
        banned_ids=banned_ids,
        naming=naming,
    )


def sentences(hypotheses: Sequence[Hypothesis]) -> list[Sentence]:
    return [hypothesis.token_ids for hypothesis in hypotheses]


@torch.no_grad()
def teacher_force(decoder: Decoder, features: Features, token_ids: Sequence[int]) -> tuple[Tensor, Tensor]:
    """(T + 1, V) log-probabilities and (T + 1, P) alphas as one image's decoder reads a sentence."""
    state, steps = decoder.start(features), []
    for token_id in (BOS, *token_ids):
        log_probs, alphas, state = decoder.step(torch.tensor([token_id]), state)
        steps.append((log_probs[0], alphas[0]))
    log_probs, alphas = zip(*steps, strict=True)
    return torch.stack(log_probs), torch.stack(alphas)


def names_again(sentence: Sentence, naming: Naming) -> bool:
    """Whether the last word names what was named, in a way that `repeat_nouns=False` does not allow."""
    *before, word = sentence
    if not before or word not in (*naming.nouns, *naming.adjectives):
        return False
    if word == before[-1]:
        return True
    if word in naming.adjectives:
        return before[-1] in naming.joining and before[-2:-1] == [word]
    if word not in before or any(other in naming.joining for other in before[-3:]):
        return False
    told = all(a in naming.apart for a, b in itertools.pairwise((BOS, *before)) if b == word)
    return not (told and before[-1] in naming.apart and before.count(before[-1]) == 1)


@torch.no_grad()
def all_sentences(
    decoder: Decoder,
    features: Features,
    max_length: int = 3,
    min_length: int = 1,
    length_penalty: float = 0.7,
    no_repeat_ngram_size: int = 0,
    prefix: Sequence[int] = (),
    banned_ids: Sequence[int] = (),
    naming: Naming | None = None,
) -> list[tuple[float, Sentence]]:
    """Every sentence that the options allow with its score, best first: the definition, written out."""

    def allowed(sentence: Sentence) -> bool:
        """Whether the last word may follow."""
        last, size = len(sentence) - 1, no_repeat_ngram_size
        if last < len(prefix):
            return sentence[last] == prefix[last]
        if naming and names_again(sentence, naming):
            return False
        before = [sentence[i : i + size] for i in range(last - size + 1)]
        return sentence[last] not in (EOS, *banned_ids) and not (size and sentence[-size:] in before)

    def grow(sentence: Sentence, total: float, state: State) -> Iterator[tuple[float, Sentence]]:
        log_probs, _, state = decoder.step(torch.tensor([(BOS, *sentence)[-1]]), state)
        row, length = log_probs[0].tolist(), len(sentence)
        if length >= max(min_length, len(prefix)):
            yield (total + row[EOS]) / (length + 1) ** length_penalty, sentence
        if length < max_length:
            for word, log_prob in enumerate(row):
                if allowed((*sentence, word)):
                    yield from grow((*sentence, word), total + log_prob, state)

    return sorted(grow((), 0.0, decoder.start(features)), reverse=True)


def check_record(search: Search, options: SearchOptions) -> None:
    """Every number of the record follows from the others."""
    steps, batch, weighed = search.fates.shape
    width = search.alphas.shape[2]
    assert weighed == options.weighed
    assert steps <= options.max_length + 1
    assert search.token_ids.shape == search.parents.shape == search.slots.shape == (steps, batch, weighed)
    for image in range(batch):
        totals = {0: 0.0}  # of the beams that live
        ended = []
        for step in range(steps):
            born = {}
            for m in range(weighed):
                fate, slot = search.fates[step, image, m], search.slots[step, image, m]
                assert (slot >= 0) == (fate == Fate.KEPT)
                if fate == Fate.NONE:
                    continue
                parent, group = search.parents[step, image, m], m * options.num_groups // weighed
                assert step == 0 or parent * options.num_groups // width == group
                assert slot < 0 or slot * options.num_groups // width == group
                total = totals[parent] + search.log_probs[step, image, m]
                assert search.totals[step, image, m] == pytest.approx(total, rel=1e-5)
                assert fate != Fate.ENDED or search.token_ids[step, image, m] == EOS
                assert fate != Fate.KEPT or search.token_ids[step, image, m] != EOS
                if fate == Fate.KEPT:
                    assert 0 <= slot < width and slot not in born
                    born[slot] = total
                if fate == Fate.ENDED:
                    ended.append(total)
            totals = born
        assert not totals  # what was kept went on
        found = [hypothesis.log_prob for hypothesis in search.hypotheses[image]]
        if options.num_groups == 1:
            assert sorted(ended) == pytest.approx(sorted(found), rel=1e-5)
        scores = [hypothesis.score for hypothesis in search.hypotheses[image]]
        assert scores == sorted(scores, reverse=True)


def check_hypotheses(search: Search, decoder: Decoder, features: Features, length_penalty: float) -> None:
    """Their numbers are those of the decoder that reads the sentence."""
    for image, hypotheses in enumerate(search.hypotheses):
        assert hypotheses
        for hypothesis in hypotheses:
            log_probs, alphas = teacher_force(decoder, features_of(features, image), hypothesis.token_ids)
            own = [row[i].item() for row, i in zip(log_probs, (*hypothesis.token_ids, EOS), strict=True)]
            np.testing.assert_allclose(hypothesis.log_probs, own, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(hypothesis.alphas, alphas, rtol=1e-5, atol=1e-6)
            assert hypothesis.log_prob == pytest.approx(sum(own), rel=1e-5)
            assert hypothesis.score == pytest.approx(sum(own) / len(own) ** length_penalty, rel=1e-5)


# Against exhaustive search


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "options",
    [
        {"max_length": 1},
        {"max_length": 2, "length_penalty": 0.0},
        {"max_length": 3},
        {"max_length": 3, "length_penalty": 2.5},
        {"max_length": 3, "length_penalty": -1.5},
        {"max_length": 3, "min_length": 2},
        {"max_length": 3, "min_length": 3, "length_penalty": -0.5},
        {"max_length": 3, "no_repeat_ngram_size": 1},
        {"max_length": 4, "no_repeat_ngram_size": 2, "banned_ids": (BOS,)},
        {"max_length": 3, "banned_ids": (0, 3)},
        {"max_length": 3, "prefix": (2,)},
        {"max_length": 3, "prefix": (3, 3), "banned_ids": (3,), "no_repeat_ngram_size": 1},
        {"max_length": 3, "prefix": (4, 2, 3)},
    ],
    ids=str,
)
def test_a_full_beam_is_exhaustive_search(options, seed):
    decoder, features = TinyDecoder(seed=seed), some_features(2, seed)
    found = search(decoder, features, beam_size=100, num_return=100, exhaustive=True, **options)
    for image, hypotheses in enumerate(found.hypotheses):
        expected = all_sentences(decoder, features_of(features, image), **options)
        assert sentences(hypotheses) == [sentence for _, sentence in expected]
        assert [h.score for h in hypotheses] == pytest.approx([score for score, _ in expected], rel=1e-5)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("length_penalty", [-1.0, 0.0, 0.7, 1.0, 3.0])
@pytest.mark.parametrize("num_return", [1, 4])
def test_an_exhaustive_search_stops_only_when_nothing_can_win(seed, length_penalty, num_return):
    decoder, features = TinyDecoder(seed=seed, end=1.0), some_features(1, seed)
    options = {"max_length": 4, "length_penalty": length_penalty, "banned_ids": (BOS, 4)}
    found = search(decoder, features, beam_size=100, num_return=num_return, exhaustive=True, **options)
    expected = all_sentences(decoder, features, **options)[:num_return]
    assert sentences(found.hypotheses[0][:num_return]) == [sentence for _, sentence in expected]


def test_a_search_that_is_not_exhaustive_may_stop_earlier_but_never_later():
    steps = {False: 0, True: 0}
    for seed in range(5):
        decoder, features = TinyDecoder(seed=seed, end=3.0), some_features(1, seed)
        here = {}
        for exhaustive in steps:
            found = search(decoder, features, exhaustive=exhaustive, beam_size=3, length_penalty=2.0)
            here[exhaustive] = len(found.fates)
            steps[exhaustive] += len(found.fates)
        assert here[False] <= here[True]
    assert steps[False] < steps[True]


# Against plainer searches


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("prefix", [(), (3,)])
def test_a_beam_of_one_is_greedy(seed, prefix):
    decoder, features = TinyDecoder(7, seed), some_features(1, seed)
    greedy = list(prefix)
    while len(greedy) < 12:
        log_probs, _ = teacher_force(decoder, features, greedy)
        best = log_probs[-1]
        if not greedy:
            best[EOS] = -torch.inf
        if best.argmax() == EOS:
            break
        greedy.append(best.argmax().item())
    found = search(decoder, features, beam_size=1, max_length=12, prefix=prefix)
    assert sentences(found.hypotheses[0]) == [tuple(greedy)]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "options",
    [
        {"beam_size": 1},
        {"beam_size": 3},
        {"beam_size": 5, "length_penalty": 0.0},
        {"beam_size": 4, "min_length": 5, "max_length": 9},
        {"beam_size": 10, "max_length": 6},
    ],
    ids=str,
)
def test_it_finds_what_one_hypothesis_at_a_time_finds(options, seed):
    decoder, features = TinyDecoder(30, seed, sharpness=6.0), some_features(3, seed)
    options = SearchOptions(**options)
    found = beam_search(decoder, features, bos_id=BOS, eos_id=EOS, options=options, banned_ids=(BOS, 7))
    plain = plain_search(decoder, features, bos_id=BOS, eos_id=EOS, options=options, banned_ids=(BOS, 7))
    for ours, theirs in zip(found.hypotheses, plain, strict=True):
        assert sentences(ours) == sentences(theirs)
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(one.log_probs, other.log_probs, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(one.alphas, other.alphas, rtol=1e-5, atol=1e-6)
            assert one.score == pytest.approx(other.score, rel=1e-5)


# Batches


KINDS: dict[str, dict] = {
    "greedy": {"beam_size": 1},
    "beam": {"beam_size": 4},
    "exhaustive": {"beam_size": 4, "exhaustive": True, "length_penalty": 0.0},
    "groups": {"beam_size": 6, "num_groups": 3, "diversity_penalty": 0.5},
    "min_length": {"beam_size": 3, "min_length": 4, "no_repeat_ngram_size": 2},
}
SAMPLES: dict[str, dict] = {
    "samples": {"sample": True, "num_return": 5, "seed": 1},
    "top": {"sample": True, "num_return": 5, "seed": 1, "top_k": 4, "top_p": 0.9, "temperature": 0.7},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_gives_what_its_images_give_alone(kind):
    decoder, features = TinyDecoder(9, seed=2, sharpness=6.0), some_features(8)
    lists = [[2 + image % 5] * (image % 3) for image in range(8)]
    together = search(decoder, features, lists, **KINDS[kind])
    lengths = set()
    for image in range(8):
        alone = search(decoder, features_of(features, image), [lists[image]], **KINDS[kind])
        part = image_of(together, image)
        lengths.add(len(part.fates))
        assert sentences(part.hypotheses[0]) == sentences(alone.hypotheses[0])
        for one, other in zip(part.hypotheses[0], alone.hypotheses[0], strict=True):
            np.testing.assert_allclose(one.log_probs, other.log_probs, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(one.alphas, other.alphas, rtol=1e-5, atol=1e-6)
        for name in ("token_ids", "parents", "fates", "slots"):
            np.testing.assert_array_equal(getattr(part, name), getattr(alone, name))
        np.testing.assert_allclose(part.totals, alone.totals, rtol=1e-5, atol=1e-6)
    assert len(lengths) > 2  # they did end at different times


@pytest.mark.parametrize("kind", KINDS)
def test_it_does_not_matter_how_often_it_asks_which_images_are_done(kind, monkeypatch):
    decoder, features = TinyDecoder(9, seed=2, sharpness=6.0), some_features(8)
    options = KINDS[kind]
    often = search(decoder, features, **options)
    monkeypatch.setitem(module.STEPS_PER_CHECK, "cpu", 4)
    seldom = search(decoder, features, **options)
    for name in ("token_ids", "parents", "fates", "slots"):
        np.testing.assert_array_equal(getattr(often, name), getattr(seldom, name))


def test_images_that_are_done_leave_the_batch():
    rows = []

    class Counting(TinyDecoder):
        def advance(self, token_ids: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
            rows.append((len(token_ids), len(state.images["annotations"])))
            return super().advance(token_ids, state)

    search(Counting(9, seed=2, sharpness=6.0), some_features(8), beam_size=4)
    assert rows[0] == (8, 8)  # one row an image before the first word
    assert rows[1] == (32, 8)
    assert all(row == 4 * image for row, image in rows[1:])  # annotations are never copied per beam
    assert rows[-1][1] < 8


# Hypotheses and the record


@pytest.mark.parametrize("kind", [*KINDS, *SAMPLES])
def test_numbers_follow_the_beams_own_path(kind):
    decoder, features = TinyDecoder(9, seed=5, sharpness=5.0), some_features(4)
    options = {**KINDS, **SAMPLES}[kind]
    found = search(decoder, features, **options)
    check_hypotheses(found, decoder, features, SearchOptions().length_penalty * (kind != "exhaustive"))
    check_record(found, SearchOptions(**options))


@pytest.mark.parametrize("kind", [*KINDS, *SAMPLES])
def test_the_tree_leads_to_every_hypothesis(kind):
    found = search(TinyDecoder(9, seed=5, sharpness=5.0), some_features(3), **{**KINDS, **SAMPLES}[kind])
    for image, hypotheses in enumerate(found.hypotheses):
        nodes = tree(found, image)
        assert len(nodes) == (found.fates[:, image] != Fate.NONE).sum()
        assert tree(image_of(found, image)) == nodes
        ends = []
        for node in nodes:
            if node.parent is not None:
                parent = nodes[node.parent]
                assert parent.fate == Fate.KEPT and parent.step == node.step - 1
                assert node.total == pytest.approx(parent.total + node.log_prob, rel=1e-5)
                assert node.rank is None or parent.rank <= node.rank
            if node.fate == Fate.PRUNED:
                assert node.rank is None
            if node.fate == Fate.ENDED:
                path, above = [], node
                while above.parent is not None:
                    above = nodes[above.parent]
                    path.append(above.token_id)
                ends.append(tuple(reversed(path)))
                assert hypotheses[node.rank].token_ids == ends[-1]
        assert set(ends) == set(sentences(hypotheses))
        best = [node.token_id for node in nodes if node.rank == 0]
        assert kind in SAMPLES or kind == "groups" or best == [*hypotheses[0].token_ids, EOS]


@pytest.mark.parametrize("kind", KINDS)
def test_there_are_as_many_hypotheses_as_beams(kind):
    found = search(TinyDecoder(30, sharpness=1.0), some_features(3), **KINDS[kind])
    for hypotheses in found.hypotheses:
        assert len(hypotheses) >= (1 if kind in ("exhaustive", "groups") else KINDS[kind]["beam_size"])
        assert len(set(sentences(hypotheses))) == len(hypotheses)


# Constraints


@pytest.mark.parametrize("kind", ["beam", "groups", "samples"])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_no_ngram_is_said_twice(kind, size):
    options = {**KINDS, **SAMPLES}[kind] | {"min_length": 4, "max_length": 12}

    def repeats(**more: int) -> int:
        found = search(TinyDecoder(9, seed=4, end=-2.0), some_features(4), **options, **more)
        grams = [
            Counter(ids[i : i + size] for i in range(len(ids) - size + 1))
            for hypotheses in found.hypotheses
            for ids in sentences(hypotheses)
        ]
        return sum(count > 1 for counter in grams for count in counter.values())

    assert repeats() > 0
    assert repeats(no_repeat_ngram_size=size) == 0


NAMING = Naming(nouns=(2, 3), adjectives=(4,), apart=(2, 3, 4), joining=(5,))


@pytest.mark.parametrize("seed", range(4))
def test_a_full_beam_finds_all_that_name_nothing_again(seed):
    decoder, features = TinyDecoder(7, seed=seed), some_features(1, seed)
    options = {"max_length": 4, "banned_ids": (BOS,), "naming": NAMING}
    found = search(decoder, features, beam_size=100, num_return=100, repeat_nouns=False, **options)
    expected = [s for _, s in all_sentences(decoder, features, **options) if s]
    allowed = [s for _, s in all_sentences(decoder, features, **options | {"naming": None}) if s]
    assert sentences(found.hypotheses[0])[:20] == expected[:20] != allowed[:20]
    anything = search(decoder, features, beam_size=100, num_return=100, **options)
    assert sentences(anything.hypotheses[0])[:20] == allowed[:20]


@pytest.mark.parametrize("kind", [*KINDS, *SAMPLES])
def test_nouns_are_told_apart(kind):
    options = {**KINDS, **SAMPLES}[kind] | {"max_length": 8}

    def again(**more) -> int:
        found = search(
            TinyDecoder(9, seed=4, sharpness=6.0), some_features(6), naming=NAMING, **options | more
        )
        every = [s for hypotheses in found.hypotheses for s in sentences(hypotheses)]
        return sum(names_again(s[:n], NAMING) for s in every for n in range(1, len(s) + 1))

    assert again() > 0
    assert again(repeat_nouns=False) == 0


@pytest.mark.parametrize("kind", [*KINDS, *SAMPLES])
def test_lengths_and_bans_are_kept(kind):
    options = {**KINDS, **SAMPLES}[kind] | {"min_length": 3, "max_length": 5}
    found = search(TinyDecoder(9, seed=4), some_features(4), banned_ids=(BOS, 3, 4), **options)
    for hypotheses in found.hypotheses:
        for ids in sentences(hypotheses):
            assert 3 <= len(ids) <= 5
            assert not {BOS, EOS, 3, 4} & set(ids)


@pytest.mark.parametrize("kind", [*KINDS, *SAMPLES])
def test_a_prefix_is_forced_and_keeps_its_own_probability(kind):
    decoder, features = TinyDecoder(9, seed=4), some_features(3)
    options = {**KINDS, **SAMPLES}[kind]
    lists = [[4, 4, 4, 4], [], [3]]
    found = search(decoder, features, lists, banned_ids=(BOS, 4), **options)
    for ids, hypotheses in zip(lists, found.hypotheses, strict=True):
        for own in sentences(hypotheses):
            assert own[: len(ids)] == tuple(ids)
            assert 4 not in own[len(ids) :]
    check_hypotheses(found, decoder, features, SearchOptions().length_penalty * (kind != "exhaustive"))


def test_a_prefix_may_be_the_whole_sentence():
    found = search(TinyDecoder(), some_features(2), (2, 3, 4), max_length=3)
    assert [sentences(hypotheses) for hypotheses in found.hypotheses] == [[(2, 3, 4)]] * 2


def test_a_sentence_ends_before_its_least_length_where_no_word_is_left():
    found = search(
        TinyDecoder(4), some_features(), banned_ids=(BOS,), min_length=9, no_repeat_ngram_size=1, beam_size=4
    )
    assert {frozenset(ids) for ids in sentences(found.hypotheses[0])} == {frozenset({2, 3})}
    assert all(len(ids) == 2 for ids in sentences(found.hypotheses[0]))


# Samples


def frequencies(decoder: Decoder, features: Features, **options) -> dict[Sentence, float]:
    """Of 20,000 samples of one image, of one or two words."""
    options |= {"sample": True, "num_return": 100, "max_length": 2, "seed": 0}
    found = search(decoder, replace(features, values=features.values.expand(200, -1, -1)), **options)
    counts = Counter(ids for hypotheses in found.hypotheses for ids in sentences(hypotheses))
    return {ids: count / 20_000 for ids, count in counts.items()}


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 0.5}, {"temperature": 3.0}, {"top_k": 2}, {"top_p": 0.7}]
)
def test_samples_come_as_often_as_their_probability(options):
    decoder, features = TinyDecoder(4, seed=7, sharpness=1.5), some_features()

    def chances(log_probs: Tensor, end: bool) -> Tensor:
        """The distribution of one word, by the definitions of temperature, top_k and top_p."""
        log_probs = log_probs.clone()
        if not end:
            log_probs[EOS] = -torch.inf
        probs, order = (log_probs / options.get("temperature", 1.0)).softmax(-1).sort(descending=True)
        kept = torch.ones_like(probs, dtype=torch.bool)
        kept[options.get("top_k", 4) :] = False
        mass = 0.0
        for i, prob in enumerate(probs):
            kept[i] &= mass < options.get("top_p", 1.0)
            mass += prob
        return torch.zeros_like(probs).scatter(0, order, (probs * kept) / (probs * kept).sum())

    expected = {}
    for length in (1, 2):
        for ids in itertools.product((0, 2, 3), repeat=length):
            log_probs, _ = teacher_force(decoder, features, ids)
            steps = [chances(row, step > 0) for step, row in enumerate(log_probs)]
            chance = np.prod([steps[step][token_id] for step, token_id in enumerate(ids)])
            expected[ids] = chance * (steps[1][EOS].item() if length == 1 else 1.0)
    assert sum(expected.values()) == pytest.approx(1.0, abs=1e-5)
    found = frequencies(decoder, features, **options)
    for ids, chance in expected.items():
        assert found.get(ids, 0.0) == pytest.approx(chance, abs=0.015)
        assert chance > 0 or ids not in found


def test_a_seed_makes_samples_repeat():
    decoder, features = TinyDecoder(30, sharpness=1.0), some_features(4)

    def draw(seed: int | None) -> list[list[Sentence]]:
        found = search(decoder, features, sample=True, num_return=6, seed=seed)
        return [sentences(hypotheses) for hypotheses in found.hypotheses]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    assert draw(None) != draw(None)
    assert [len(hypotheses) for hypotheses in draw(1)] == [6] * 4
    assert any(len(set(hypotheses)) > 1 for hypotheses in draw(1))


def test_the_likeliest_word_alone_is_greedy():
    decoder, features = TinyDecoder(9, seed=3), some_features(3)
    greedy = search(decoder, features, beam_size=1)
    drawn = search(decoder, features, sample=True, num_return=3, top_k=1, seed=0)
    for one, three in zip(greedy.hypotheses, drawn.hypotheses, strict=True):
        assert sentences(three) == sentences(one) * 3


# Diverse groups


def test_groups_begin_with_different_words():
    decoder, features = TinyDecoder(12, seed=3), some_features(4)
    options = {"beam_size": 6, "num_groups": 3, "diversity_penalty": 100.0}
    found = search(decoder, features, **options)
    first = np.where(found.slots[0] >= 0, found.slots[0], 6)
    for image in range(4):
        words = dict(zip(first[image].tolist(), found.token_ids[0, image].tolist(), strict=True))
        assert len({words[slot] for slot in range(6)}) == 6
    alone = search(decoder, features, beam_size=2)  # the first group is a beam search of its own
    for mine, theirs in zip(found.hypotheses, alone.hypotheses, strict=True):
        assert set(sentences(theirs)) <= set(sentences(mine))


def test_a_sentence_that_two_groups_find_is_listed_once():
    decoder = TinyDecoder(4, seed=1)
    found = search(decoder, some_features(), beam_size=4, num_groups=2, diversity_penalty=0.001, max_length=2)
    ended = (found.fates == Fate.ENDED).sum()
    assert len(set(sentences(found.hypotheses[0]))) == len(found.hypotheses[0]) < ended


# Models that are broken, and options that are


def always(token_id: int) -> Callable[[Tensor], Tensor]:
    row = torch.full((5,), -50.0)
    row[token_id] = 0.0
    return lambda log_probs: row.expand_as(log_probs)


def never_ends(log_probs: Tensor) -> Tensor:
    log_probs[:, EOS] = -torch.inf
    return log_probs


BROKEN: dict[str, Callable[[Tensor], Tensor]] = {
    "always ends": always(EOS),
    "never ends": never_ends,
    "says one word": always(2),
    "NaN": lambda log_probs: log_probs * torch.nan,
    "some NaN": lambda log_probs: log_probs.index_fill(1, torch.tensor([EOS, 2]), torch.nan),
    "-inf": lambda log_probs: log_probs - torch.inf,
    "-inf but for the end": lambda log_probs: always(EOS)(log_probs) * torch.inf,
    "+inf": lambda log_probs: log_probs * 0 + torch.inf,
    "uniform": lambda log_probs: torch.full_like(log_probs, np.log(0.2)),
    "bfloat16": lambda log_probs: log_probs.bfloat16(),
}


@pytest.mark.parametrize("alpha", [1 / PLACES, float("nan")])
@pytest.mark.parametrize("kind", [*KINDS, *SAMPLES])
@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_model_still_says_something(fault, kind, alpha):
    options = {**KINDS, **SAMPLES}[kind]
    found = search(BrokenDecoder(BROKEN[fault], alpha), some_features(3), banned_ids=(BOS,), **options)
    for hypotheses in found.hypotheses:
        assert hypotheses
        for hypothesis in hypotheses:
            assert 1 <= len(hypothesis.token_ids) <= 20
            assert not {BOS, EOS} & set(hypothesis.token_ids)
            assert np.isfinite(hypothesis.log_probs).all() and np.isfinite(hypothesis.score)
            np.testing.assert_allclose(hypothesis.alphas.sum(-1), 1, rtol=1e-5)
    check_record(found, SearchOptions(**options))


@pytest.mark.parametrize("options", [{}, {"sample": True, "seed": 0}], ids=str)
def test_the_decoders_own_tensors_are_left_alone(options):
    table = torch.randn(5, 5).log_softmax(-1)
    before = table.clone()
    search(BrokenDecoder(lambda log_probs: table[: len(log_probs)]), some_features(5), beam_size=1, **options)
    assert torch.equal(table, before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam_size": 0}, "beam_size is 0; give a whole number from 1 to 100"),
        ({"beam_size": 101}, "beam_size is 101"),
        ({"beam_size": 2.5}, "beam_size is 2.5; give a whole number"),
        ({"beam_size": "5"}, "beam_size is '5'"),
        ({"beam_size": None}, "beam_size is None"),
        ({"max_length": 0}, "max_length is 0"),
        ({"min_length": 0}, "min_length is 0"),
        ({"min_length": 8, "max_length": 7}, "min_length is 8 and max_length 7"),
        ({"length_penalty": float("nan")}, "length_penalty is nan; give a number from -10 to 10"),
        ({"length_penalty": float("inf")}, "length_penalty is inf"),
        ({"no_repeat_ngram_size": -1}, "no_repeat_ngram_size is -1"),
        ({"num_return": 0}, "num_return is 0"),
        ({"num_return": 6}, "num_return is 6 and beam_size 5"),
        ({"num_groups": 2, "diversity_penalty": 1.0}, "beam_size is 5 and num_groups 2"),
        ({"num_groups": 5}, "num_groups is 5 and diversity_penalty 0.0"),
        ({"diversity_penalty": 1.0}, "num_groups is 1 and diversity_penalty 1.0"),
        ({"diversity_penalty": -1.0}, "diversity_penalty is -1.0"),
        ({"temperature": 0.7}, "temperature is 0.7, which only has a use in sampling"),
        ({"top_k": 3}, "top_k is 3, which only"),
        ({"top_p": 0.9}, "top_p is 0.9, which only"),
        ({"seed": 0}, "seed is 0, which only"),
        ({"sample": True, "temperature": 0.0}, "temperature is 0.0; give a number from 0.01"),
        ({"sample": True, "top_k": -1}, "top_k is -1"),
        ({"sample": True, "top_p": 0.0}, "top_p is 0.0"),
        ({"sample": True, "seed": -1}, "seed is -1"),
        ({"sample": True, "num_return": 101}, "num_return is 101"),
        ({"sample": True, "exhaustive": True}, "exhaustive is True, which only has a use in a beam search"),
        ({"sample": True, "num_groups": 2, "diversity_penalty": 1.0}, "num_groups is 2, which only"),
    ],
    ids=str,
)
def test_options_that_cannot_be_are_refused_in_a_sentence(options, message):
    with pytest.raises(CaptionBotError) as error:
        SearchOptions(**options)
    assert str(error.value).startswith(message)
    assert str(error.value).endswith(".") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prefix": [2, EOS]}, "prefix holds the end of the sentence, id 1"),
        ({"prefix": [2] * 21}, "The caption would begin with 21 words, and may have 20"),
        ({"prefix": [5]}, "prefix holds the id 5; give ids that the decoder knows, 0 to 4"),
        ({"prefix": [[2], [-1]]}, "prefix holds the id -1"),
        ({"prefix": [[2]]}, "prefix holds 1 lists for 2 images"),
        ({"banned_ids": [9]}, "banned_ids holds the id 9"),
        ({"banned_ids": [EOS]}, "banned_ids holds the end of the sentence, id 1"),
        ({"banned_ids": [0, 2, 3, 4, 4]}, "banned_ids holds every word that there is"),
    ],
    ids=str,
)
def test_ids_that_cannot_be_are_refused_in_a_sentence(arguments, message):
    with pytest.raises(CaptionBotError) as error:
        search(TinyDecoder(), some_features(2), **arguments)
    assert str(error.value).startswith(message)
    assert str(error.value).endswith(".")


# Elsewhere


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch can use")
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_says_what_the_cpu_says(kind):
    decoder, features = TinyDecoder(9, seed=2, sharpness=6.0), some_features(8)
    here = search(decoder, features, **KINDS[kind])
    there = search(decoder.cuda(), Features(features.values.cuda(), features.boxes.cuda()), **KINDS[kind])
    assert [sentences(found) for found in here.hypotheses] == [sentences(found) for found in there.hypotheses]


@pytest.mark.parametrize("vocabulary", [20, 300, 1279, 1280, 1290, 7501])
def test_the_best_words_are_those_of_topk(vocabulary):
    torch.manual_seed(vocabulary)
    values = torch.randn(3, 4, vocabulary)
    values[0, 0, : vocabulary - 3] = -torch.inf
    values[1, 0] = values[1, 0].round()  # ties
    found, places = module._top(values, 10)
    torch.testing.assert_close(found, values.topk(10).values)
    torch.testing.assert_close(values.gather(-1, places), found)
    assert all(len(set(row.tolist())) == 10 for row in places.flatten(0, 1))
    own = torch.randn(3, 4, vocabulary)
    assert torch.equal(module._top(own, 10)[1], own.topk(10).indices)
