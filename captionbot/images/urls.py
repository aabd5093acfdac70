"""Loads what an address names without lending a stranger the network that this program runs in.

A page that fetches any address for anyone is a door into its host's network (server-side request
forgery). So a name is resolved once, every address it has is checked, and the connection goes to the
very address that was checked: a name that answers differently the next time (DNS rebinding) gains
nothing, and neither do redirects, which come back through the same check. The connection is made
here, so proxies from the environment play no part.
"""

from __future__ import annotations

import http.client
import io
import re
import socket
import ssl
import time
import zlib
from collections.abc import Callable
from concurrent.futures import Future
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from threading import Thread
from typing import Any, NamedTuple
from urllib.parse import quote, urljoin, urlsplit

from captionbot.errors import CaptionBotError, shortened

Address = IPv4Address | IPv6Address

MAX_REDIRECTS = 5
_REDIRECTS = {301, 302, 303, 307, 308}
_PORTS = {"http": 80, "https": 443}
_HEADERS = {
    "User-Agent": "captionbot",
    "Accept": "image/*",
    "Accept-Encoding": "identity",
    "Connection": "close",
}
_ZLIB = {"gzip", "x-gzip", "deflate"}
_NOT_UNPACKED = {"br", "compress", "dcb", "dcz", "x-compress", "zstd"}
_BINARY = re.compile(rb"[\0-\x08\x0b\x0e-\x1a\x1c-\x1f]")  # what text has none of (WHATWG's MIME sniffing)
_QUOTED = "!#$%&'()*+,/:;=?@[]~"  # what an address may hold as it is, so that nothing is quoted twice
_UNICAST = ip_network("2000::/3")  # all of IPv6 that is handed out to the public internet
_NAT64 = ip_network("64:ff9b::/96")  # an IPv4 address in its last 32 bits, RFC 6052
_SPECIAL = [
    ip_network(network)
    for network in (
        "168.63.129.16/32",  # the metadata and platform services of Azure
        "192.0.0.0/24",  # RFC 6890; 192.0.0.192 is the metadata service of Oracle's cloud
        "192.88.99.0/24",  # relays of 6to4, RFC 7526
        "2001::/23",  # RFC 2928, with Teredo, which wraps an IPv4 address
        "2002::/16",  # 6to4, which wraps an IPv4 address
        "3fff::/20",  # documentation, RFC 9637
    )
]


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public internet.

    Private, loopback, link-local, shared, multicast, reserved and unspecified ones do not, nor do
    IPv6 addresses that wrap an IPv4 address, nor the metadata services of clouds.
    """
    if address in _NAT64:
        return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
    if isinstance(address, IPv6Address) and address not in _UNICAST:
        return False
    ordinary = address.is_global and not address.is_multicast and not address.is_reserved
    return ordinary and not any(address in network for network in _SPECIAL)


def fetch(
    url: str,
    timeout: float = 20.0,
    max_bytes: int = 20_000_000,
    allow: Callable[[Address], bool] = is_public,
) -> bytes:
    """The body at an http or https address; up to 5 redirects are followed.

    timeout: seconds for all of it: names, connections, redirects and the body.
    allow: which addresses may be connected to; pages never pass one.
    Raises CaptionBotError for other schemes, addresses that are not allowed, anything but a
    complete answer of at most max_bytes, unpacked, in time, and for text where an image should be.
    """
    deadline = time.monotonic() + timeout
    hop, named = url, shortened(url.strip())
    try:
        for _ in range(MAX_REDIRECTS + 1):
            target = _parse(hop)
            with _connect(target, deadline, allow) as link:
                response = _request(target, link, deadline)
                location = response.headers.get("Location")
                if response.status not in _REDIRECTS or not location:
                    return _body(response, named, max_bytes)
            hop = urljoin(hop, location)
    except TimeoutError as error:
        raise CaptionBotError(
            f"{named} took more than {timeout:g} seconds: try again, or download the image and give the file."
        ) from error
    except ssl.SSLCertVerificationError as error:
        raise CaptionBotError(
            f"{named} has no valid certificate ({shortened(error.verify_message)}): "
            "give an address that can be trusted."
        ) from error
    except OSError as error:
        raise CaptionBotError(
            f"{named} could not be loaded ({shortened(error)}): "
            "check the address and the network, or download the image and give the file."
        ) from error
    except (http.client.HTTPException, ValueError) as error:  # whose texts are the server's: not repeated
        raise CaptionBotError(
            f"{named} sent an answer that is no HTTP or breaks off: download the image and give the file."
        ) from error
    raise CaptionBotError(
        f"{named} redirects more than {MAX_REDIRECTS} times: give the address of the image itself."
    )


class _Target(NamedTuple):
    """One hop's address, taken apart by one parser only, so that no two can disagree about its host."""

    secure: bool
    host: str
    port: int
    netloc: str
    path: str


def _parse(url: str) -> _Target:
    try:
        parts = urlsplit(url.strip())
        host = (parts.hostname or "").encode("idna").decode()
        port = parts.port
    except ValueError:  # an open bracket, a port of letters, a host with an empty or endless label
        host, port = "", None
    if url.lstrip()[:5].lower() == "data:":
        raise CaptionBotError(
            f"{shortened(url.strip(), 40)} is not an address of an image but the image itself: save it as a "
            "file and give that."
        )
    if not host or parts.scheme not in _PORTS:
        raise CaptionBotError(
            f"{shortened(url)} is not an address of an image: give one like https://host/photo.jpg."
        )
    netloc = f"[{host}]" if ":" in host else host
    query = f"?{quote(parts.query, safe=_QUOTED)}" if parts.query else ""
    return _Target(
        secure=parts.scheme == "https",
        host=host,
        port=port or _PORTS[parts.scheme],
        netloc=f"{netloc}:{port}" if port else netloc,
        path=quote(parts.path or "/", safe=_QUOTED) + query,
    )


