"""The command line, run in this process but for what only a process of its own can show."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_server import local_server
from PIL import Image
from tiny import build_tiny_captioner, built

from captionbot import Captioner
from captionbot.cli.caption import _below
from captionbot.decoders.evidence import ALONE, WordEvidence
from captionbot.files import hold
from captionbot.images import load as images
from captionbot.store import card as cards

ROOT = Path(__file__).parents[2]
COMMANDS = ("caption", "alt", "explain", "models", "download", "import", "hub-check", "app")


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    build_tiny_captioner(folder)
    shutil.copy(ROOT / "weights" / "table.json", folder)
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """blue.png, broken.jpg, sub/green.png, sub/red.png: the order of a folder's listing."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for name, colour in (("blue", "blue"), ("sub/green", "green"), ("sub/red", "red")):
        Image.new("RGB", (60, 40), colour).save(folder / f"{name}.png")
    (folder / "broken.jpg").write_text("not a photo")
    return folder


def names(photos: Path) -> list[str]:
    return [str(photos / name) for name in ("blue.png", "broken.jpg", "sub/green.png", "sub/red.png")]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(run, command):
    code, out, err = run(command, "--help")
    assert code == 0
    assert out.startswith(f"usage: python -m captionbot {command}")
    assert not err


def test_help_lists_the_commands_and_imports_nothing_heavy():
    script = (
        "import sys\n"
        "from captionbot.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print(sorted({'torch', 'numpy', 'PIL', 'matplotlib'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert all(command in out.stdout for command in COMMANDS)
    assert out.stdout.splitlines()[-1] == "[]"


def test_a_caption_is_there_soon_as_little_is_imported(photos):
    """torch has some 1,150 modules; torchvision brings torch._dynamo, and that a thousand more. Garbage is
    not looked for among them before all are there."""
    script = (
        "import gc, sys\n"
        "collects = []\n"
        "class Watch:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'torch': collects.append(gc.isenabled())\n"
        "sys.meta_path.insert(0, Watch())\n"
        "from captionbot.cli.main import main\n"
        f"main(['caption', {str(photos / 'blue.png')!r}])\n"
        "heavy = {'torchvision', 'torch._dynamo', 'sympy', 'timm', 'transformers', 'matplotlib', 'scipy',"
        " 'streamlit', 'gradio', 'pandas', 'captionbot.pages', 'captionbot.explain', 'captionbot.draw'}\n"
        "print(collects, gc.isenabled(), sorted(heavy & set(sys.modules)), len(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    said, count = out.stdout.splitlines()[-1].rsplit(" ", 1)
    assert said == "[False] True []"
    assert int(count) < 1400


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["fly"],
        ["caption"],
        ["caption", "PHOTO", "--format", "xml"],
        ["caption", "PHOTO", "--batch-size", "0"],
        ["caption", "PHOTO", "--beam-size", "many"],
        ["caption", "PHOTO", "--beam-size", "0"],
        ["caption", "PHOTO", "--device", "abacus"],
        ["caption", "PHOTO", "--num-return", "5", "--beam-size", "2"],
        ["caption", "PHOTO", "--temperature", "0.5"],
        ["caption", "PHOTO", "--prefix", "zebra"],
        ["caption", "PHOTO", "--ban", "zebra"],
        ["caption", "PHOTO", "--model", "nobody"],
        ["caption", "PHOTO", "--out", "no/such/folder/captions.csv"],
        ["caption", "PHOTO", "--out", "PHOTO"],
        ["caption", "ARCHIVE", "--out", "ARCHIVE"],
        ["caption", "PHOTO", "--out", "ARCHIVE"],
        ["caption", "PHOTO", "--out", "EARLIER", "--prefix", "zebra"],
        ["caption", "PHOTO", "--out", "EARLIER", "--num-return", "9"],
        ["caption", "PHOTO", "--out", "EARLIER", "--prefix", "a " * 50],
        ["caption", "PHOTO", "--resume"],
        ["caption", "PHOTO", "--resume", "--out", "captions.json", "--format", "json"],
        ["caption", "PHOTO", "--format", "parquet", "--out", "captions.parquet"],
        ["caption", "PHOTO", "--engine", "ray"],
        ["caption", "PHOTO", "--ray-address", "auto"],
        ["caption", "missing.jpg"],
        ["caption", "BROKEN"],
        ["caption", "http://127.0.0.1/photo.jpg"],
        ["explain", "PHOTO"],
        ["explain", "PHOTO", "--out", "figure.bmp"],
        ["explain", "PHOTO", "--out", "PHOTO"],
        ["explain", "BROKEN", "--out", "figure.png"],
        ["models", "--format", "csv"],
        ["download", "nothing-of-this-name"],
    ],
    ids=" ".join,
)
def test_a_mistake_is_one_line_on_stderr_and_exit_code_2(run, photos, args):
    photo, archive, earlier = photos / "blue.png", photos / "photos.zip", photos / "earlier.csv"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(photo, "blue.png")
    earlier.write_text("captions of before")
    paths = {"PHOTO": photo, "BROKEN": photos / "broken.jpg", "ARCHIVE": archive, "EARLIER": earlier}
    before = {path: path.read_bytes() for path in paths.values()}
    code, out, err = run(*(paths.get(arg, arg) for arg in args))
    assert code == 2
    assert not out
    assert len(err.splitlines()) == 1
    assert "Traceback" not in err
    assert {path: path.read_bytes() for path in before} == before  # nothing was lost


