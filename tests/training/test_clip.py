"""CLIPScore by a tiny random CLIP, against the paper's formulas written out."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("transformers", reason="needs captionbot[transformers]")
from training.evaluate import main as evaluate
from training.metrics.clip import Clip, clip_tallies

CAPTIONS = {"a.png": "red dog runs", "b.png": "a cat", "c.png": "two men talk to a dog and to a cat " * 3}
PEOPLE = {"a.png": ["a dog", "red dog runs"], "b.png": ["men talk"], "c.png": ["dog", "cat", "two men"]}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """The folder of a CLIP of letters."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

    folder = tmp_path_factory.mktemp("clip")
    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"bos_token_id": 52, "eos_token_id": 53, "pad_token_id": 53}
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config={**small, **ends, "vocab_size": 54, "max_position_embeddings": 40},
        vision_config={**small, "image_size": 16, "patch_size": 8},
        projection_dim=8,
    )
    model = CLIPModel(config)
    model.text_model.embeddings.token_embedding.weight.data.mul_(30)  # so that texts differ
    model.save_pretrained(folder)
    size = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    CLIPProcessor(CLIPImageProcessor(**size), tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name in CAPTIONS:
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(folder / name)
    rows = [f'{name},"{text}",val' for name, texts in PEOPLE.items() for text in texts]
    (folder / "captions.csv").write_text("\n".join(["image,caption,split", *rows]) + "\n")
    return folder


def plain(clip, data, sign=1):
    """(3,) CLIPScore and RefCLIPScore, photo by photo and text by text, by the model's own forward."""
    from transformers import AutoProcessor, CLIPModel

    model, processor = CLIPModel.from_pretrained(clip).eval(), AutoProcessor.from_pretrained(clip)

    def embedded(name, text):
        given = processor(
            text=[f"A photo depicts {text}"], images=Image.open(data / name), return_tensors="pt",
            truncation=True, max_length=40,
        )  # fmt: skip
        with torch.inference_mode():
            found = model(**given)
        return found.image_embeds[0], found.text_embeds[0]

    model.visual_projection.weight.data.mul_(sign)

    def cosine(one, other):
        return float((one @ other) / (one.norm() * other.norm()))

    scores = []
    for name, caption in CAPTIONS.items():
        photo, text = embedded(name, caption)
        score = 2.5 * max(cosine(photo, text), 0.0)
        alike = max(0.0, *(cosine(text, embedded(name, said)[1]) for said in PEOPLE[name]))
        scores.append((score, 2 / (1 / score + 1 / alike) if score and alike else 0.0))
    return np.array(scores)


@pytest.mark.parametrize("sign", [1, -1])
def test_scores_are_the_papers_formulas(clip, data, sign):
    """Also where photos lie the other way from captions, so that cosines are below 0."""
    scorer, photos = Clip(str(clip)), (Image.open(data / name) for name in CAPTIONS)
    scorer.model.visual_projection.weight.data.mul_(sign)
    ours = [t.each()[:, 0] for t in clip_tallies(scorer, photos, [*CAPTIONS.values()], [*PEOPLE.values()])]
    expected = plain(clip, data, sign)
    np.testing.assert_allclose(np.stack(ours, 1), expected, atol=1e-5)
    assert (sign == -1) == (expected > 0).all()


def test_evaluate_adds_them_on_request_and_says_what_it_lacks(clip, data, tmp_path, capsys):
    predictions, out = tmp_path / "said.json", tmp_path / "results.json"
    predictions.write_text(json.dumps(CAPTIONS))
    flags = [
        "--predictions",
        str(predictions),
        "--annotations",
        str(data / "captions.csv"),
        "--no-meteor",
        "--no-spice",
    ]
    flags += ["--samples", "5", "--out", str(out)]
    assert evaluate([*flags, "--clip", str(clip), "--images", str(data)]) == 0
    results = json.loads(out.read_text())
    assert [results["CLIPScore"], results["RefCLIPScore"]] == pytest.approx(
        plain(clip, data).mean(0), abs=1e-5
    )
    assert set(results["intervals"]) >= {"CLIPScore", "RefCLIPScore"}
    capsys.readouterr()
    assert evaluate([*flags, "--clip", str(clip)]) == 2
    assert "give --images" in capsys.readouterr().err
    assert evaluate([*flags, "--clip", str(data), "--images", str(data)]) == 2
    assert "is no CLIP that transformers can load" in capsys.readouterr().err
