"""A real web server on this machine whose answers a test writes byte by byte, so that it can misbehave."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest

Answer = Callable[["Exchange"], None]


class Exchange(BaseHTTPRequestHandler):
    """One request and the answer to it."""

    protocol_version = "HTTP/1.1"
    server: LocalServer

    def do_GET(self) -> None:  # the name that http.server calls
        self.server.requests.append((self.path, self.headers))
        self.close_connection = True
        with suppress(OSError):  # the client may have seen enough
            self.server.answers[self.path](self)

    def answer(
        self,
        body: bytes = b"",
        status: int = 200,
        kind: str = "application/octet-stream",
        length: int | str | None = "true",
        **headers: str,
    ) -> None:
        """Sends an answer; length "true" announces that of the body, None announces nothing."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", str(len(body) if length == "true" else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Nothing, since tests read `requests`."""


class LocalServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Exchange)
        self.answers: dict[str, Answer] = {}
        self.requests: list[tuple[str, Message]] = []
        self.closing = Event()  # what a slow answer waits on

    def url(self, path: str, host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.server_port}{path}"

    def says(self, path: str, body: bytes = b"", **answer: object) -> str:
        """The address of a fixed answer."""
        self.answers[path] = lambda exchange: exchange.answer(body, **answer)  # type: ignore[arg-type]
        return self.url(path)

    def drip(self, exchange: Exchange, data: bytes) -> None:
        """A byte every hundredth of a second, for as long as anyone listens and the test runs."""
        for byte in data:
            if self.closing.wait(0.01):
                return
            exchange.wfile.write(bytes([byte]))
            exchange.wfile.flush()

    def encrypt(self, certificate: Path) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self.socket = context.wrap_socket(self.socket, server_side=True)

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: clients that hang up are the point."""


@contextmanager
def local_server() -> Iterator[LocalServer]:
    server = LocalServer()
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


def certificate_of(host: str, folder: Path) -> Path:
    """A fresh certificate and its key in one file; trusting the file trusts the host."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    path = folder / f"{host}.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    subprocess.run(
        [
            *command,
            "-subj",
            f"/CN={host}",
            "-addext",
            f"subjectAltName=DNS:{host}",
            "-keyout",
            path,
            "-out",
            path,
        ],
        check=True,
        capture_output=True,
    )
    return path
