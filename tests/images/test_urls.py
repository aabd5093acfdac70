"""What may be loaded from an address, against a real server that misbehaves."""

from __future__ import annotations

import gzip
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Any

import pytest
from local_server import Exchange, LocalServer, certificate_of, local_server

from captionbot.errors import CaptionBotError
from captionbot.images import urls
from captionbot.images.urls import MAX_REDIRECTS, Address, fetch, is_public

BODY = b"\x89PNG not looked into here" * 100


def anywhere(address: Address) -> bool:
    return True


def first_hop_only() -> Callable[[Address], bool]:
    """Lets the test's own server be reached once, and leaves all further hops to the real rule."""
    hops = iter([True])
    return lambda address: next(hops, False) or is_public(address)


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with local_server() as running:
        yield running


def refusal(url: str, **options: Any) -> str:
    with pytest.raises(CaptionBotError) as caught:
        fetch(url, **options)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")
    return str(caught.value)


# Which addresses are public


@pytest.mark.parametrize(
    "address",
    [
        *["127.0.0.1", "127.255.0.9", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "192.168.1.1"],
        *[
            "169.254.169.254",
            "169.254.170.2",
            "100.64.0.1",
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
        ],
        *["224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "198.18.0.1", "203.0.113.5"],
        *["192.88.99.1", "192.0.2.1", "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:8.8.8.8"],
        *["::ffff:0:127.0.0.1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1"],
        *["64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b:1::8.8.8.8", "2002:7f00:1::", "2001:0:1::1"],
        *["2001:db8::1", "3fff::1", "100::1", "5f00::1", "4000::1"],
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "93.184.216.34", "151.101.0.1", "2606:2800:220:1::1", "2a00:1450::1", "64:ff9b::8.8.8.8"],
)
def test_addresses_that_are_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "host",
    [
        *[
            "127.0.0.1",
            "localhost",
            "LOCALHOST",
            "localhost.",
            "0.0.0.0",
            "0",
            "127.1",
            "2130706433",
            "0x7f000001",
        ],
        *[
            "0x7f.0.0.1",
            "0177.0.0.1",
            "017700000001",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
        ],
        *["127.0.0.1.", "someone@127.0.0.1", "93.184.216.34@127.0.0.1", "a:b@localhost"],
        *["127。0。0。1", "１２７.0.0.1", "%6c%6f%63%61lhost", "127.0.0.1%00.example.com"],
        *[
            "169.254.169.254",
            "[fd00:ec2::254]",
            "[fe80::1]",
            "10.0.0.1",
            "[64:ff9b::7f00:1]",
            "[2002:7f00:1::]",
        ],
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https", "HTTP"])
def test_no_spelling_leads_to_a_private_address(server: LocalServer, host: str, scheme: str) -> None:
    server.says("/secret", BODY)
    sentence = refusal(server.url("/secret", host, scheme))
    assert "not on the public internet" in sentence or "could not be loaded" in sentence
    assert server.requests == []


def answer_of(*addresses: str, port: int = 80) -> list[Any]:
    """What getaddrinfo says of a name that has these addresses."""
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]


def test_a_name_with_one_private_address_is_refused_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer_of("93.184.216.34", "127.0.0.1"))
    monkeypatch.setattr(socket, "socket", lambda *_: pytest.fail("something was connected to"))
    assert "photos.test is not on the public internet" in refusal("http://photos.test/")