def test_jsonl_has_a_line_for_every_image_in_order_and_reports_the_bad_one(run, photos):
    code, out, err = run("caption", photos, "--format", "jsonl", "--num-return", 2)
    records = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [record["image"] for record in records] == names(photos)
    good, bad = records[0], records[1]
    assert good["model"] == "tiny"
    assert len(good["captions"]) == 2
    assert set(good["captions"][0]) == {"text", "log_prob", "words"}
    assert {frozenset(word) for word in good["captions"][0]["words"]} == {frozenset(("text", "log_prob"))}
    assert set(bad) == {"image", "error"}
    assert err == f"captionbot: {bad['error']}\n"


def test_json_is_a_list_of_the_same_records(run, photos):
    lines = run("caption", photos, "--format", "jsonl").out.splitlines()
    assert json.loads(run("caption", photos, "--format", "json").out) == [json.loads(line) for line in lines]


def test_csv_has_a_row_a_caption_and_a_row_an_error(run, photos):
    rows = list(csv.DictReader(io.StringIO(run("caption", photos, "--format", "csv", "--num-return", 2).out)))
    blue, green, red = (2 * [name] for name in names(photos) if "broken" not in name)
    assert [row["image"] for row in rows] == [*blue, str(photos / "broken.jpg"), *green, *red]
    assert [row["rank"] for row in rows] == ["1", "2", "", "1", "2", "1", "2"]
    assert float(rows[0]["log_prob"]) < 0 < float(rows[0]["confidence"]) < 1
    assert rows[0]["caption"]
    assert not rows[0]["error"]
    assert not rows[2]["caption"]
    assert "broken.jpg" in rows[2]["error"]
    assert [row["model"] for row in rows] == [*2 * ["tiny"], "", *4 * ["tiny"]]


@pytest.mark.parametrize("format", ["csv", "jsonl"])
def test_a_file_of_one_captioner_is_not_gone_on_with_by_another(run, photos, tmp_path, format):
    other = build_tiny_captioner(tmp_path / "other", "other")
    out = tmp_path / f"captions.{format}"
    arguments = ("--format", format, "--out", out, "--resume")
    assert run("caption", photos / "blue.png", *arguments).code == 0
    before = out.read_bytes()
    code, _, err = run("caption", photos, *arguments, "--model", other)
    assert code == 2
    assert "its captions are by tiny, not by other" in err
    assert out.read_bytes() == before


def test_a_csv_of_before_it_named_its_captioner_is_gone_on_with_as_it_is(run, photos, tmp_path):
    out = tmp_path / "captions.csv"
    arguments = ("caption", photos, "--format", "csv", "--out", out)
    assert run(*arguments).code == 0
    rows = list(csv.reader(out.read_text().splitlines()))
    before = [",".join(row[:6]) + "\n" for row in rows]
    out.write_text("".join(before[:2]))
    assert run(*arguments, "--resume").code == 0
    now = list(csv.reader(out.read_text().splitlines()))
    assert [row[:2] for row in now] == [row[:2] for row in rows]
    assert {len(row) for row in now} == {6}


