"""Files of the Hub, from a server on this machine that breaks off, lies and changes."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import tiny_hub
from hub_server import COMMIT, ID, publish
from tiny_hub import build

from captionbot.captioner import Captioner
from captionbot.cli.main import main
from captionbot.errors import CaptionBotError
from captionbot.store import hub, memory
from captionbot.store.card import Card
from captionbot.store.importers.hub import address_of, download_hub, import_hub
from captionbot.store.registry import find_card


def weights(server):
    return f"/{ID}/resolve/{COMMIT}/model.safetensors"


def test_a_repository_becomes_a_captioner_that_needs_no_network(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert main(["import", "hub", ID, "--out", "mine"]) == 0
    assert {headers.get("Authorization") for _, headers in server.requests} == {"Bearer secret"}
    path = find_card("mine")
    card = Card.load(path)
    assert capsys.readouterr().out.strip() == str(path)
    assert card.source == {"id": ID, "revision": COMMIT, "file": "model.safetensors"}
    assert card.sha256 == hashlib.sha256(path.with_suffix(".safetensors").read_bytes()).hexdigest()
    assert not [name for name, _ in server.requests if name.endswith((".py", ".bin"))]
    server.shutdown()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    photo = Path(__file__).parents[1] / "golden" / "dog-on-grass.png"
    assert main(["caption", str(photo), "--model", "mine", "--device", "cpu"]) == 0
    assert capsys.readouterr().out.strip()
    with pytest.raises(CaptionBotError, match="HF_HUB_OFFLINE"):
        import_hub(ID, tmp_path / "other", "other")


def test_a_folder_takes_the_place_of_another_whole_or_not_at_all(repository, tmp_path):
    other, mine = tmp_path / "other", tmp_path / "mine"
    tiny_hub.publish(other, *tiny_hub.blip([*tiny_hub.PIECES, "quokka"]))
    path = import_hub(str(repository), mine, "mine")

    def here():
        return {file.name: file.read_bytes() for file in mine.iterdir()}

    before = here()
    for file in ("config.json", "model.safetensors", "tokenizer.json"):
        lacking = shutil.copytree(other, tmp_path / f"without {file}")
        (lacking / file).unlink()
        with pytest.raises(CaptionBotError, match=f"without {file} holds no {file}: give a folder"):
            import_hub(str(lacking), mine, "mine")
    damaged = shutil.copytree(other, tmp_path / "damaged") / "model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:5000])
    with pytest.raises(CaptionBotError, match=f"{damaged} is no safetensors file"):
        import_hub(str(damaged.parent), mine, "mine")
    assert here() == before
    assert import_hub(str(other), mine, "mine") == path
    assert here()["mine.safetensors"] == (other / "model.safetensors").read_bytes()
    assert "quokka" in (mine / "mine.tokenizer.json").read_text()


def test_another_commit_is_taken_whole(server, repository, tmp_path):
    first = import_hub(ID, tmp_path / "mine", "mine")
    tokenizer = first.with_suffix(".tokenizer.json").read_bytes()
    other = tmp_path / "other"
    tiny_hub.publish(other, *tiny_hub.blip([*tiny_hub.PIECES, "quokka"]))
    publish(server, other, commit="f" * 40)
    card = Card.load(import_hub(ID, tmp_path / "mine", "mine"))
    assert card.source["revision"] == "f" * 40
    assert first.with_suffix(".tokenizer.json").read_bytes() != tokenizer
    count = len(server.requests)
    import_hub(ID, tmp_path / "mine", "mine")
    assert len(server.requests) == count + 1  # which commit main is


def test_names_that_are_not_of_the_hub(tmp_path, capsys):
    assert main(["hub-check", "resnet50-imagenet-v2"]) == 2
    assert "none of the Hub's captioners that are known here (blip-base, " in capsys.readouterr().err
    assert main(["hub-check", f"{tmp_path}/"]) == 2
    assert "is a folder, whose files are checked" in capsys.readouterr().err


def test_what_broke_off_goes_on_and_what_lies_is_refused(server, repository, tmp_path):
    whole = (repository / "model.safetensors").read_bytes()
    honest = server.answers[weights(server)]

    def breaks_off(exchange):
        exchange.answer(whole[:100_000], length=len(whole), ETag='"model.safetensors"')

    def goes_on(exchange):
        start = int(exchange.headers["Range"].removeprefix("bytes=").rstrip("-"))
        exchange.answer(
            whole[start:], 206, Content_Range=f"bytes {start}-{len(whole) - 1}/{len(whole)}",
            ETag='"model.safetensors"',
        )  # fmt: skip

    server.answers[weights(server)] = breaks_off
    target = tmp_path / "model.safetensors"
    found = hub.repository(ID)
    with pytest.raises(CaptionBotError, match="goes on where it stopped"):
        hub.fetch(found, "model.safetensors", target, delays=())
    server.answers[weights(server)] = goes_on
    assert hub.fetch(found, "model.safetensors", target, delays=()).read_bytes() == whole
    server.says(weights(server), whole[:-1] + b"!", ETag='"another"')
    with pytest.raises(CaptionBotError, match="sha256"):
        hub.fetch(found, "model.safetensors", tmp_path / "lie", delays=())
    server.answers[weights(server)] = honest
    assert not (tmp_path / "lie").exists()


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"{}", 200, "nothing that can be read"),
        (b'{"sha": "main", "siblings": []}', 200, "nothing that can be read"),
        (b'{"sha": "' + b"f" * 40 + b'", "siblings": []}', 200, "nothing that can be read"),
        (b"<html>", 200, "nothing that can be read"),
        (b"", 404, "HF_TOKEN"),
        (b"", 500, "answered 500"),
    ],
)
def test_answers_that_say_nothing(server, body, status, said):
    server.says(f"/api/models/{ID}/revision/{COMMIT}?blobs=true", body, status=status)
    with pytest.raises(CaptionBotError, match=said):
        hub.repository(ID, COMMIT)


@pytest.mark.parametrize(
    ("name", "revision"), [("a/../b", None), ("a/b", "../x"), ("a", None), ("a/b c", None)]
)
def test_names_that_are_none(name, revision):
    with pytest.raises(CaptionBotError, match="OWNER/NAME"):
        hub.repository(name, revision)


def table(folder, monkeypatch, **changes):
    folder.mkdir()
    line = {
        "name": "known", "file": "known.safetensors", "size": None, "sha256": None, "licence": "MIT",
        "url": f"https://huggingface.co/{ID}/resolve/{COMMIT}/model.safetensors", "source": "",
        "note": "Good.", "family": "blip", "importer": "hub", "megabytes": 1, "parameters": 1,
    }  # fmt: skip
    (folder / "table.json").write_text(json.dumps([line | changes]))
    monkeypatch.setenv("CAPTIONBOT_WEIGHTS", str(folder))


def test_a_name_of_the_table_is_fetched_by_one_command(server, tmp_path, monkeypatch, capsys):
    table(tmp_path / "shipped", monkeypatch)
    with pytest.raises(CaptionBotError, match="download known"):
        find_card("known")
    assert main(["download", "known"]) == 0
    card = Card.load(find_card("known"))
    assert (card.licence, card.description, card.source["revision"]) == ("MIT", "Good.", COMMIT)
    monkeypatch.setenv("CAPTIONBOT_MODEL", "known")
    assert find_card().stem == "known"
    count = len(server.requests)
    assert main(["download", "known"]) == 0 and len(server.requests) == count
    capsys.readouterr()
    assert main(["models"]) == 0 and "imported" in capsys.readouterr().out


def test_three_lengths_are_three_captioners_of_one_file(server, tmp_path):
    build(tmp_path / "florence", "florence-2")
    source = address_of("florence-2-base-ft")
    publish(server, tmp_path / "florence", source.id, source.revision)
    first = download_hub(source_name := "florence-2-base-ft")
    paths = [first, *(find_card(f"{source_name}-{kind}") for kind in ("detailed", "paragraph"))]
    cards = [Card.load(path) for path in paths]
    assert len({tuple(card.decoder["question"]) for card in cards}) == 3
    assert [card.search["max_length"] for card in cards] == [20, 60, 150]
    assert [card.title.rpartition(", ")[2] for card in cards[1:]] == ["detailed", "paragraph"]
    weights = [path.with_suffix(".safetensors") for path in paths]
    assert all(one.samefile(weights[0]) for one in weights)
    assert Captioner.from_pretrained(paths[2], device="cpu").vocabulary.eos_id == cards[0].vocabulary["eos"]


def test_a_file_that_is_not_the_one_that_is_known_is_not_taken(server, tmp_path, monkeypatch):
    table(tmp_path / "shipped", monkeypatch, sha256="f" * 64)
    with pytest.raises(CaptionBotError, match="sha256 differs"):
        download_hub("known")


def test_files_in_the_users_cache_are_used_without_a_request(server, repository, tmp_path, monkeypatch):
    snapshot = tmp_path / "hub" / f"models--{ID.replace('/', '--')}" / "snapshots" / COMMIT
    shutil.copytree(repository, snapshot)
    table(tmp_path / "shipped", monkeypatch)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    path = find_card("known")
    assert path.with_suffix(".safetensors").samefile(snapshot / "model.safetensors")
    assert not server.requests


def test_the_header_alone_is_compared_with_the_model(server, repository, capsys):
    whole = (repository / "model.safetensors").read_bytes()

    def part(exchange):
        start, end = map(int, exchange.headers["Range"].removeprefix("bytes=").split("-"))
        exchange.answer(whole[start : end + 1], 206, Content_Range=f"bytes {start}-{end}/{len(whole)}")

    server.answers[weights(server)] = part
    assert main(["hub-check", ID]) == 0
    assert f"at {COMMIT} fits BLIP" in capsys.readouterr().out
    whole = whole.replace(b"crossattention.self.key.weight", b"crossattention.self.kez.weight")
    assert main(["hub-check", ID]) == 2
    assert "caption nonsense" in capsys.readouterr().err


def test_a_captioner_that_does_not_fit_into_memory_is_not_loaded(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 10**9)
    memory.check_room(10**9 - 1, "It")
    with pytest.raises(CaptionBotError, match=r"It needs 2\.0 GB of memory, and 1\.0 GB are free"):
        memory.check_room(2 * 10**9, "It")
