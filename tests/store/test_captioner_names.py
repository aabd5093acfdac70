"""Names of captioners are resolved in one place, by places that are asked one after the other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from captionbot.errors import CaptionBotError
from captionbot.store import registry


def add(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.safetensors").touch()
    path = folder / f"{name}.json"
    path.write_text(json.dumps({}))
    return path


def test_a_name_is_looked_for_in_every_place_in_order(tmp_path, monkeypatch):
    monkeypatch.setenv("CAPTIONBOT_WEIGHTS", str(tmp_path / "ships"))
    monkeypatch.setenv("CAPTIONBOT_CACHE", str(tmp_path / "cache"))
    shipped = add(tmp_path / "ships", "one")
    add(tmp_path / "cache" / "one", "one")
    imported = add(tmp_path / "cache" / "two", "two")
    trained = add(tmp_path / "run", "three")
    assert registry.find_card("one") == shipped  # what ships comes first
    assert registry.find_card("two") == imported
    assert registry.find_card(tmp_path / "run") == registry.find_card(str(trained)) == trained
    with pytest.raises(CaptionBotError, match="There is no captioner 'four': give one of one, two, a folder"):
        registry.find_card("four")


def test_another_kind_of_name_is_another_place(tmp_path, monkeypatch):
    card = add(tmp_path, "fetched")
    places = (*registry.PLACES, lambda name: card if name.startswith("hub:") else None)
    monkeypatch.setattr(registry, "PLACES", places)
    assert registry.find_card("hub:someone/fetched") == card


@pytest.mark.parametrize(("old", "new"), registry.RENAMED.items())
def test_the_name_of_a_captioner_that_was_replaced_leads_to_its_successor(
    old, new, tmp_path, monkeypatch, caplog
):
    monkeypatch.setenv("CAPTIONBOT_WEIGHTS", str(tmp_path / "ships"))
    monkeypatch.setenv("CAPTIONBOT_CACHE", str(tmp_path / "cache"))
    card = add(tmp_path / "ships", new)
    assert registry.find_card(old) == card
    assert caplog.messages == [f"{old} has been replaced; using {new}."]
    own = add(tmp_path / "cache" / old, old)
    assert registry.find_card(old) == own  # of someone who has the old one


def test_names_of_version_0_1_find_them_too():
    from captionbot.weights import find_card, list_cards

    assert (find_card, list_cards) == (registry.find_card, registry.list_cards)
