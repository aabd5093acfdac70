"""A repository of the Hub on this machine, from a server that a test can have break off, lie and change."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_server import LocalServer, local_server
from tiny_hub import build

from captionbot.store import hub

ID, COMMIT = "someone/a-captioner", "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    build(folder, "blip")
    return folder


@pytest.fixture
def server(repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LocalServer]:
    """The Hub as far as it is asked; `server.answers` are what it says and gives of the repository."""
    monkeypatch.setenv("CAPTIONBOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(hub, "DELAYS", (0.0,))
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    with local_server() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url(""))
        publish(server, repository)
        yield server


def publish(server: LocalServer, repository: Path, name: str = ID, commit: str = COMMIT) -> None:
    """Have the server publish a folder under a name, at a commit that is its main branch."""
    siblings = []
    for path in sorted(path for path in repository.iterdir() if path.is_file()):
        data = path.read_bytes()
        entry: dict[str, object] = {"rfilename": path.name, "size": len(data)}
        if path.suffix == ".safetensors":
            entry["lfs"] = {"sha256": hashlib.sha256(data).hexdigest()}
        siblings.append(entry)
        server.says(f"/{name}/resolve/{commit}/{path.name}", data, ETag=f'"{path.name}"')
    said = json.dumps({"sha": commit, "siblings": siblings}).encode()
    for revision in ("main", commit):
        server.says(f"/api/models/{name}/revision/{revision}?blobs=true", said, kind="application/json")
