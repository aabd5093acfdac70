"""What strangers send to the Gradio page: its real server in a process of its own, spoken to by bare HTTP."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import numpy as np
import pytest
import requests
from PIL import Image
from tiny import build_tiny_captioner

from benchmarks.raw import Visitor
from benchmarks.servers import served
from captionbot.pages.gradio.door import UNKNOWN
from captionbot.pages.limits import MAX_TEXT

META = {"_type": "gradio.FileData"}
ENDPOINTS = ("caption", "explain", "beam", "steer", "ask", "compare", "batch")
FILES = {"image", "file", "imageeditor"}  # kinds of components whose values are files


class Server(NamedTuple):
    address: str
    folder: Path  # of uploads


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    weights = tmp_path_factory.mktemp("weights")
    build_tiny_captioner(weights)
    build_tiny_captioner(weights, "other", default=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAPTIONBOT_WEIGHTS", str(weights))
        with served("gradio") as (address, pid):
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            folder = dict(pair.split(b"=", 1) for pair in environment if b"=" in pair)[b"GRADIO_TEMP_DIR"]
            yield Server(address, Path(os.fsdecode(folder)))


@pytest.fixture
def visitor(server: Server) -> Visitor:
    return Visitor(server.address)


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def file(path: Path | str, **more: Any) -> dict[str, Any]:
    return {"path": str(path), "meta": META, **more}


def sentence(answer: dict[str, Any]) -> str:
    assert not answer["success"], answer
    return answer["output"]["error"] or ""


def hostile(server: Server, photo: Path, own: dict[str, Any]) -> dict[str, Any]:
    """Everything that is no upload of one's own, by what it is; photo: a file of the server."""
    upload = Path(own["path"])
    planted = server.folder / "planted"
    planted.mkdir(exist_ok=True)
    shutil.copy(photo, planted / "photo.png")
    if not (planted / "link.png").is_symlink():
        (planted / "link.png").symlink_to(photo)
        os.mkfifo(planted / "fifo.png")
    return {
        "a file of the server": file(photo),
        "without meta": {"path": str(photo)},
        "meta of another kind": {"path": str(photo), "meta": {"_type": "other"}},
        "a stream": file(photo, is_stream=True),
        "with a url": file(photo, url=f"http://{server.address}/gradio_api/file={photo}"),
        "a url alone": {"url": "data:image/png;base64,AAAA"},
        "meta alone": {"meta": META},
        "no text for a path": file(7),  # type: ignore[arg-type]
        "a device": file("/dev/zero"),
        "a device without meta": {"path": "/dev/zero"},
        "a folder": {"path": str(photo.parent)},
        "the folder of all uploads": {"path": str(server.folder)},
        "the folder of an upload": {"path": str(upload.parent)},
        "up and down": {"path": str(upload.parent / ".." / ".." / photo.parent.name / photo.name)},
        "out and back in": {"path": f"{upload.parent}/../{upload.parent.name}/{upload.name}"},
        "a file that another program put there": {"path": str(planted / "photo.png")},
        "a link there": {"path": str(planted / "link.png")},
        "a pipe there": {"path": str(planted / "fifo.png")},
        "a name with a zero": {"path": f"{upload}\0.png"},
        "an address of the server": {"path": f"http://{server.address}/config"},
        "an address with meta": file(f"http://{server.address}/config"),
        "a local address": {"path": "file:///etc/hostname"},
        "nested": {"image": {"inside": [{"path": str(photo)}]}},
    }


def test_every_input_of_every_event_and_endpoint_refuses_files_that_were_not_uploaded(server, visitor, photo):
    """One mechanism for all: whatever the component, so that a new event cannot forget it."""
    (own,) = visitor.upload(photo)
    bad = hostile(server, photo, own)
    tried = set()
    for event in visitor.events():
        for place, kind in enumerate(visitor.kinds(event)):
            if kind == "state":
                continue  # what a client sends for these is never read
            everything = kind in FILES or (event["api_name"] in ENDPOINTS and place == 0)
            for name in bad if everything else ["without meta"]:
                data = visitor.values(event)
                data[place] = [bad[name]] if kind == "file" or event["api_name"] == "batch" else bad[name]
                said = sentence(visitor.ask(event, data))
                assert "public internet" in said or UNKNOWN in said, (event["api_name"], name, said)
                assert str(photo.parent) not in said
            tried.add((event["api_name"], kind))
    assert {
        ("on_photo", "image"),
        ("on_batch", "file"),
        ("on_own", "file"),
    } <= tried
    assert {(name, "api") for name in ENDPOINTS} <= tried


