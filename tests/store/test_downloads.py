"""Downloads through a real server that breaks off, changes its mind, and sends everything but the file."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from local_server import Exchange, LocalServer, certificate_of, local_server

from captionbot.errors import CaptionBotError
from captionbot.store import downloads
from captionbot.store.downloads import download_file, recorded_sha256

# The same in every process, as tests that run side by side must have the same names.
DATA, OTHER = (b"\x80" + random.Random(seed).randbytes(400_000) for seed in (1, 2))
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with local_server() as running:
        yield running


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "model" / "model.pth"


class Shelf:
    """A file on a server that honours Range and If-Range, as told.

    breaks: after how many bytes each answer breaks off, one after the other; whole ones follow.
    """

    def __init__(self, data: bytes = DATA, breaks: tuple[int, ...] = (), ranges: bool = True, **headers: str):
        self.data = data
        self.breaks = list(breaks)
        self.ranges = ranges
        self.headers = headers or {"ETag": '"v1"'}

    def __call__(self, exchange: Exchange) -> None:
        wanted = exchange.headers["Range"]
        known = exchange.headers["If-Range"] in self.headers.values()
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and known and self.ranges else 0
        headers, status = dict(self.headers), 200
        if start >= len(self.data):
            exchange.answer(status=416, Content_Range=f"bytes */{len(self.data)}", **headers)
            return
        if start:
            status, headers["Content_Range"] = 206, f"bytes {start}-{len(self.data) - 1}/{len(self.data)}"
        end = self.breaks.pop(0) if self.breaks else len(self.data)
        exchange.answer(self.data[start:end], status, length=len(self.data) - start, **headers)


def ranges_of(server: LocalServer) -> list[str | None]:
    return [headers["Range"] for _, headers in server.requests]


def refusal(*args: Any, **options: Any) -> str:
    with pytest.raises(CaptionBotError) as caught:
        download_file(*args, **{"delays": (), **options})
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")
    return str(caught.value)


def assert_nothing_kept(target: Path) -> None:
    assert {path.name for path in target.parent.iterdir()} <= {f"{target.name}.lock"}


def assert_whole(target: Path, data: bytes = DATA) -> None:
    assert target.read_bytes() == data
    assert recorded_sha256(target) == hashlib.sha256(data).hexdigest()
    assert not list(target.parent.glob("*.part*"))


# The good path


@pytest.mark.parametrize("size", [None, len(DATA)])
@pytest.mark.parametrize("digest", ["", SHA256[:8], SHA256])
def test_a_file(server: LocalServer, target: Path, size: int | None, digest: str) -> None:
    seen: list[tuple[int, int | None]] = []
    path = download_file(
        server.says("/f", DATA), target, size, digest, lambda done, total: seen.append((done, total))
    )
    assert path == target
    assert_whole(target)
    assert seen == sorted(seen)
    assert seen[0] == (0, len(DATA))
    assert seen[-1] == (len(DATA), len(DATA))
    assert len(seen) > 4


@pytest.mark.parametrize("digest", ["", SHA256[:8], SHA256])
def test_a_good_file_is_used_again_without_the_network(target: Path, digest: str) -> None:
    with local_server() as server:
        url = server.says("/f", DATA)
        download_file(url, target, digest=digest)
    assert download_file(url, target, digest=digest, delays=()) == target


def test_a_file_put_there_by_hand_is_used_where_its_hash_is_published(target: Path) -> None:
    target.parent.mkdir(parents=True)
    target.write_bytes(DATA)
    assert download_file("http://127.0.0.1:9/f", target, digest=SHA256, delays=()) == target
    assert "no connection" in refusal("http://127.0.0.1:9/f", target)


@pytest.mark.parametrize("digest", ["", SHA256])
@pytest.mark.parametrize("damage", [DATA[:-1], DATA[:200] + b"!" + DATA[201:], b"", b"<html>"])
def test_a_file_that_was_damaged_since_is_fetched_anew(
    server: LocalServer, target: Path, digest: str, damage: bytes
) -> None:
    url = server.says("/f", DATA)
    download_file(url, target, digest=digest)
    target.write_bytes(damage)
    download_file(url, target, digest=digest)
    assert_whole(target)
    assert len(server.requests) == 2


def test_redirects_are_followed(server: LocalServer, target: Path) -> None:
    server.says("/f", DATA)
    download_file(server.says("/short", status=302, Location="/f"), target)
    assert_whole(target)


def test_chunks_have_an_end_of_their_own(server: LocalServer, target: Path) -> None:
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(DATA), DATA)
    download_file(server.says("/f", body, length=None, Transfer_Encoding="chunked"), target)
    assert_whole(target)


# Breaks


def test_a_break_is_resumed_where_it_happened(server: LocalServer, target: Path) -> None:
    server.answers["/f"] = Shelf(breaks=(150_000, 310_000))
    download_file(server.url("/f"), target, delays=(0, 0))
    assert_whole(target)
    first, second, third = ranges_of(server)
    assert first is None
    assert 80_000 < int(second[6:-1]) <= 150_000 < int(third[6:-1]) <= 310_000
    assert server.requests[1][1]["If-Range"] == '"v1"'


@pytest.mark.parametrize("headers", [{"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}, {"ETag": '"v1"'}])
def test_the_next_call_resumes_too(server: LocalServer, target: Path, headers: dict[str, str]) -> None:
    server.answers["/f"] = Shelf(breaks=(200_000,), **headers)
    assert "broke off" in refusal(server.url("/f"), target)
    assert not target.exists()
    download_file(server.url("/f"), target)
    assert_whole(target)
    assert ranges_of(server)[1] is not None
    assert server.requests[1][1]["If-Range"] in headers.values()


def test_an_interrupted_program_leaves_no_file_and_resumes(server: LocalServer, target: Path) -> None:
    def interrupt(done: int, total: int | None) -> None:
        if done > 100_000:
            raise KeyboardInterrupt

    server.answers["/f"] = Shelf()
    with pytest.raises(KeyboardInterrupt):
        download_file(server.url("/f"), target, progress=interrupt)
    assert not target.exists()
    download_file(server.url("/f"), target)
    assert_whole(target)
    assert ranges_of(server)[1] is not None


@pytest.mark.parametrize("headers", [{"ETag": 'W/"weak"'}, {"X-None": "at all"}])
def test_without_a_name_for_the_version_all_begins_again(
    server: LocalServer, target: Path, headers: dict[str, str]
) -> None:
    server.answers["/f"] = Shelf(breaks=(200_000,), **headers)
    download_file(server.url("/f"), target, delays=(0,))
    assert_whole(target)
    assert ranges_of(server) == [None, None]


def test_a_server_that_ignores_range(server: LocalServer, target: Path) -> None:
    server.answers["/f"] = Shelf(breaks=(200_000,), ranges=False)
    download_file(server.url("/f"), target, delays=(0,))
    assert_whole(target)
    assert ranges_of(server)[1] is not None


def test_a_file_that_changed_at_the_server_begins_again(server: LocalServer, target: Path) -> None:
    server.answers["/f"] = Shelf(breaks=(200_000,))
    refusal(server.url("/f"), target)
    server.answers["/f"] = Shelf(OTHER, ETag='"v2"')
    download_file(server.url("/f"), target)
    assert_whole(target, OTHER)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(
            {"status": 206, "ETag": '"v2"', "Content_Range": "bytes {have}-{end}/{all}"}, id="other tag"
        ),
        pytest.param(
            {"status": 206, "ETag": '"v1"', "Content_Range": "bytes 7-{end}/{all}"}, id="other start"
        ),
        pytest.param({"status": 206, "ETag": '"v1"'}, id="no Content-Range"),
        pytest.param({"status": 416, "Content_Range": "bytes */17"}, id="shorter now"),
        pytest.param({"status": 416}, id="416 without reason"),
        pytest.param({"status": 416, "ETag": '"v2"', "Content_Range": "bytes */{have}"}, id="416 of other"),
    ],
)
def test_ranges_that_do_not_fit_are_not_added(
    server: LocalServer, target: Path, answer: dict[str, Any]
) -> None:
    server.answers["/f"] = Shelf(breaks=(200_000,))
    refusal(server.url("/f"), target)
    have = target.with_name("model.pth.part").stat().st_size

    def misfit(exchange: Exchange) -> None:
        server.answers["/f"] = Shelf(OTHER, ETag='"v2"')
        places = {"have": have, "end": len(OTHER) - 1, "all": len(OTHER)}
        exchange.answer(
            OTHER[have:], **{k: v.format(**places) if k != "status" else v for k, v in answer.items()}
        )

    server.answers["/f"] = misfit
    download_file(server.url("/f"), target, delays=(0,))
    assert_whole(target, OTHER)
    assert ranges_of(server)[1:] == [f"bytes={have}-", None]


def test_a_part_that_was_complete_needs_no_more_bytes(server: LocalServer, target: Path) -> None:
    """The program ended between the last byte and the renaming."""
    target.parent.mkdir(parents=True)
    target.with_name("model.pth.part").write_bytes(DATA)
    notes = {"url": server.url("/f"), "version": '"v1"'}
    target.with_name("model.pth.part.json").write_text(json.dumps(notes))
    server.answers["/f"] = Shelf()
    download_file(server.url("/f"), target, digest=SHA256)
    assert_whole(target)
    assert ranges_of(server) == [f"bytes={len(DATA)}-"]


@pytest.mark.parametrize(
    "notes",
    [
        *["", "{", "[]", "[" * 100_000, '{"url": "http://elsewhere/", "version": "v1"}'],
        *[
            f'{{"url": "URL", "version": {said}}}'
            for said in ("7", '["v"]', '"a\\nb"', '"\\u2713"', '" v"', "null")
        ],
    ],
)
def test_a_part_of_unknown_origin_is_not_used(server: LocalServer, target: Path, notes: str) -> None:
    """Nor is one whose notes are damaged, in whatever way: it would be in the way for ever."""
    target.parent.mkdir(parents=True)
    target.with_name("model.pth.part").write_bytes(OTHER[:1000])
    target.with_name("model.pth.part.json").write_text(notes.replace("URL", server.url("/f")))
    server.answers["/f"] = Shelf()
    download_file(server.url("/f"), target)
    assert_whole(target)


# Answers that are not the file


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_server_in_trouble_is_asked_again(server: LocalServer, target: Path, status: int) -> None:
    def trouble(exchange: Exchange) -> None:
        server.says("/f", DATA)
        exchange.answer(status=status)

    server.answers["/f"] = trouble
    download_file(server.url("/f"), target, delays=(0,))
    assert_whole(target)


def test_a_server_that_stays_in_trouble(
    server: LocalServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(downloads.time, "sleep", waited.append)
    sentence = refusal(server.says("/f", status=503), target, delays=(1, 4, 10))
    assert "the server answered 503 Service Unavailable" in sentence
    assert waited == [1, 4, 10]
    assert len(server.requests) == 4
    assert_nothing_kept(target)


@pytest.mark.parametrize("status", [204, 206, 400, 401, 403, 404, 410, 416])
def test_an_answer_that_stays_as_it_is(server: LocalServer, target: Path, status: int) -> None:
    assert f"answered {status}" in refusal(server.says("/f", status=status), target, delays=(0, 0))
    assert len(server.requests) == 1
    assert_nothing_kept(target)


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 302, "Location": "http://["},
        {"status": 302, "Location": "http://a..b/"},
        {"status": 302, "Location": "http://\xff/"},
        {"length": "\xb2"},
        {"length": "9" * 5000},
        {"length": None, "Transfer_Encoding": "chunked", "body": b"-5\r\nab"},
    ],
    ids=["bracket", "dots", "bytes", "digit", "digits", "chunk"],
)
def test_an_answer_that_is_no_http(server: LocalServer, target: Path, answer: dict[str, Any]) -> None:
    sentence = refusal(server.says("/f", **answer), target, delays=(0,))
    assert "could not be downloaded from http://127.0.0.1" in sentence
    assert not target.exists()


@pytest.mark.parametrize("url", ["http://[", "model.pth", "file:///etc/hosts"])
def test_what_is_no_address(target: Path, url: str) -> None:
    assert f"could not be downloaded from {url} (no address" in refusal(url, target)


def test_names_that_cannot_be_and_records_that_are_damaged(server: LocalServer, target: Path) -> None:
    server.answers["/f"] = Shelf()
    assert "cannot be written to" in refusal(server.url("/f"), target.with_name("x" * 300))
    download_file(server.url("/f"), target)
    target.with_name(f"{target.name}.sha256").write_bytes(b"\xff\xfe")
    assert_whole(download_file(server.url("/f"), target))


@pytest.mark.parametrize(
    "answer",
    [
        {"body": b"anything", "kind": "text/html; charset=utf-8"},
        {"body": b"anything", "kind": "Text/HTML"},
        {"body": b"<!DOCTYPE html><title>Virus scan warning</title>"},
        {"body": b"\n\n  <html><body>Too many downloads"},
        {"body": b'<?xml version="1.0"?><Error/>'},
    ],
)
@pytest.mark.parametrize("digest", ["", SHA256])
def test_a_page_is_not_taken_for_the_file(
    server: LocalServer, target: Path, answer: dict[str, Any], digest: str
) -> None:
    sentence = refusal(server.says("/f", **answer), target, digest=digest, delays=(0, 0))
    assert "sent a web page instead of model.pth" in sentence
    assert len(server.requests) == 1
    assert_nothing_kept(target)


def test_a_page_in_the_middle_of_a_resumed_download(server: LocalServer, target: Path) -> None:
    server.answers["/f"] = Shelf(breaks=(200_000,))
    refusal(server.url("/f"), target)
    server.says("/f", b"<html>", kind="text/html")
    assert "sent a web page" in refusal(server.url("/f"), target)
    assert_nothing_kept(target)


@pytest.mark.parametrize("digest", ["0" * 64, "0" * 8, SHA256[:7] + "x"])
def test_a_wrong_hash(server: LocalServer, target: Path, digest: str) -> None:
    sentence = refusal(server.says("/f", DATA), target, digest=digest)
    assert SHA256 in sentence
    assert digest in sentence
    assert_nothing_kept(target)


def test_a_good_file_outlives_a_bad_replacement(server: LocalServer, target: Path) -> None:
    target.parent.mkdir(parents=True)
    target.write_bytes(DATA)
    refusal(server.says("/f", OTHER), target, digest="0" * 64)
    assert target.read_bytes() == DATA


@pytest.mark.parametrize("size", [len(DATA) - 1, len(DATA) + 1, 1])
@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_a_wrong_size(server: LocalServer, target: Path, size: int, framing: str) -> None:
    if framing == "length":
        url = server.says("/f", DATA)
    else:
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(DATA), DATA)
        url = server.says("/f", body, length=None, Transfer_Encoding="chunked")
    sentence = refusal(url, target, size=size)
    assert "bytes where" in sentence or "broke off" in sentence
    assert not target.exists()


@pytest.mark.parametrize("announced", [len(DATA) + 1, 10 * len(DATA)])
def test_a_body_shorter_than_announced(server: LocalServer, target: Path, announced: int) -> None:
    sentence = refusal(server.says("/f", DATA, length=announced), target, delays=(0,))
    assert "broke off" in sentence
    assert not target.exists()
    assert len(server.requests) == 2


def test_an_empty_body(server: LocalServer, target: Path) -> None:
    assert "broke off after 0 bytes" in refusal(server.says("/f"), target)
    assert not target.exists()


def test_a_body_of_unknown_length_could_be_a_part(server: LocalServer, target: Path) -> None:
    url = server.says("/f", DATA, length=None)
    assert "does not say how long model.pth is" in refusal(url, target)
    assert not target.exists()
    download_file(url, target, digest=SHA256[:8])  # what it should hold is known, so its end is too
    assert_whole(target)


def test_chunks_that_break_off(server: LocalServer, target: Path) -> None:
    body = b"%x\r\n%s" % (len(DATA), DATA[:200_000])
    url = server.says("/f", body, length=None, Transfer_Encoding="chunked")
    assert "the connection broke off" in refusal(url, target)
    assert not target.exists()


def send_without_end(exchange: Exchange) -> None:
    exchange.answer(length=None, Transfer_Encoding="chunked")
    for _ in range(10_000):
        exchange.wfile.write(b"186a0\r\n" + bytes(100_000) + b"\r\n")


@pytest.mark.parametrize("size", [None, 1_000_000])
def test_a_body_without_end_does_not_fill_the_disk(
    server: LocalServer, target: Path, size: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "MAX_BYTES", 2_000_000)
    server.answers["/f"] = send_without_end
    assert "bytes where" in refusal(server.url("/f"), target, size=size)
    assert_nothing_kept(target)


def test_compressed_answers_are_refused(server: LocalServer, target: Path) -> None:
    url = server.says("/f", b"\x1f\x8b", Content_Encoding="gzip")
    assert "sends model.pth compressed" in refusal(url, target)
    assert server.requests[0][1]["Accept-Encoding"] == "identity"


def test_a_stalling_server(server: LocalServer, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stall(exchange: Exchange) -> None:
        exchange.answer(DATA[:200_000], length=len(DATA), ETag='"v1"')
        server.answers["/f"] = Shelf()
        server.closing.wait(20)

    monkeypatch.setattr(downloads, "_TIMEOUT", (5.0, 0.3))
    server.answers["/f"] = stall
    download_file(server.url("/f"), target, delays=(0,))
    assert_whole(target)


def test_no_network(target: Path) -> None:
    with local_server() as server:
        url = server.url("/f")
    sentence = refusal(url, target, delays=(0, 0))
    assert re.match(
        r"model\.pth could not be downloaded from http://127\.0\.0\.1:\d+/\S+ \(no connection\)", sentence
    )


def test_encryption_cannot_be_dropped_on_the_way(
    server: LocalServer, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = certificate_of("localhost", tmp_path)
    with local_server() as safe:
        safe.encrypt(certificate)
        safe.says("/f", DATA)
        safe.says("/away", status=302, Location=server.says("/f", DATA))
        assert "certificate is not valid" in refusal(safe.url("/f", "localhost", "https"), target)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        assert "an address without encryption" in refusal(safe.url("/away", "localhost", "https"), target)
        assert_nothing_kept(target)
        download_file(safe.url("/f", "localhost", "https"), target)
    assert_whole(target)


# The disk


def test_too_little_room_is_seen_before(
    server: LocalServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=len(DATA) - 1))
    sentence = refusal(server.says("/f", DATA), target, delays=(0, 0))
    assert "has no room for model.pth (0.4 MB more are needed)" in sentence
    assert len(server.requests) == 1
    assert not target.exists()


def test_a_disk_that_fills_up(server: LocalServer, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert "has no room for model.pth (No space left on device)" in refusal(server.says("/f", DATA), target)
    assert_nothing_kept(target)


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on the size of files")
def test_a_system_that_takes_no_more_bytes(server: LocalServer, target: Path) -> None:
    """A limit of the system on one process, so that a real write fails in the midst of a file."""
    code = """
        import resource, sys
        from pathlib import Path
        from captionbot.store.downloads import download_file
        from captionbot.errors import CaptionBotError
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            download_file(sys.argv[1], Path(sys.argv[2]))
        except CaptionBotError as error:
            print(error)
    """
    result = run(code, server.says("/f", DATA), str(target))
    assert "has no room for model.pth (File too large)" in result
    assert_nothing_kept(target)


def run(code: str, *args: str) -> str:
    command = [sys.executable, "-c", textwrap.dedent(code), *args]
    root = Path(__file__).parents[2]
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout


def test_a_folder_that_cannot_be(server: LocalServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    sentence = refusal(server.says("/f", DATA), tmp_path / "file" / "model.pth")
    assert "cannot be written to" in sentence
    assert "CAPTIONBOT_CACHE" in sentence
    assert server.requests == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(server: LocalServer, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert "cannot be written to" in refusal(server.says("/f", DATA), tmp_path / "model.pth")


# Several at a time


def in_threads(work: Callable[[], object], count: int) -> None:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_threads_download_a_file_once(server: LocalServer, target: Path) -> None:
    url, paths = server.says("/f", DATA), []
    in_threads(lambda: paths.append(download_file(url, target)), 6)
    assert paths == [target] * 6
    assert len(server.requests) == 1
    assert_whole(target)


def test_processes_download_a_file_once(server: LocalServer, target: Path) -> None:
    code = """
        import sys
        from pathlib import Path
        from captionbot.store.downloads import download_file
        print(len(download_file(sys.argv[1], Path(sys.argv[2])).read_bytes()))
    """
    url, sizes = server.says("/f", DATA), []
    in_threads(lambda: sizes.append(run(code, url, str(target))), 3)
    assert sizes == [f"{len(DATA)}\n"] * 3
    assert len(server.requests) == 1
    assert_whole(target)
