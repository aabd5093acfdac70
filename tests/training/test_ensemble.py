"""An ensemble says what the mean of its members' probabilities says, computed here one by one."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import WORDS, build_region_captioner, build_tiny_captioner, built

from captionbot import CaptionBotError, Captioner
from captionbot.decoders.ensemble import AVERAGES
from captionbot.decoders.evidence import WordEvidence
from captionbot.encoders.pca import PCAEncoder
from captionbot.explain.attribution import word_maps
from captionbot.pages.uploads import load_captioner
from captionbot.search.options import SearchOptions
from captionbot.store import card as cards
from captionbot.text.vocabulary import Vocabulary
from training.ensemble import main

PHRASES = [[4, -1], [5, -1], [4, 6], [7, 8]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two captioners of one CNN: attention to a grid, and a GRU of half the words behind a PCA."""
    folder = tmp_path_factory.mktemp("members")
    card, encoder, decoder = cards.load(build_tiny_captioner(folder, "grid"))
    weights = dict(decoder.named_parameters())
    weights["annotate.weight"] *= 30_000  # features of an untrained encoder are tiny
    weights["attend_score.weight"] *= 20
    weights["embedding.weight"] *= 5
    cards.save(folder, *_with_evidence(card, encoder, decoder))
    tokens = Vocabulary.build([WORDS[::-2]]).tokens
    specs = (
        {"kind": "pca", **_pca(encoder)},
        {"kind": "show-and-tell", "cell": "gru", "vocabulary_size": len(tokens), "feature_size": 8,
         "embedding_size": 16, "hidden_size": 16},
    )  # fmt: skip
    torch.manual_seed(1)
    pca, gru = built(*specs)
    pca.grid.load_state_dict(encoder.state_dict())
    pca.components.copy_(1e4 * torch.randn(8, 64))
    gru.output_word.weight.data *= 8
    pooled = dataclasses.replace(
        card, name="pooled", encoder=specs[0], decoder=specs[1], vocabulary=tokens, evidence={}
    )
    cards.save(folder, *_with_evidence(pooled, pca, gru))
    build_region_captioner(folder)
    return folder


def _pca(encoder):
    grid = encoder.config
    return {"architecture": grid.architecture, "layer": grid.layer, "feature_size": 64, "components": 8}


def _with_evidence(card, encoder, decoder):
    sizes = {"phrases": len(PHRASES), "rank": 3, "linear": 0, "hidden": 0}
    decoder.evidence = WordEvidence(decoder.config.feature_size, **sizes)
    decoder.evidence.phrases.copy_(torch.tensor(PHRASES))
    return dataclasses.replace(card, evidence=sizes), encoder, decoder


def ensemble(folder, *members, flags=()):
    out = folder / "-".join((*members, *flags))
    assert main([*(str(folder / f"{m}.json") for m in members), "--out", str(out), *flags]) == 0
    return Captioner.from_pretrained(out, precision="float32")


def photos():
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (80, 100, 3), np.uint8)) for _ in range(3)]


def test_an_ensemble_of_one_captioner_twice_is_that_captioner(folder):
    for name in ("grid", "pooled"):
        alone = Captioner.from_pretrained(folder / f"{name}.json", precision="float32")
        twice = ensemble(folder, name, name)
        assert sum(p.numel() for p in twice.encoder.parameters()) == sum(
            p.numel() for p in alone.encoder.parameters()
        )
        for ours, theirs in zip(*(c.caption(photos(), num_return=3) for c in (twice, alone)), strict=True):
            assert [c.text for c in ours.captions] == [c.text for c in theirs.captions]
            for one, other in zip(ours.captions, theirs.captions, strict=True):
                assert one.score == pytest.approx(other.score, abs=1e-4)
                np.testing.assert_allclose(one.alphas, other.alphas, atol=1e-5)