def test_endpoints_refuse_them_by_every_way_in(server, visitor, photo):
    (own,) = visitor.upload(photo)
    bad = hostile(server, photo, own)
    for name in ENDPOINTS:
        for what in ("without meta", "a device", "a link there", "the folder of all uploads"):
            data = visitor.values(visitor.event(name))
            data[0] = [bad[what]] if name == "batch" else bad[what]
            how, said = visitor.call(name, *data)
            assert (how, said["error"]) == ("error", UNKNOWN), (name, what)
            ran = requests.post(f"{visitor.api}/run/{name}", json={"data": data}, timeout=60)
            assert ran.status_code == 500
            assert ran.json()["error"] == UNKNOWN


def test_an_upload_is_taken_with_and_without_meta_and_from_the_visitor_that_knows_its_path(visitor, photo):
    (own,) = visitor.upload(photo)
    with_meta, without = (
        visitor.call("caption", given, 3, 1, "", "", "tiny")
        for given in (own, {"path": own["path"], "orig_name": "photo.png"})
    )
    assert with_meta == without
    assert with_meta[1][0]["image"] == "photo.png"


def test_an_upload_that_became_something_else_is_refused(server, visitor, photo, tmp_path):
    for make in (lambda path: path.symlink_to(photo), os.mkfifo, lambda path: path.mkdir()):
        other = tmp_path / f"{len(list(tmp_path.iterdir()))}.png"
        Image.new("RGB", (9, 9), (len(list(tmp_path.iterdir())), 0, 0)).save(other)
        (own,) = visitor.upload(other)
        path = Path(own["path"])
        path.unlink()
        make(path)
        assert visitor.call("caption", own, 3, 1, "", "", "tiny")[1]["error"] == UNKNOWN
        path.rmdir() if path.is_dir() else path.unlink()


def test_the_page_s_photo_event_captions_an_upload_and_nothing_else(visitor, photo):
    event = visitor.event("on_photo")
    (own,) = visitor.upload(photo)
    data = visitor.values(event)
    data[visitor.kinds(event).index("image")] = own
    answer = visitor.ask(event, data)
    assert answer["success"]
    assert '"headers": ["Caption"' in json.dumps(answer["output"]["data"])


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("a.jpg", "image is “a.jpg”: give an uploaded file"),
        ("data:image/jpeg;base64,AAAA", "image is “data:"),
        (None, "image is missing"),
        (7, "image is 7"),
        (True, "image is True"),
        ([], "image is a list"),
        ({}, "image is an object"),
        ({"url": "data:image/jpeg;base64,AAAA"}, "not among those uploaded"),
        ("x" * (MAX_TEXT + 1), "4,001 characters, where 4,000 are allowed"),
    ],
)
def test_a_wrong_file_is_answered_with_a_reason(visitor, value, reason):
    how, said = visitor.call("caption", value, 3, 1, "", "", "tiny")
    assert how == "error"
    assert reason in said["error"]


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        (1, "x", "beam_size is “x”: give a whole number"),
        (1, 10**30, "beam_size is 1"),
        (1, 1e99, "beam_size is 1e+99"),
        (2, None, "num_return is missing"),
        (3, ["a"], "prefix is a list: give text"),
        (3, "a-." * 4000, "12,000 characters"),
        (4, {}, "banned is an object"),
        (5, None, "model is missing: give text"),
        (5, "<b>x</b>" * 400, "There is no captioner '<b>x</b>"),
        (5, "\udce9", "There is no captioner '\ufffd'"),
    ],
)
def test_a_wrong_argument_is_answered_with_a_reason(visitor, photo, place, value, reason):
    data = [*visitor.upload(photo), 3, 1, "", "", "tiny"]
    data[place] = value
    how, said = visitor.call("caption", *data)
    assert how == "error"
    assert reason in said["error"]
    assert len(said["error"]) < 700


def test_too_few_values_and_values_without_end_are_a_sentence(visitor, photo):
    event = visitor.event("on_photo")
    assert "are needed" in sentence(visitor.ask(event, []))
    deep: Any = []
    for _ in range(200):
        deep = [deep]
    assert "too deep" in sentence(visitor.ask(event, [deep] * len(event["inputs"])))
    answer = requests.post(f"{visitor.api}/call/caption", data="[" * 100_000, timeout=60)
    assert answer.status_code in (400, 422)