def test_the_checked_address_is_the_one_connected_to(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: a name is looked up once, whatever it would answer the next time."""
    server.says("/a.png", BODY)
    answers = iter([answer_of("127.0.0.1", port=server.server_port)])
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: next(answers))
    checked: list[Address] = []
    body = fetch(server.url("/a.png", "photos.test"), allow=lambda address: not checked.append(address))
    assert body == BODY
    assert checked == [IPv4Address("127.0.0.1")]
    assert server.requests[0][1]["Host"] == f"photos.test:{server.server_port}"


def test_an_address_that_does_not_answer_leaves_the_next(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.says("/a.png", BODY)
    dead = socket.create_server(("127.0.0.1", 0))
    dead_port = dead.getsockname()[1]
    dead.close()
    found = answer_of("127.0.0.1", port=dead_port) + answer_of("127.0.0.1", port=server.server_port)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    assert fetch("http://photos.test/a.png", allow=anywhere) == BODY


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
def test_proxies_of_the_environment_play_no_part(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, server.url("/"))
    assert "not on the public internet" in refusal("http://10.0.0.1/")
    assert server.requests == []
    assert fetch(server.says("/a.png", BODY), allow=anywhere) == BODY


# Redirects


@pytest.mark.parametrize(
    "location",
    [
        *["http://127.0.0.1:{port}/secret", "http://localhost:{port}/secret", "//127.0.0.1:{port}/secret"],
        *["/secret", "http://0.0.0.0:{port}/secret", "http://[::ffff:127.0.0.1]:{port}/secret"],
        *["http://2130706433:{port}/secret", "http://169.254.169.254/latest/meta-data/", "http://[::1]/"],
        *["https://127.0.0.1:{port}/secret", "file:///etc/passwd", "ftp://127.0.0.1/", "gopher://127.0.0.1/"],
        *["data:image/png;base64,AAAA", "http://[", "http://", "http://127.0.0.1:port/"],
    ],
)
def test_redirects_to_where_nothing_may_be_loaded(server: LocalServer, location: str) -> None:
    server.says("/secret", BODY)
    url = server.says("/start", status=302, Location=location.format(port=server.server_port))
    refusal(url, allow=first_hop_only())
    assert [path for path, _ in server.requests] == ["/start"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", ["/a.png", "a.png", "//127.0.0.1:{port}/a.png", "/b/../a.png"])
def test_redirects_are_followed(server: LocalServer, status: int, location: str) -> None:
    server.says("/a.png", BODY)
    url = server.says("/start", status=status, Location=location.format(port=server.server_port))
    assert fetch(url, allow=anywhere) == BODY


def test_every_hop_is_checked(server: LocalServer) -> None:
    server.says("/a.png", BODY)
    checked: list[Address] = []
    url = server.says("/start", status=302, Location="/a.png")
    fetch(url, allow=lambda address: not checked.append(address))
    assert len(checked) == 2


@pytest.mark.parametrize(("hops", "ends"), [(MAX_REDIRECTS, True), (MAX_REDIRECTS + 1, False)])
def test_number_of_redirects(server: LocalServer, hops: int, ends: bool) -> None:
    for hop in range(hops):
        server.says(f"/{hop}", status=302, Location=f"/{hop + 1}")
    server.says(f"/{hops}", BODY)
    if ends:
        assert fetch(server.url("/0"), allow=anywhere) == BODY
    else:
        assert "redirects more than 5 times" in refusal(server.url("/0"), allow=anywhere)


def test_a_redirect_in_a_circle(server: LocalServer) -> None:
    url = server.says("/loop", status=302, Location="/loop")
    assert "redirects more than 5 times" in refusal(url, allow=anywhere)
    assert len(server.requests) == MAX_REDIRECTS + 1


# Time


def drip_headers(server: LocalServer, exchange: Exchange) -> None:
    server.drip(exchange, b"HTTP/1.1 200 OK\r\n" + b"X-Slow: and steady\r\n" * 100)


def drip_body(server: LocalServer, exchange: Exchange) -> None:
    exchange.answer(kind="image/png", length=2000)
    server.drip(exchange, bytes(2000))


def drip_chunks(server: LocalServer, exchange: Exchange) -> None:
    exchange.answer(kind="image/png", length=None, Transfer_Encoding="chunked")
    server.drip(exchange, b"1\r\n\0\r\n" * 400)


def drip_for_ever(server: LocalServer, exchange: Exchange) -> None:
    exchange.answer(kind="image/png", length=None)
    server.drip(exchange, bytes(2000))


def say_nothing(server: LocalServer, exchange: Exchange) -> None:
    server.closing.wait(20)


def stall(server: LocalServer, exchange: Exchange) -> None:
    exchange.answer(b"\x89PNG", kind="image/png", length=2000)
    server.closing.wait(20)


@pytest.mark.parametrize("slow", [drip_headers, drip_body, drip_chunks, drip_for_ever, say_nothing, stall])
def test_slow_servers_cannot_hold_us(server: LocalServer, slow: Callable[..., None]) -> None:
    server.answers["/slow"] = partial(slow, server)
    assert "took more than 0.3 seconds" in refusal(server.url("/slow"), timeout=0.3, allow=anywhere)


def test_redirects_share_one_time_limit(server: LocalServer) -> None:
    def slow_loop(exchange: Exchange) -> None:
        server.closing.wait(0.15)
        exchange.answer(status=302, Location="/loop")

    server.answers["/loop"] = slow_loop
    assert "took more than 0.3 seconds" in refusal(server.url("/loop"), timeout=0.3, allow=anywhere)
    assert len(server.requests) <= 3


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_server_that_takes_the_connection_and_no_more(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/"
        assert "took more than 0.3 seconds" in refusal(url, timeout=0.3, allow=anywhere)


def test_names_that_are_never_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    done = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: done.wait(20) and [])
    assert "took more than 0.2 seconds" in refusal("http://slow.test/", timeout=0.2)
    done.set()


# Size and kind


@pytest.mark.parametrize("length", ["true", None])
def test_the_size_limit_is_the_largest_size(server: LocalServer, length: str | None) -> None:
    url = server.says("/a.png", bytes(1000), length=length)
    assert fetch(url, max_bytes=1000, allow=anywhere) == bytes(1000)
    assert "larger than 0.000999 MB" in refusal(url, max_bytes=999, allow=anywhere)


def send_without_end(exchange: Exchange) -> None:
    exchange.answer(kind="image/png", length=None)
    for _ in range(10_000):
        exchange.wfile.write(bytes(100_000))


def send_chunks_without_end(exchange: Exchange) -> None:
    exchange.answer(kind="image/png", length=None, Transfer_Encoding="chunked")
    for _ in range(10_000):
        exchange.wfile.write(b"186a0\r\n" + bytes(100_000) + b"\r\n")


@pytest.mark.parametrize("endless", [send_without_end, send_chunks_without_end])
def test_a_body_without_end(server: LocalServer, endless: Callable[[Exchange], None]) -> None:
    server.answers["/endless"] = endless
    assert "larger than 1 MB" in refusal(server.url("/endless"), max_bytes=1_000_000, allow=anywhere)


def test_an_announced_size_is_refused_unread(server: LocalServer) -> None:
    url = server.says("/large", b"", length=10**12)
    assert "larger than 20 MB" in refusal(url, allow=anywhere)


@pytest.mark.parametrize(
    "coding", ["", "identity", "UTF-8", "aws-chunked", "binary", "none", "gzip", "deflate"]
)
def test_codings_that_pack_nothing(server: LocalServer, coding: str) -> None:
    """Stores of objects send these of plain files, and say gzip of what is not packed."""
    assert fetch(server.says("/a.png", BODY, Content_Encoding=coding), allow=anywhere) == BODY
    assert server.requests[0][1]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize(
    ("coding", "packed"),
    [
        ("gzip", gzip.compress(BODY, mtime=0)),
        ("x-gzip", gzip.compress(BODY, mtime=0)),
        ("deflate", zlib.compress(BODY)),
        ("gzip, gzip", gzip.compress(gzip.compress(BODY, mtime=0), mtime=0)),
        ("aws-chunked, gzip", gzip.compress(BODY, mtime=0)),
    ],
)
def test_an_answer_that_is_packed_unasked(server: LocalServer, coding: str, packed: bytes) -> None:
    url = server.says("/a.png", packed, Content_Encoding=coding)
    assert fetch(url, allow=anywhere) == BODY
    half = server.says("/half.png", packed[:-20], Content_Encoding=coding)
    assert "compression is damaged" in refusal(half, allow=anywhere)


def test_a_packed_answer_is_no_larger_than_a_plain_one(server: LocalServer) -> None:
    url = server.says("/bomb", gzip.compress(bytes(5_000_000)), Content_Encoding="gzip")
    assert "larger than 1 MB" in refusal(url, max_bytes=1_000_000, allow=anywhere)


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, br"])
def test_codings_that_are_not_unpacked(server: LocalServer, coding: str) -> None:
    url = server.says("/a", b"\x1f\x8b", Content_Encoding=coding)
    assert "sends its answer compressed" in refusal(url, allow=anywhere)


@pytest.mark.parametrize("kind", ["text/plain", "text/html", "text/plain; charset=utf-8"])
def test_a_photo_that_is_sent_as_text(server: LocalServer, kind: str) -> None:
    assert fetch(server.says("/a.jpg", b"\xff\xd8\xff\xe0\x00\x10JFIF", kind=kind), allow=anywhere)


@pytest.mark.parametrize(
    "make", [lambda: "data:image/png;base64," + "A" * 10**6, lambda: "http://a/" + "b" * 10**6]
)
def test_sentences_repeat_little_of_an_address(make: Callable[[], str]) -> None:
    assert len(refusal(make())) < 400


@pytest.mark.parametrize("kind", ["text/html", "text/html; charset=utf-8", "TEXT/HTML", "text/plain"])
def test_pages_are_no_images(server: LocalServer, kind: str) -> None:
    url = server.says("/page", b"<html></html>", kind=kind)
    assert "is a page or text" in refusal(url, allow=anywhere)


@pytest.mark.parametrize("status", [204, 206, 304, 400, 401, 403, 404, 410, 429, 500, 503])
def test_other_answers(server: LocalServer, status: int) -> None:
    url = server.says("/a.png", status=status)
    assert f"answered {status}" in refusal(url, allow=anywhere)


def test_a_redirect_to_nowhere(server: LocalServer) -> None:
    assert "answered 302" in refusal(server.says("/a.png", status=302), allow=anywhere)


def test_a_body_that_breaks_off(server: LocalServer) -> None:
    url = server.says("/a.png", BODY, length=len(BODY) + 9)
    assert f"broke off after {len(BODY)} of {len(BODY) + 9} bytes" in refusal(url, allow=anywhere)


def test_chunks_that_break_off(server: LocalServer) -> None:
    url = server.says("/a.png", b"ff\r\nhalf", length=None, Transfer_Encoding="chunked")
    assert "an answer that is no HTTP or breaks off" in refusal(url, allow=anywhere)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"hello\r\n\r\n",
        b"HTTP/1.1 2xx Good\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnot a number\r\n",
    ],
)
def test_answers_that_are_not_http(server: LocalServer, raw: bytes) -> None:
    server.answers["/raw"] = lambda exchange: exchange.wfile.write(raw) and None
    sentence = refusal(server.url("/raw"), allow=anywhere)
    assert "could not be loaded" in sentence or "an answer that is no HTTP" in sentence
    assert "hello" not in sentence  # what other services say to strangers is not passed on


# Addresses


@pytest.mark.parametrize(
    "url",
    [
        *[
            "",
            "cat.jpg",
            "ftp://host/cat.jpg",
            "file:///etc/passwd",
            "data:image/png;base64,AA",
            "javascript:1",
        ],
        *[
            "http://",
            "https:///cat.jpg",
            "http://[::1",
            "http://host:port/",
            "http://host:99999/",
            "http:cat.jpg",
        ],
        *["http://a..b/", f"http://{'a' * 64}.test/", "http://.../", "http:\\\\host\\cat.jpg"],
    ],
)
def test_texts_that_are_no_addresses(url: str) -> None:
    assert "is not an address of an image" in refusal(url)


def test_a_name_that_nobody_has(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert "http://nobody.test/ could not be loaded" in refusal("http://nobody.test/")


def test_a_port_where_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert "could not be loaded" in refusal(f"http://127.0.0.1:{port}/", allow=anywhere)


@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        ("/café.png?größe=1", "/caf%C3%A9.png?gr%C3%B6%C3%9Fe=1"),
        ("/a%20b.png?x=%2F", "/a%20b.png?x=%2F"),
        ("/a b.png", "/a%20b.png"),
        ("/a.png#part", "/a.png"),
        ("/a.png\r\nX-Injected: yes", "/a.pngX-Injected:%20yes"),
        ("", "/"),
    ],
)
def test_addresses_as_people_type_them(server: LocalServer, typed: str, asked: str) -> None:
    server.says(asked, BODY)
    assert fetch(f"  {server.url(typed)} ", allow=anywhere) == BODY
    assert server.requests[0][0] == asked
    assert server.requests[0][1]["X-Injected"] is None


# Encryption


def test_certificates_are_checked_for_the_name_that_was_typed(
    server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection goes to a checked number; the certificate must still be that of the name."""
    certificate = certificate_of("photos.test", tmp_path)
    server.encrypt(certificate)
    server.says("/a.png", BODY)
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *_, **__: answer_of("127.0.0.1", port=server.server_port)
    )
    try:
        urls._tls.cache_clear()
        sentence = refusal(server.url("/a.png", "photos.test", "https"), allow=anywhere)
        assert "has no valid certificate" in sentence  # its maker is not trusted yet
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        urls._tls.cache_clear()
        assert fetch(server.url("/a.png", "photos.test", "https"), allow=anywhere) == BODY
        sentence = refusal(server.url("/a.png", "other.test", "https"), allow=anywhere)
        assert "has no valid certificate" in sentence
    finally:
        urls._tls.cache_clear()
