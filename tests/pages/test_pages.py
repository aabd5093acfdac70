import dataclasses
from pathlib import Path

import pytest
from tiny import build_tiny_captioner

from captionbot import Captioner, load_image
from captionbot.decoders import FAMILIES
from captionbot.pages import resident as pages
from captionbot.pages.resident import captioners
from captionbot.pages.samples import FAILS, sample_photos
from captionbot.store.card import Card


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CAPTIONBOT_WEIGHTS", str(tmp_path))
    return tmp_path


def put(folder: Path, name: str, **changes: object) -> None:
    path = build_tiny_captioner(folder, name, default=False)
    dataclasses.replace(Card.load(path), title="", **changes).write(path)  # type: ignore[arg-type]


def test_what_ships_is_called_as_people_call_it() -> None:
    assert captioners() == {
        "show-attend-tell": "Show, Attend and Tell",
        "top-down": "Bottom-up and top-down",
        "from-scratch-transformer": "Transformer from scratch",
        "gpt2-prefix": "GPT-2 prefix",
        "show-and-tell": "Show and Tell (GRU)",
    }


def test_every_kind_of_decoder_has_a_title(folder: Path) -> None:
    for kind in [*FAMILIES, "new"]:
        put(folder, f"a-{kind}", decoder={"kind": kind})
    titles = captioners()
    assert titles.pop("a-new") == "a-new"
    assert not titles.keys() & titles.values()
    assert len(set(titles.values())) == len(FAMILIES)
    assert titles["a-scratch-recurrent"] == "LSTM from scratch"


def test_the_default_comes_first_and_then_the_best(folder: Path) -> None:
    for name, cider in (("fair", 0.4), ("good", 0.6)):
        put(folder, name, scores={"CIDEr": cider}, decoder={"kind": name})
    put(folder, "new", decoder={"kind": "new"})
    put(folder, "usual", default=True, decoder={"kind": "usual"})
    assert [*captioners()] == ["usual", "good", "fair", "new"]


def test_imported_ones_come_after_those_that_ship_unless_the_host_names_one(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("CAPTIONBOT_CACHE", str(cache))
    put(folder, "ships", decoder={"kind": "ships"})
    put(folder, "usual", default=True, decoder={"kind": "usual"})
    put(cache / "mine", "mine", scores={"CIDEr": 1.0}, decoder={"kind": "mine"})
    assert [*captioners()] == ["usual", "ships", "mine"]
    monkeypatch.setenv("CAPTIONBOT_MODEL", "mine")
    assert next(iter(captioners())) == "mine" and pages.find_card().stem == "mine"


def test_two_of_a_kind_are_told_apart_by_their_names(folder: Path) -> None:
    put(folder, "one")
    put(folder, "two")
    put(folder, "other", decoder={"kind": "top-down"})
    (folder / "broken.json").write_text("{}")
    (folder / "broken.safetensors").touch()
    put(folder, "odd", scores={"CIDEr": "good"})
    put(folder, "strange", decoder={"kind": []})
    assert captioners() == {
        "one": "Show, Attend and Tell · one",
        "two": "Show, Attend and Tell · two",
        "other": "Bottom-up and top-down",
        "broken": "broken",
        "odd": "odd",
        "strange": "strange",
    }


def test_one_captioner_is_in_memory_at_a_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        build_tiny_captioner(folder, name, default=name == "one")
    alive: list[int] = []
    load = Captioner.from_pretrained

    def watched(card: Path) -> Captioner:
        alive.append(len(pages._held))
        return load(card)

    monkeypatch.setattr(Captioner, "from_pretrained", watched)
    first = pages.resident()
    assert pages.resident("one") is first
    assert pages.resident("two").name == "two"
    assert alive == [0, 0]  # the first was let go before the second was loaded


def test_names_of_version_0_1_are_found_for_one_release() -> None:
    import captionbot.learn
    import captionbot.results
    import captionbot.samples
    import captionbot.uploads

    from captionbot.pages import captioners as old
    from captionbot.pages import lessons, resident, results, samples, shared_words, sharpest, uploads

    assert old is resident.captioners
    assert captionbot.learn is lessons
    assert captionbot.results is results
    assert captionbot.samples is samples
    assert captionbot.uploads is uploads
    assert shared_words([["dog"]]) == ["dog"]
    assert callable(sharpest)
    with pytest.raises(ImportError, match="cannot import name 'legend'"):
        from captionbot.pages import legend  # noqa: F401


def test_samples_are_captioned_as_what_they_show_but_for_the_one_that_says_so() -> None:
    shown = {
        "Giraffes": "giraffes",
        "A kitten": "cat",
        "Musicians": "guitar",
        "A polar bear": "bear",
        "A dog": "dog",
        "Birds": "birds",
        "A horse": "horse",
        "A sheep": "sheep",
        FAILS: "hens",
    }
    captioner = Captioner.from_pretrained()
    photos = [load_image(path) for path in sample_photos().values()]
    said = [captioned.captions[0] for captioned in captioner.caption(photos)]
    right = {
        name: shown[name] in caption.text.split() for name, caption in zip(sample_photos(), said, strict=True)
    }
    assert right == {name: name != FAILS for name in shown}, [caption.text for caption in said]
    judged = {caption.judgement.band for caption in said[:-1] if caption.judgement}
    assert judged == {"sure"}


def test_samples_have_a_licence_each_and_stay_small() -> None:
    folder = next(iter(sample_photos().values())).parent
    told = (folder / "LICENCES.md").read_text(encoding="utf-8")
    assert [path.name for path in folder.glob("*.jpg") if f"| `{path.name}` |" not in told] == []
    assert {path.name for path in folder.glob("*.jpg")} == {path.name for path in sample_photos().values()}
    assert sum(path.stat().st_size for path in sample_photos().values()) < 600_000
