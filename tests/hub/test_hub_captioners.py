"""Captioners of the Hub: what `generate` says, what the explorer adds, and files that are not believed."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_hub import MODELS, SIZE, build
from transformers import LogitsProcessor, LogitsProcessorList

from captionbot.captioner import Captioner
from captionbot.errors import CaptionBotError
from captionbot.explain import counterfactuals as explore
from captionbot.explain.attribution import word_maps
from captionbot.explain.hidden import log_probs_of
from captionbot.generate import asked_of_generate
from captionbot.images.load import Preprocessing, boxes_to_image, squash, to_pixel_values
from captionbot.store.importers.hub import import_hub, preprocessing_of
from captionbot.types import Size

SETTINGS = ((1, 1.0), (3, 1.0), (5, 0.7), (5, 0.0))
LONGEST = 7
TOLD = ("a", "man", "in", "a", "t", "-", "shirt", ",", "surf", "##board", "##s", "don", "'", "t")


class EndsAt(LogitsProcessor):
    """Where our search has had its words, only the end may come: `generate` would break off."""

    def __init__(self, end, length):
        self.end, self.length = end, length

    def __call__(self, input_ids, scores):
        if input_ids.shape[1] != self.length:
            return scores
        only = torch.full_like(scores, -torch.inf)
        only[:, self.end] = scores[:, self.end]
        return only


@pytest.fixture(scope="module")
def photos():
    generator = np.random.default_rng(0)
    return [
        Image.fromarray(generator.integers(0, 255, (4, 5, 3), np.uint8)).resize((50, 40), 0) for _ in range(3)
    ]


@pytest.fixture(scope="module", params=MODELS)
def published(request, tmp_path_factory):
    """A family, its model, and the captioner that is made of its folder."""
    folder = tmp_path_factory.mktemp(request.param)
    model = build(folder / "repository", request.param)
    card = import_hub(str(folder / "repository"), folder / "mine", "mine")
    return request.param, model, card


@pytest.fixture(scope="module")
def captioner(published):
    return Captioner.from_pretrained(published[2], device="cpu")


@torch.inference_mode()
def test_all_sentences_are_those_of_generate(published, captioner, photos):
    kind, model, _ = published
    pixels = to_pixel_values(photos, captioner.preprocessing)
    end = captioner.vocabulary.eos_id
    asked, before = asked_of_generate(captioner.card, pixels)
    if kind != "blip":
        asked |= {"eos_token_id": end, "pad_token_id": 0}
    if kind == "florence-2":
        asked["no_repeat_ngram_size"] = 0
    said = set()
    for beams, penalty in SETTINGS:
        options = captioner.options(
            beam_size=beams,
            num_return=beams,
            length_penalty=penalty,
            max_length=LONGEST,
            no_repeat_ngram_size=0,
        )
        ours = captioner.caption(photos, options)
        theirs = model.generate(
            num_beams=beams, num_return_sequences=beams, length_penalty=penalty,
            do_sample=False, min_new_tokens=2, max_new_tokens=LONGEST + 1,
            suppress_tokens=list(captioner.vocabulary.special_ids),
            logits_processor=LogitsProcessorList([EndsAt(end, LONGEST + before)]), **asked,
        )  # fmt: skip
        for captioned, rows in zip(ours, theirs.reshape(len(photos), beams, -1).tolist(), strict=True):
            sentences = [tuple(row[before : row.index(end, before)]) for row in rows]
            assert [caption.token_ids for caption in captioned.captions] == sentences
            said.add(sentences[0])
    assert len(said) > 2  # the photos make a difference


@torch.inference_mode()
def test_a_batch_says_what_its_photos_say_alone_and_words_read_at_once_are_words_searched(captioner, photos):
    together = captioner.caption(photos, beam_size=3, max_length=LONGEST)
    for photo, captioned in zip(photos, together, strict=True):
        (caption,) = captioner.caption(photo, beam_size=3, max_length=LONGEST)[0].captions
        assert caption.token_ids == captioned.captions[0].token_ids
        read = log_probs_of(captioner, captioner.encode([photo]), caption.token_ids)[0]
        by_word = [pieces.sum().item() for pieces in read.split(list(caption.pieces))]
        assert by_word == pytest.approx([word.log_prob for word in caption.words], abs=1e-4)


def test_words_are_whole_and_add_up(captioner, photos):
    for captioned in captioner.caption(photos, beam_size=5, num_return=5, max_length=12):
        for caption in captioned.captions:
            assert " ".join(word.text for word in caption.words) == caption.text
            assert sum(caption.pieces) == len(caption.token_ids)
            assert len(caption.alphas) == len(caption.words)
            assert caption.alphas.sum(1) == pytest.approx(np.ones(len(caption.words)), abs=1e-5)
            assert ((caption.nowhere > 0) & (caption.nowhere < 1)).all()
            words = sum(word.log_prob for word in caption.words)
            assert caption.log_prob <= words < 0  # what is between them is the end's


def test_the_explorer_works_on_it(captioner, photos):
    photo, size = photos[0], Size(*photos[0].size)
    features = captioner.encode([photo])
    options = captioner.options(beam_size=3, max_length=LONGEST)
    (captioned,) = captioner.caption([photo], options)
    caption = captioned.captions[0]
    rivals = explore.rivals(captioner, features, caption.token_ids)
    assert len(rivals) == len(caption.words) + 1
    assert sum(map(len, rivals)) > len(rivals)
    for words in rivals:
        assert [word.log_prob for word in words] == sorted((word.log_prob for word in words), reverse=True)
    rival = next((word.text for word in rivals[1] if word.text != explore.END), "dog")
    begun = [caption.words[0].text, rival]
    longer = replace(options, max_length=40)
    steered = explore.steer(captioner, features, size, longer, begun)
    said, wanted = (text.replace(" ", "") for text in (steered.captions[0].text, "".join(begun)))
    assert said.startswith(wanted)
    (begun,) = captioner.caption_features(features, [size], longer, prefix="a dog")
    assert re.match(r"a dog(\W|$)", begun.captions[0].text)  # whole, whatever follows
    word = next(
        (said.text for said in caption.words[1:] if "\ufffd" not in said.text), "dog"
    )  # no half letters
    (without,) = captioner.caption_features(features, [size], options, banned_words=[word])
    assert word not in [said.text for said in without.captions[0].words]
    fewer = explore.without_places(features, range(4))
    assert fewer.beside is features.beside
    (partly,) = captioner.caption_features(replace(fewer, grid=None), [size], options)
    assert len(partly.captions[0].boxes) == len(caption.boxes) - 4
    for method in ("attention", "needs", "occlusion", "gradient"):
        maps = word_maps(captioner, photo, caption, method)
        assert len(maps.maps) == len(caption.words) and np.isfinite(maps.maps).all()
    assert maps.maps.max() > 0  # the gradient reached the places
    groups = captioner.caption([photo], beam_size=4, num_groups=2, diversity_penalty=1.0, max_length=LONGEST)
    drawn = captioner.caption([photo], sample=True, seed=1, num_return=3, max_length=LONGEST)
    assert groups[0].captions and len(drawn[0].captions) == 3


def test_what_is_no_word_is_never_said_and_cannot_be_typed(captioner):
    vocabulary = captioner.vocabulary
    assert vocabulary.eos_id not in vocabulary.special_ids
    assert captioner.options().beam_size > 1
    with pytest.raises(CaptionBotError, match="cannot spell"):
        vocabulary.require(["\U0001f600"] if vocabulary.style == "bert" else [""])


@pytest.fixture(scope="module")
def blip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    return folder, build(folder, "blip")


def copied(blip, tmp_path, **config):
    folder = tmp_path / "repository"
    shutil.copytree(blip[0], folder)
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | config))
    return folder


def test_words_of_word_pieces(blip, tmp_path):
    card = import_hub(str(blip[0]), tmp_path / "mine", "mine")
    vocabulary = Captioner.from_pretrained(card, device="cpu").vocabulary
    ids = [vocabulary.tokens.index(t) for t in TOLD]
    assert vocabulary.text(ids) == "a man in a t-shirt, surfboards don't"
    assert vocabulary.words(ids) == ["a", "man", "in", "a", "t-shirt,", "surfboards", "don't"]
    assert vocabulary.groups(ids) == (1, 1, 1, 1, 4, 3, 3)
    assert vocabulary.ids_of("A man in a t-shirt, surfboards don't") == ids
    with pytest.raises(CaptionBotError, match="'and'"):
        vocabulary.require(["a", "and"])
    assert vocabulary.banned(["man, surfboard"])[0] != vocabulary.banned(["surfboard"])[0]
    surfboard = tuple(vocabulary.ids_of("surfboard"))
    assert vocabulary.banned(["surfboard"]) == [surfboard] and len(surfboard) == 2


def test_words_of_byte_pairs(tmp_path):
    build(tmp_path / "repository", "vit-gpt2")
    card = import_hub(str(tmp_path / "repository"), tmp_path / "mine", "mine")
    vocabulary = Captioner.from_pretrained(card, device="cpu").vocabulary
    text = "a dog, Two on New surf 😀 t-shirt"
    ids = vocabulary.ids_of(text)
    assert vocabulary.text(ids) == text and vocabulary.words(ids) == text.split()
    assert sum(vocabulary.groups(ids)) == len(ids) and vocabulary.groups(ids)[0] == 1
    assert vocabulary.tokens[ids[0]] == "a"  # the first word without a space
    bans = vocabulary.banned(["dog"])
    assert vocabulary.tokens.index("Ġdog") in bans
    assert (vocabulary.bos_id, vocabulary.tokens.index("dog")) in bans


def test_a_tensor_that_is_missing_or_of_another_shape_is_refused(blip, tmp_path):
    folder = copied(blip, tmp_path)
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if "crossattention.self.key.weight" in name)
    for changed in ({}, {name: torch.zeros(3, 3)}):
        whole = {key: value for key, value in tensors.items() if key != name} | changed
        save_file(whole, folder / "model.safetensors", {"format": "pt"})
        with pytest.raises(CaptionBotError, match=r"key\.weight.*would caption nonsense"):
            import_hub(str(folder), tmp_path / "mine", "mine")
        assert not (tmp_path / "mine" / "mine.json").exists()
    old = tensors | {"text_decoder.bert.embeddings.position_ids": torch.arange(64)[None]}
    save_file(old, folder / "model.safetensors", {"format": "pt"})
    assert import_hub(str(folder), tmp_path / "mine", "mine").is_file()
    save_file(tensors | {"a.stranger": torch.zeros(2)}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(CaptionBotError, match=r"a\.stranger"):
        import_hub(str(folder), tmp_path / "other", "other")


def test_a_pickle_is_read_once_and_only_for_its_tensors(blip, tmp_path, photos):
    folder = copied(blip, tmp_path)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    card = import_hub(str(folder), tmp_path / "mine", "mine")
    assert card.with_suffix(".safetensors").is_file()
    told = [
        Captioner.from_pretrained(one, device="cpu").caption(photos[0])[0].captions[0].text
        for one in (card, import_hub(str(blip[0]), tmp_path / "first", "first"))
    ]
    assert told[0] == told[1]

    class Harm:
        def __reduce__(self):
            return (open, (str(tmp_path / "harm"), "w"))

    torch.save({"weight": Harm()}, folder / "pytorch_model.bin")
    with pytest.raises(CaptionBotError, match="nothing of it was run"):
        import_hub(str(folder), tmp_path / "harmed", "harmed")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"auto_map": {"AutoModel": "evil.Model"}}, "code of its own"),
        ({"vision_config": {"auto_map": {"AutoModel": "evil.Model"}}}, "code of its own"),
        ({"model_type": "llama"}, "'llama'"),
        ({"model_type": ["blip"]}, "is of the kind"),
    ],
)
def test_configurations_that_are_none_of_ours(blip, tmp_path, config, said):
    with pytest.raises(CaptionBotError, match=said):
        import_hub(str(copied(blip, tmp_path, **config)), tmp_path / "mine", "mine")


def test_photos_are_cut_and_shrunk_as_the_processors_do(photos):
    asked = {
        "do_center_crop": True, "crop_size": {"height": SIZE, "width": SIZE}, "size": {"shortest_edge": SIZE},
        "resample": 3, "image_mean": [0.5] * 3, "image_std": [0.25] * 3,
    }  # fmt: skip
    preprocessing = preprocessing_of(asked, SIZE)
    theirs = (
        transformers.CLIPImageProcessorPil(**asked)
        if hasattr(transformers, "CLIPImageProcessorPil")
        else None
    )
    photo = photos[0].resize((321, 200))
    assert squash(photo, preprocessing).shape == (SIZE, SIZE, 3)
    if theirs is not None:
        expected = theirs(photo, return_tensors="pt")["pixel_values"]
        assert (to_pixel_values([photo], preprocessing) - expected).abs().max() < 1e-5
    whole = np.array([[0, 0, 1, 1]], np.float32)
    box = boxes_to_image(whole, Size(200, 100), preprocessing)[0]
    assert box.tolist() == pytest.approx([50, 0, 150, 100])
    with pytest.raises(CaptionBotError, match="not done to photos here"):
        preprocessing_of(asked | {"size": {"shortest_edge": 2 * SIZE}}, SIZE)
    assert preprocessing_of({"size": 384, "resample": 2}, 224) == Preprocessing(
        (384, 384), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear", exact=True
    )
