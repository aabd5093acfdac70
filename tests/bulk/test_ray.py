"""A collection on a local Ray cluster: shards, errors, what is done already, and a worker that is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import build_tiny_captioner

from captionbot import CaptionBotError

pytest.importorskip("ray", reason="needs Ray: pip install 'captionbot[ray]'")
pytestmark = pytest.mark.slow


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = build_tiny_captioner(tmp_path / "weights").parent
    monkeypatch.setenv("CAPTIONBOT_WEIGHTS", str(folder))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    return folder


def make_photos(folder: Path, count: int) -> Path:
    folder.mkdir()
    for i in range(count):
        pixels = np.random.default_rng(i).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((80, 60), Image.Resampling.BICUBIC).save(folder / f"{i:03}.jpg")
    (folder / "bad.jpg").write_text("no photo")
    return folder


def captions(path: Path) -> dict[str, str]:
    """The caption or error of every image in the shards; none stands there twice."""
    import pyarrow.parquet

    rows = [row for shard in path.glob("*.parquet") for row in pyarrow.parquet.read_table(shard).to_pylist()]
    rows += [json.loads(line) for shard in path.glob("*.jsonl") for line in shard.read_text().splitlines()]
    found = {Path(row["image"]).name: row.get("error") or row["captions"][0]["text"] for row in rows}
    assert len(found) == len(rows)
    return found


def test_folders_tars_and_tables_become_shards_and_a_resumed_run_adds_what_is_new(weights, tmp_path, capsys):
    import pyarrow as pa
    import pyarrow.parquet

    from captionbot.cli.main import main

    photos = make_photos(tmp_path / "photos", 12)
    plain, out = tmp_path / "plain.jsonl", tmp_path / "out"
    assert main(["caption", str(photos), "--format", "jsonl", "--out", str(plain), "--device", "cpu"]) == 0
    expected = {}
    for text in plain.read_text().splitlines():
        row = json.loads(text)
        expected[Path(row["image"]).name] = row.get("error") or row["captions"][0]["text"]

    table = tmp_path / "some.parquet"
    names = [str(photos / f"{i:03}.jpg") for i in range(5)]
    private = "http://127.0.0.1/private.jpg"  # is asked for, and refused
    pyarrow.parquet.write_table(pa.table({"path": [*names, private]}), table)
    engine = ["--engine", "ray", "--out", str(out)]
    assert main(["caption", str(table), *engine]) == 0
    found = captions(out)
    assert "127.0.0.1" in found.pop("private.jpg")
    assert found == {name: expected[name] for name in map(os.path.basename, names)}
    assert main(["caption", str(table), *engine]) == 2  # the folder holds captions already
    assert "--resume" in capsys.readouterr().err
    first = {shard: shard.stat().st_mtime_ns for shard in out.iterdir()}
    assert main(["caption", str(photos), *engine, "--resume"]) == 0
    assert captions(out).keys() == {*expected, "private.jpg"}
    assert expected.items() <= captions(out).items()
    assert {shard: shard.stat().st_mtime_ns for shard in first} == first
    assert main(["caption", str(photos), *engine, "--resume"]) == 0  # nothing is left
    assert len(captions(out)) == len(expected) + 1

    tar = tmp_path / "photos.tar"
    with tarfile.open(tar, "w") as archive:
        archive.add(photos, "photos")
    from_tar = ["--engine", "ray", "--format", "jsonl", "--out", str(tmp_path / "tar")]
    assert main(["caption", str(tar), *from_tar]) == 0
    found = captions(tmp_path / "tar")
    assert "photos.tar" in found.pop("bad.jpg")
    assert found == {name: text for name, text in expected.items() if name != "bad.jpg"}


def test_a_killed_worker_and_a_lost_node_cost_nothing_but_time(weights, tmp_path):
    from ray.cluster_utils import Cluster

    from captionbot.bulk.ray import caption_collection

    photos = make_photos(tmp_path / "photos", 150)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    try:
        node = cluster.add_node(num_cpus=2)
        records = caption_collection(
            [str(photos)], tmp_path / "out", address=cluster.address, batch_size=4, device="cpu"
        )
        names = [next(records)["image"]]
        pids = actors()
        assert pids
        os.kill(pids[0], signal.SIGKILL)
        names.append(next(records)["image"])
        cluster.remove_node(node, allow_graceful=False)
        names += [record["image"] for record in records]
    finally:
        cluster.shutdown()
    assert sorted(names) == sorted(map(str, photos.iterdir()))
    assert len(captions(tmp_path / "out")) == 151


def actors() -> list[int]:
    """The processes of the actors that caption, of this test's own cluster alone."""
    found: list[int] = []
    deadline = time.monotonic() + 30
    while not found and time.monotonic() < deadline:
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                title, parent = (folder / "cmdline").read_text(), parent_of(folder.name)
            except OSError:
                continue
            # A worker's parent is its node's raylet, which this process started.
            if title.startswith("ray::") and "_Captions" in title and parent_of(parent) == str(os.getpid()):
                found.append(int(folder.name))
    return found


def parent_of(pid: str) -> str:
    return Path("/proc", pid, "stat").read_text().rpartition(") ")[2].split()[1]


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"name": ["a.jpg"]}, "one of them must be"),
        ({"image": ["", None]}, "has no texts in its column image"),
        ({"image": [b"a.jpg"]}, "has no texts in its column image"),
        (None, "cannot be read"),
    ],
)
def test_a_table_without_paths_is_refused(weights, tmp_path, columns, sentence):
    import pyarrow as pa
    import pyarrow.parquet

    from captionbot.bulk.ray import caption_collection

    path = tmp_path / "table.parquet"
    if columns:
        pyarrow.parquet.write_table(pa.table(columns), path)
    else:
        path.write_text("no table")
    with pytest.raises(CaptionBotError, match=sentence):
        next(caption_collection([str(path)], tmp_path / "out"))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"beam_size": 0}, "beam_size is 0"),
        ({"banned_words": ["zebra"]}, "does not know the word 'zebra'"),
        ({"prefix": "a " * 50}, "The caption would begin with 50 words"),
    ],
)
def test_options_are_tried_before_anything_is_written(weights, tmp_path, options, sentence):
    from captionbot.bulk.ray import caption_collection

    with pytest.raises(CaptionBotError, match=sentence):
        next(caption_collection([str(tmp_path)], tmp_path / "out", options=options))
    assert not (tmp_path / "out").exists()


def test_a_damaged_shard_is_named(weights, tmp_path):
    from captionbot.bulk.ray import caption_collection

    (tmp_path / "captions-00000.parquet").write_text("junk")
    with pytest.raises(CaptionBotError, match=r"captions-00000\.parquet is no shard of captions"):
        next(caption_collection([str(tmp_path)], tmp_path, resume=True))


def test_what_no_worker_can_do_is_one_sentence(weights, tmp_path, monkeypatch):
    """The captioner is there as the driver looks at it, and gone as the workers load it."""
    from captionbot.bulk import ray as collection

    connect = collection._connect

    def without_weights(*arguments: object) -> None:
        shutil.rmtree(weights)
        connect(*arguments)

    monkeypatch.setattr(collection, "_connect", without_weights)
    photos = make_photos(tmp_path / "photos", 3)
    with pytest.raises(CaptionBotError, match=r"Ray gave up \(.*go on with --resume"):
        next(collection.caption_collection([str(photos)], tmp_path / "out", device="cpu"))