@pytest.mark.parametrize("value", [10**9, "x", None, True, [1], {"a": 1}, -1, 1e300])
def test_settings_of_the_page_have_the_values_that_it_offers(visitor, photo, value):
    event = visitor.event("on_photo")
    (own,) = visitor.upload(photo)
    for place, kind in enumerate(visitor.kinds(event)):
        if kind in ("slider", "checkbox", "number") and not (kind == "checkbox" and value is True):
            data = visitor.values(event)
            data[visitor.kinds(event).index("image")] = own
            data[place] = value
            answer = visitor.ask(event, data)
            if kind != "number" or not isinstance(value, int | float) or value is True:  # any seed will do
                assert "cannot be" in sentence(answer)


@pytest.mark.parametrize("index", [-1, 10**9, "x", None, [], [10**9, 0], {"path": "/dev/zero"}])
def test_places_that_were_never_shown_cannot_be_clicked(visitor, photo, index):
    event = visitor.event("on_photo")
    data = visitor.values(event)
    data[visitor.kinds(event).index("image")] = visitor.upload(photo)[0]
    assert visitor.ask(event, data)["success"]
    event = visitor.event("on_caption")
    assert sentence(visitor.ask(event, visitor.values(event), {"index": index, "value": "x"}))


def test_nothing_that_a_visitor_wrote_is_html_in_a_message(visitor, photo):
    event = visitor.event("on_photo")
    data = visitor.values(event)
    data[visitor.kinds(event).index("image")] = visitor.upload(photo)[0]
    data[visitor.kinds(event).index("dropdown")] = "<img src=x onerror=alert(1)>"
    assert "<img" not in sentence(visitor.ask(event, data))


def test_names_that_cannot_be_shown_are_shown_with_marks(visitor, photo):
    event = visitor.event("on_photo")
    (own,) = visitor.upload(photo)
    data = visitor.values(event)
    data[visitor.kinds(event).index("image")] = own | {"orig_name": "\udce9<b>.png"}
    assert visitor.ask(event, data)["success"]
    share = visitor.event("on_share")
    answer = visitor.ask(share, visitor.values(share))
    assert answer["success"]
    assert "\ufffd" in json.dumps(answer["output"]["data"], ensure_ascii=False)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/gradio_api/file=http://example.com/"),
        ("GET", "/gradio_api/file=HTTPS://example.com/"),
        ("GET", "/gradio_api/proxy=http://example.com/"),
        ("GET", "/gradio_api/deep_link?session_hash=x"),
        ("GET", "/monitoring/summary"),
        ("POST", "/gradio_api/component_server"),
        ("POST", "/gradio_api/process_recording"),
        ("POST", "/gradio_api/stream/x"),
        ("POST", "/gradio_api/vibe-edit/"),
        ("POST", "/login"),
        ("PUT", "/gradio_api/upload"),
    ],
)
def test_what_the_page_does_not_need_is_not_reached(server, method, path):
    assert requests.request(method, f"http://{server.address}{path}", timeout=60).status_code in (403, 404)


@pytest.mark.parametrize("path", ["/etc/hostname", "/proc/self/environ", "/dev/zero"])
def test_files_of_the_server_are_not_handed_out(server, path):
    answer = requests.get(f"http://{server.address}/gradio_api/file={path}", timeout=60)
    assert answer.status_code == 403


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("path", ["queue/join", "call/caption", "run/caption", "cancel"])
def test_requests_have_a_size(server, path, chunked):
    body = b'{"data": ["' + b"x" * 3_000_000 + b'"]}'
    sent = (body[at : at + 100_000] for at in range(0, len(body), 100_000)) if chunked else body
    answer = requests.post(
        f"http://{server.address}/gradio_api/{path}",
        data=sent,
        headers={"Content-Type": "application/json"},
        timeout=60,
    )
    assert answer.status_code in (400, 413)


def test_slow_addresses_keep_nobody_out(server, photo):
    """The page does not connect to this machine, so the slow server is one that does not answer at all."""
    visitors = [Visitor(server.address) for _ in range(4)]
    slow = "http://198.51.100.1/photo.jpg"  # of documentation, RFC 5737: refused, or never answered
    link = visitors[0].event("on_link")
    threads = [
        Thread(target=visitor.ask, args=(link, [slow for _ in link["inputs"]])) for visitor in visitors[1:]
    ]
    for thread in threads:
        thread.start()
    started = time.monotonic()
    (own,) = visitors[0].upload(photo)
    assert visitors[0].call("caption", own, 3, 1, "", "", "tiny")[0] == "complete"
    assert time.monotonic() - started < 60
    for thread in threads:
        thread.join()