def test_text_has_a_line_a_caption(run, photos):
    code, out, err = run("caption", photos)
    lines = [line.split("\t") for line in out.splitlines()]
    assert code == 0
    assert [name for name, _ in lines] == [name for name in names(photos) if "broken" not in name]
    assert all(caption for _, caption in lines)
    assert "broken.jpg" in err


def test_txt_files_keep_relative_paths_and_never_collide(run, photos, tmp_path):
    for name in ("sub/red.jpg", "sub/red.gif"):
        Image.new("RGB", (60, 40), "red").save(photos / name)
    out = tmp_path / "texts"
    assert run("caption", photos, "--format", "txt-files", "--out", out).code == 0
    written = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.txt"))
    assert written == ["blue.txt", "sub/green.txt", "sub/red.jpg.txt", "sub/red.png.txt", "sub/red.txt"]
    assert all(path.read_text().strip() for path in out.rglob("*.txt"))


def test_a_path_that_cannot_be_costs_the_others_nothing(run, photos, tmp_path):
    (tmp_path / "captions.csv").write_text("captions of before")
    arguments = ("--format", "csv", "--out", tmp_path / "captions.csv")
    code, _, err = run("caption", f"{'x' * 300}.jpg", photos / "blue.png", *arguments)
    assert (code, len(err.splitlines())) == (0, 1)
    rows = list(csv.reader((tmp_path / "captions.csv").read_text().splitlines()))
    assert [row[0] for row in rows[1:]] == [f"{'x' * 300}.jpg", str(photos / "blue.png")]


def test_txt_files_leave_what_is_there(run, photos):
    (photos / "blue.txt").write_text("what a person wrote")
    code, _, err = run("caption", photos / "blue.png", "--format", "txt-files", "--out", photos)
    assert (code, len(err.splitlines())) == (2, 1)
    assert "blue.txt is there already" in err
    assert (photos / "blue.txt").read_text() == "what a person wrote"


def test_text_keeps_to_one_line_a_caption(run, photos):
    (photos / "blue.png").rename(photos / "a\tb\nc.png")
    (line,) = run("caption", photos / "a\tb\nc.png").out.splitlines()
    assert line.split("\t")[0] == str(photos / r"a\tb\nc.png")


def test_txt_files_of_an_archive_stay_in_their_folder(run, photos, tmp_path):
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.write(photos / "blue.png", "../../escaped.png")
        archive.write(photos / "blue.png", "day/blue.png")
    out = tmp_path / "deep" / "texts"
    assert run("caption", tmp_path / "photos.zip", "--format", "txt-files", "--out", out).code == 0
    assert sorted(tmp_path.rglob("*.txt")) == [out / "day" / "blue.txt", out / "escaped.txt"]