def _time_left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _resolve(target: _Target, deadline: float) -> list[Any]:
    """What getaddrinfo answers; it knows no time limit, so it gets a thread that can be left behind."""
    answer: Future[list[Any]] = Future()

    def ask() -> None:
        try:
            answer.set_result(socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM))
        except Exception as error:
            answer.set_exception(error)

    Thread(target=ask, daemon=True).start()
    return answer.result(_time_left(deadline))


@cache
def _tls() -> ssl.SSLContext:
    """The authorities of the system and Mozilla's, since some systems come without any."""
    import certifi  # comes with requests

    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def _connect(target: _Target, deadline: float, allow: Callable[[Address], bool]) -> socket.socket:
    """A connection to an address of the target, all of which must be allowed."""
    found = _resolve(target, deadline)
    # Numbers in decimal, octal or hex have become plain addresses by now, so one check sees them all.
    if not all(allow(ip_address(address[0])) for *_, address in found):
        raise CaptionBotError(
            f"{shortened(target.host)} is not on the public internet, and addresses of private networks are "
            "not loaded: download the image and give the file."
        )
    failure = OSError("no address")
    for untried, (family, kind, protocol, _, address) in zip(range(len(found), 0, -1), found, strict=True):
        link = socket.socket(family, kind, protocol)
        try:
            link.settimeout(_time_left(deadline) / untried)  # a dead first address leaves time for the next
            link.connect(address)
            link.settimeout(_time_left(deadline))
            return _tls().wrap_socket(link, server_hostname=target.host) if target.secure else link
        except OSError as error:
            link.close()
            failure = error
    raise failure


class _Timed(io.RawIOBase):
    """A connection whose every send and receive ends at one deadline.

    A time limit on each receive alone would let a server that sends a byte a second hold us for ever.
    """

    def __init__(self, link: socket.socket, deadline: float) -> None:
        self._link = link
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._link.settimeout(_time_left(self._deadline))
        return self._link.recv_into(buffer)

    def sendall(self, data: bytes) -> None:
        self._link.settimeout(_time_left(self._deadline))
        self._link.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def close(self) -> None:
        """Nothing: http.client closes its socket before the body is read; `fetch` closes the link."""


def _request(target: _Target, link: socket.socket, deadline: float) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(target.host, target.port)
    connection.sock = _Timed(link, deadline)  # connected already, so http.client opens nothing itself
    connection.request("GET", target.path, headers={"Host": target.netloc, **_HEADERS})
    return connection.getresponse()


def _body(response: http.client.HTTPResponse, named: str, max_bytes: int) -> bytes:
    if response.status != http.client.OK:
        raise CaptionBotError(
            f"{named} answered {response.status} {http.client.responses.get(response.status, '')}: "
            "check that it opens in a browser."
        )
    expected = response.length  # None where the body comes in chunks
    body = b"" if expected and expected > max_bytes else response.read(max_bytes + 1)
    if len(body) > max_bytes or (expected or 0) > max_bytes:
        raise _too_large(named, max_bytes)
    if expected is not None and len(body) < expected:
        raise CaptionBotError(f"{named} broke off after {len(body)} of {expected} bytes: try again.")
    body = _unpacked(body, response.headers.get("Content-Encoding", ""), named, max_bytes)
    # Servers call a photo text where they do not know its ending.
    is_text = response.headers.get("Content-Type", "").lstrip().lower().startswith("text/")
    if is_text and not _BINARY.search(body[:1024]):
        raise CaptionBotError(
            f"{named} is a page or text, not an image: give the address of the image itself."
        )
    return body


def _too_large(named: str, max_bytes: int) -> CaptionBotError:
    return CaptionBotError(
        f"{named} is larger than {max_bytes / 1e6:g} MB, the most that is loaded: give a smaller image."
    )


def _unpacked(body: bytes, encoding: str, named: str, max_bytes: int) -> bytes:
    """The body as it was before the server packed it, which it was not asked to; no more than max_bytes.

    Stores of objects send what is no packing: an empty text, UTF-8, aws-chunked, binary. Some say gzip of a
    body that is not packed.
    """
    for coding in reversed([name.strip() for name in encoding.lower().split(",")][:3]):
        if coding in _NOT_UNPACKED:
            raise CaptionBotError(
                f"{named} sends its answer compressed by {coding}, which is not accepted: download the image "
                "and give the file."
            )
        packed = body.startswith(b"\x1f\x8b") or (coding == "deflate" and body.startswith(b"\x78"))
        if coding not in _ZLIB or not packed:
            continue
        try:
            unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)  # its header says which of the two it is
            body = unpacker.decompress(body, max_bytes + 1)
            if not unpacker.eof and len(body) <= max_bytes:
                raise zlib.error("incomplete")
        except zlib.error as error:
            raise CaptionBotError(
                f"{named} sends an answer whose compression is damaged: download the image and give the file."
            ) from error
        if len(body) > max_bytes:
            raise _too_large(named, max_bytes)
    return body