@pytest.mark.parametrize("average", AVERAGES)
def test_an_ensemble_of_two_says_what_the_mean_of_their_probabilities_says(folder, average):
    both = ensemble(folder, "grid", "pooled", flags=("--average", average))
    members = [
        Captioner.from_pretrained(folder / f"{n}.json", precision="float32") for n in ("grid", "pooled")
    ]
    words, known = both.vocabulary.tokens, members[1].vocabulary.ids
    assert 0 < sum(word not in known for word in words) < len(words) - 4

    def mean(told, features):
        """(V,) by both members' own words, each over the whole sentence anew."""
        each = []
        for member, of in zip(members, features, strict=True):
            state, ids = member.decoder.start(of), member.vocabulary.ids
            for word in ("<bos>", *told):
                id_ = ids.get(word, Vocabulary.unk_id)
                log_probs, alphas, state = member.decoder.step(torch.tensor([id_]), state)
            probs = [log_probs[0, ids[w]].exp() if w in ids else torch.tensor(0.0) for w in words]
            each.append(torch.stack(probs))
            if member is members[0]:
                looked = alphas[0]
        if average == "probability":
            return torch.stack(each).mean(0), looked
        product = (each[0] * each[1]).sqrt()
        return product / product.sum(), looked

    said = set()
    with torch.inference_mode():
        for photo in photos():
            features = [member.encode([photo]) for member in members]
            (found,) = both.caption(photo, beam_size=4, num_return=4)
            hypotheses = found.search.hypotheses[0]
            for caption, hypothesis in zip(found.captions, hypotheses, strict=False):
                told, expected = [w.text for w in caption.words], []
                for t, word in enumerate((*told, "<eos>")):
                    probs, looked = mean(told[:t], features)
                    expected.append(float(probs[words.index(word)].log()))
                    np.testing.assert_allclose(hypothesis.alphas[t], looked, atol=1e-5)
                assert hypothesis.log_probs.tolist() == pytest.approx(expected, abs=1e-3)
                # sentences are ranked by the mean of the members' word evidence, too
                evidence = [
                    member.decoder.evidence(of)[0, member.decoder.evidence.said(ids)].sum()
                    for member, of in zip(members, features, strict=True)
                    for ids in [member.vocabulary.encode(told)]
                ]
                assert hypothesis.evidence == pytest.approx(float(sum(evidence)) / 2, abs=1e-4)
                said.add(tuple(told))
    assert len(said) > 3
    assert len({word for told in said for word in told}) > 3


def test_a_card_names_its_members_and_loads_anywhere(folder, tmp_path):
    both = ensemble(folder, "grid", "pooled")
    hashes = [cards.Card.load(folder / f"{name}.json").sha256 for name in ("grid", "pooled")]
    assert both.card.training == {
        "members": [{"name": n, "sha256": h} for n, h in zip(("grid", "pooled"), hashes, strict=True)]
    }
    assert (both.card.title, both.card.licence) == ("Ensemble", "MIT")
    assert not any(
        isinstance(part, PCAEncoder) and list(part.grid.parameters()) for part in both.encoder.modules()
    )
    card, *parts = cards.load(folder / "grid-pooled" / "ensemble.json")
    again = Captioner.from_pretrained(cards.save(tmp_path, card, *parts), precision="float32")
    plain = both.caption(photos(), SearchOptions(beam_size=3, max_length=8))
    assert [
        c.captions[0].text for c in again.caption(photos(), SearchOptions(beam_size=3, max_length=8))
    ] == [c.captions[0].text for c in plain]


def test_it_is_explained_and_uploaded_like_any_other(folder):
    both, (photo, *_) = ensemble(folder, "grid", "pooled"), photos()
    made, ((caption, *_),) = folder / "grid-pooled", [c.captions for c in both.caption(photo)]
    for method in ("attention", "occlusion", "gradient"):
        maps = word_maps(both, photo, caption, method).maps
        assert maps.shape[0] == len(caption.words)
        assert np.isfinite(maps).all() and maps.std() > 0
    files = {path.name: path.read_bytes() for path in made.iterdir()}
    assert load_captioner([*files.items()]).card.family == "ensemble"
    card = json.loads(files["ensemble.json"])
    for change, said in (
        ({"members": card["decoder"]["members"] * 9}, "An ensemble has 1 to 16 members"),
        ({"average": "median"}, "An ensemble has 1 to 16 members"),
        ({"members": [{**card["decoder"]["members"][0], "start": 60}]}, "cannot be loaded"),
    ):
        hostile = json.dumps({**card, "decoder": {**card["decoder"], **change}}).encode()
        with pytest.raises(CaptionBotError, match=said):
            load_captioner([*(files | {"ensemble.json": hostile}).items()])


def test_what_cannot_stand_side_by_side_is_refused_in_a_sentence(folder, capsys):
    grid, regions = folder / "grid.json", folder / "regions.json"
    assert main([str(grid), str(regions), "--out", str(folder / "no")]) == 2
    assert "regions sees through regions, which an ensemble cannot" in capsys.readouterr().err
    card, encoder, decoder = cards.load(grid)
    preprocessing = card.preprocessing | {"size": [96, 96]}
    other = cards.save(
        folder / "other", dataclasses.replace(card, preprocessing=preprocessing), encoder, decoder
    )
    assert main([str(grid), str(other), "--out", str(folder / "no")]) == 2
    assert "is given photos in another form" in capsys.readouterr().err
    made = ensemble(folder, "grid", "pooled").card
    nested = dict(made.decoder["members"][0]) | {"decoder": made.decoder}
    with pytest.raises(CaptionBotError, match="A member of an ensemble is an ensemble"):
        built(made.encoder, made.decoder | {"members": [nested]})