def test_txt_files_go_on_after_a_name_that_cannot_be(run, photos, tmp_path):
    photo, out = (photos / "blue.png").read_bytes(), tmp_path / "texts"
    names = ["a.png", "a.txt/b.png", f"{'c' * 300}.png", "d.png", "e.png"]
    with tarfile.open(tmp_path / "photos.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(photo)
            member.pax_headers = {"path": "d\0.png"} if name == "d.png" else {}
            archive.addfile(member, io.BytesIO(photo))
    code, _, err = run("caption", tmp_path / "photos.tar", "--format", "txt-files", "--out", out)
    assert sorted(path.name for path in out.rglob("*.txt")) == ["a.txt", "e.txt"]
    assert (code, len(err.splitlines())) == (0, 3)


def test_names_reach_no_terminal_with_what_it_would_obey(run, photos):
    (photos / "broken.jpg").rename(photos / "\x1b[2J.jpg")
    _, _, err = run("caption", photos / "\x1b[2J.jpg")
    assert "\x1b" not in err
    assert "\ufffd[2J.jpg is empty" in err


def test_libraries_warn_nobody_on_the_command_line(run, photos):
    torn = b"Exif\0\0II*\0\xff\xff\xff\xff"  # its first entry lies behind its end
    Image.new("RGB", (60, 40)).save(photos / "torn.jpg", exif=torn)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert run("caption", photos / "torn.jpg").code == 0
    assert not seen


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_closed_stream_is_no_error(run, photos, tmp_path, monkeypatch, stream):
    monkeypatch.setattr(sys, stream, None)
    out = tmp_path / "captions.csv"
    assert run("caption", photos, "--format", "csv", "--out", out).code == 0
    assert len(out.read_text().splitlines()) > 1
    assert run("caption", photos / "blue.png", "--format", "jsonl").code == 0


@pytest.mark.parametrize("name", ["", ".", "/"])
def test_an_import_needs_a_name(run, photos, name):
    code, _, err = run("import", "sankalp1999", photos / "blue.png", "--out", name)
    assert (code, len(err.splitlines())) == (2, 1)
    assert f"--out is {name!r}" in err


@pytest.mark.parametrize(
    ("paths", "name", "below"),
    [
        (["photos"], "photos/sub/dog.jpg", "sub/dog.jpg"),
        (["photos/"], "photos/dog.jpg", "dog.jpg"),
        (["."], "sub/dog.jpg", "sub/dog.jpg"),
        (["../photos"], "../photos/dog.jpg", "dog.jpg"),
        (["/home/me/dog.jpg"], "/home/me/dog.jpg", "dog.jpg"),
        (["a", "b"], "b/dog.jpg", "dog.jpg"),
        (["a.zip"], "a.zip//etc/dog.jpg", "etc/dog.jpg"),
        (["https://host/x/dog.jpg?size=3"], "https://host/x/dog.jpg?size=3", "dog.jpg"),
        (["https://host"], "https://host", "image"),
    ],
)
def test_names_below_what_was_asked_for(paths, name, below):
    assert _below(paths, name).as_posix() == below


@pytest.mark.parametrize("name", ["captions.csv", "captions.jsonl", "captions.json", "captions.text"])
def test_out_holds_what_the_screen_would_show(run, photos, tmp_path, name):
    arguments = ("caption", photos, "--format", name.rpartition(".")[2])
    shown = run(*arguments).out
    assert run(*arguments, "--out", tmp_path / name).out == ""
    assert (tmp_path / name).read_text(encoding="utf-8") == shown


@pytest.mark.parametrize("flags", [(), ("--resume",)])
def test_two_runs_do_not_write_to_one_file(run, photos, tmp_path, flags):
    out = tmp_path / "captions.jsonl"
    arguments = ("caption", photos / "blue.png", "--format", "jsonl", "--out", out)
    assert run(*arguments).code == 0
    before = out.read_bytes()
    with out.open("a") as other:
        hold(other.fileno(), out)
        assert run(*arguments, *flags) == (
            2,
            "",
            f"captionbot: Another run is writing to {out}: give another --out, or wait until it has ended.\n",
        )
    assert out.read_bytes() == before
    assert run(*arguments, *flags).code == 0


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_captions_are_those_of_the_captioner_whatever_the_batch(run, shared, weights, batch_size):
    paths = sorted((shared / "data" / "photos").glob("*.jpg"))[:5]
    _, out, _ = run("caption", *paths, "--format", "jsonl", "--batch-size", batch_size, "--device", "cpu")
    captioner = Captioner.from_pretrained(weights, device="cpu")
    expected = captioner.caption([images.load_image(path) for path in paths])
    assert [json.loads(line)["captions"][0]["text"] for line in out.splitlines()] == [
        captioned.captions[0].text for captioned in expected
    ]


def test_options_reach_the_search(run, photos):
    photo = photos / "blue.png"
    (text,) = run(
        "caption", photo, "--prefix", "a dog", "--ban", "plays", "--ban", "jumps", "--min-length", 5,
        "--max-length", 6, "--no-repeat-ngram-size", 1, "--length-penalty", 1,
    ).out.splitlines()  # fmt: skip
    words = text.split("\t")[1].split()
    assert words[:2] == ["a", "dog"]
    assert len(words) in (5, 6)
    assert len(set(words)) == len(words)
    assert not {"plays", "jumps"} & set(words)


def test_captions_can_be_ranked_by_their_probability_alone(run, photos, tmp_path):
    card, encoder, decoder = cards.load(build_tiny_captioner(tmp_path))
    words = decoder.config.vocabulary_size
    decoder.evidence = WordEvidence(decoder.config.feature_size, words, 2)
    phrases = decoder.evidence.phrases
    phrases[:] = phrases.new_tensor([(word, ALONE) for word in range(words)])
    decoder.evidence.say.bias.data += 100  # the more words, the better
    path = cards.save(
        tmp_path / "with", dataclasses.replace(card, evidence={"phrases": words, "rank": 2}), encoder, decoder
    )
    arguments = (
        "caption", photos / "blue.png", "--model", path, "--format", "jsonl", "--num-return", 5,
        "--beam-size", 5, "--no-repeat-ngram-size", 1, "--length-penalty", 0,
    )  # fmt: skip

    def log_probs(*more):
        (line,) = run(*arguments, *more).out.splitlines()
        return [caption["log_prob"] for caption in json.loads(line)["captions"]]

    alone = log_probs("--no-evidence")
    assert alone == sorted(alone, reverse=True)
    assert log_probs() != alone


def test_samples_repeat_with_their_seed_and_differ_without_it(run, photos):
    def sampled(seed: int) -> str:
        arguments = ("--sample", "--num-return", 4, "--temperature", 2, "--top-k", 20, "--seed", seed)
        return run("caption", photos / "blue.png", *arguments).out

    assert sampled(1) == sampled(1)
    assert sampled(1) != sampled(2)


def test_lines_come_as_soon_as_their_batch_is_done(run, photos, tmp_path, monkeypatch):
    out = tmp_path / "captions.jsonl"
    find_images = images.find_images
    lines_so_far = []

    def watched(paths: list[str]) -> Iterator[images.ImageSource]:
        for source in find_images(paths):
            lines_so_far.append(len(out.read_text().splitlines()))
            yield source

    monkeypatch.setattr(images, "find_images", watched)
    arguments = ("--format", "jsonl", "--out", out, "--batch-size", 1)
    assert run("caption", *[photos / "blue.png"] * 5, *arguments).code == 0
    assert lines_so_far[-1] >= 1  # a photo or two are under way, and the others are written


def test_explain_draws_a_figure(run, photos, tmp_path):
    code, out, err = run("explain", photos / "blue.png", "--out", tmp_path / "figure.png")
    assert (code, err) == (0, "")
    with Image.open(tmp_path / "figure.png") as figure:
        assert figure.width > 400
    words = out.split()
    run("explain", photos / "blue.png", "--out", tmp_path / "figure.GIF")
    with Image.open(tmp_path / "figure.GIF") as figure:
        assert figure.n_frames == len(words) + 1


def test_explain_says_what_it_shows_where_nothing_attends(run, photos, tmp_path):
    card, encoder, _ = cards.load(build_tiny_captioner(tmp_path))
    decoder = {"kind": "show-and-tell", "cell": "gru", "embedding_size": 16, "hidden_size": 16}
    decoder |= {name: card.decoder[name] for name in ("vocabulary_size", "feature_size")}
    card = dataclasses.replace(card, family="show-and-tell", decoder=decoder)
    whole = cards.save(tmp_path, card, encoder, built(card.encoder, decoder)[1])
    out = tmp_path / "figure.json"
    code, _, err = run("explain", photos / "sub/red.png", "--out", out, "--model", whole)
    assert code == 0
    assert "looks at the photo as a whole" in err
    numbers = json.loads(out.read_text())
    assert "where this place is hidden" in numbers["label"]
    assert len(numbers["captions"][0]["words"][0]["alphas"]) > 1


def test_explain_gives_the_numbers(run, photos, tmp_path):
    out = run("explain", photos / "blue.png", "--out", tmp_path / "figure.json").out
    (caption,) = json.loads((tmp_path / "figure.json").read_text())["captions"]
    assert caption["text"] == out.strip()
    assert caption["image_size"] == [60, 40]
    for word in caption["words"]:
        assert len(word["alphas"]) == len(caption["boxes"]) == 16
        assert sum(word["alphas"]) == pytest.approx(1, abs=1e-4)


def test_a_photo_whose_name_is_not_utf8_is_explained(run, photos, tmp_path):
    photo = photos / os.fsdecode(b"caf\xe9.png")
    try:
        shutil.copy(photos / "blue.png", photo)
    except OSError:
        pytest.skip("needs a file system that takes any bytes for a name")
    assert run("explain", photo, "--out", tmp_path / "words.json").code == 0
    assert json.loads((tmp_path / "words.json").read_bytes())["image"] == str(photo)


def test_models_lists_what_ships_and_the_captioners_that_download(run):
    listed = json.loads(run("models", "--format", "json").out)
    keys = {"name", "family", "ships", "default", "parameters", "size_bytes", "scores"}
    assert {frozenset(model) for model in listed} == {frozenset(keys)}
    tiny, *others = listed
    assert tiny["name"] == "tiny"
    assert (tiny["ships"], tiny["default"]) == (True, True)
    assert tiny["parameters"] > 0 < tiny["size_bytes"]
    assert [model["name"] for model in others] == [
        *("captionbot-v2-flickr30k", "captionbot-v1-flickr8k"),
        *("blip-base", "blip-large", "git-base-coco", "git-large-coco", "vit-gpt2", "florence-2-base-ft"),
        *("smolvlm2-256m", "smolvlm2-500m"),
    ]
    assert not any(model["ships"] or model["default"] for model in others)
    text = run("models").out
    assert [line.split()[0] for line in text.splitlines()] == [model["name"] for model in listed]


def test_models_lists_the_others_where_a_card_is_damaged(run, weights, tmp_path, monkeypatch):
    imported = tmp_path / "cache" / "torn"
    imported.mkdir(parents=True)
    (imported / "torn.json").write_text("{")
    (imported / "torn.safetensors").write_bytes(b"")
    monkeypatch.setenv("CAPTIONBOT_CACHE", str(imported.parent))
    code, out, err = run("models", "--format", "json")
    assert (code, json.loads(out)[0]["name"]) == (0, "tiny")
    assert "torn.json is not the card of a captioner" in err
    assert len(err.splitlines()) == 1


def test_download_prints_where_the_file_lies(run, weights, tmp_path, monkeypatch):
    with local_server() as server:
        line = json.loads((weights / "table.json").read_text())[0] | {
            "name": "small",
            "file": "small.bin",
            "importer": None,
            "url": server.says("/small.bin", b"weights"),
            "size": 7,
        }
        (tmp_path / "table.json").write_text(json.dumps([line]))
        monkeypatch.setenv("CAPTIONBOT_WEIGHTS", str(tmp_path))
        code, out, err = run("download", "small", "--folder", tmp_path / "here")
        assert code == 0, err
        assert Path(out.strip()).read_bytes() == b"weights"
        assert Path(out.strip()).is_relative_to(tmp_path / "here")
        assert "not verified" in err
        (tmp_path / "table.json").write_text(json.dumps([line | {"size": 8}]))
        code, out, err = run("download", "small", "--folder", tmp_path / "there")
        assert (code, out) == (2, "")
        assert len(err.splitlines()) == 1


def test_ctrl_c_is_quiet(run, photos, monkeypatch):
    def interrupted(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Captioner, "caption", interrupted)
    assert run("caption", photos / "blue.png") == (130, "", "")


def test_ctrl_c_waits_for_no_thread():
    code = """if True:
        import runpy, sys, threading, time
        from captionbot.store import registry

        def interrupted():
            threading.Thread(target=time.sleep, args=(60,)).start()
            raise KeyboardInterrupt

        registry.list_cards = interrupted
        sys.argv = ["captionbot", "models"]
        runpy.run_module("captionbot", run_name="__main__")
    """
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=50)
    assert (done.returncode, done.stderr) == (130, b"")


def test_a_reader_that_has_seen_enough_is_no_error(weights):
    process = subprocess.Popen(
        [sys.executable, "-m", "captionbot", "models"],
        cwd=ROOT,
        env={"CAPTIONBOT_WEIGHTS": str(weights)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout
    process.stdout.close()
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, b"")


@pytest.mark.parametrize(
    "entry",
    [
        "from captionbot.cli.main import main; main(['models'])",
        "import gradio_app",
        "import streamlit_app",
        "from training.train import main; main(['--help'])",
        "import benchmarks.__main__",
    ],
)
def test_threads_that_wait_leave_their_core_to_others(entry):
    """OpenMP reads this as torch is imported: it must be there before, and a person's own choice stays."""
    script = (
        "import os, sys\n"
        "class Watch:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'torch': print(os.environ.get('OMP_WAIT_POLICY'), flush=True); os._exit(0)\n"
        f"sys.meta_path.insert(0, Watch())\n{entry}\nimport torch"
    )
    for given, expected in ({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active"):
        kept = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, env=kept | given, capture_output=True, text=True
        )
        assert (done.stdout.split()[-1:], done.returncode) == ([expected], 0), done.stderr[-500:]
