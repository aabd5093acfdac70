"""Gradio's server spoken to by bare HTTP, as programs of strangers do."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests

PATIENCE = 120  # seconds for one answer


class Visitor:
    """One visitor of a Gradio page, without a browser.

    address: "host:port".
    """

    def __init__(self, address: str) -> None:
        self.api = f"http://{address}/gradio_api"
        self.session_hash = secrets.token_hex(8)
        self.http = requests.Session()
        self.config = self.http.get(f"http://{address}/config", timeout=PATIENCE).json()
        self.components = {component["id"]: component for component in self.config["components"]}

    def events(self) -> list[dict[str, Any]]:
        """All that can be asked of the server: events of the page and endpoints for programs."""
        return [event for event in self.config["dependencies"] if event["backend_fn"]]

    def event(self, api_name: str) -> dict[str, Any]:
        return next(event for event in self.events() if event["api_name"] == api_name)

    def kinds(self, event: dict[str, Any]) -> list[str]:
        """The kinds of the components that an event is sent the values of."""
        return [self.components[number]["type"] for number in event["inputs"]]

    def values(self, event: dict[str, Any]) -> list[Any]:
        """What the page sends at first."""
        return [self.components[number]["props"].get("value") for number in event["inputs"]]

    def upload(self, *paths: Path) -> list[dict[str, Any]]:
        """Files as events are sent them, once they are uploaded."""
        files = [("files", (path.name, path.read_bytes())) for path in paths]
        answer = self.http.post(f"{self.api}/upload", files=files, timeout=PATIENCE)
        answer.raise_for_status()
        meta = {"_type": "gradio.FileData"}
        names = [path.name for path in paths]
        return [
            {"path": path, "orig_name": name, "meta": meta}
            for path, name in zip(answer.json(), names, strict=True)
        ]

    def ask(self, event: dict[str, Any], data: list[Any], event_data: Any = None) -> dict[str, Any]:
        """The last message of an event, through the queue that the page itself uses."""
        body = {
            "data": data,
            "fn_index": event["id"],
            "session_hash": self.session_hash,
            "event_data": event_data,
        }
        joined = self.http.post(f"{self.api}/queue/join", json=body, timeout=PATIENCE)
        if joined.status_code != requests.codes.ok:
            return {"success": False, "output": {"error": joined.text}}
        number = joined.json()["event_id"]
        for message in self._messages():
            if message.get("event_id") == number and message["msg"] == "process_completed":
                return message
        return {"success": False, "output": {"error": "no answer"}}

    def _messages(self) -> Iterator[dict[str, Any]]:
        query = {"session_hash": self.session_hash}
        with self.http.get(f"{self.api}/queue/data", params=query, stream=True, timeout=PATIENCE) as answer:
            for line in answer.iter_lines():
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])

    def call(self, api_name: str, *data: Any) -> tuple[str, Any]:
        """How the last event of `/call/NAME` is named, "complete" or "error", and its data."""
        started = self.http.post(f"{self.api}/call/{api_name}", json={"data": [*data]}, timeout=PATIENCE)
        if started.status_code != requests.codes.ok:
            return "refused", started.text
        address = f"{self.api}/call/{api_name}/{started.json()['event_id']}"
        answer = self.http.get(address, timeout=PATIENCE)
        answer.encoding = "utf-8"
        name, data_line = answer.text.strip().split("\n\n")[-1].split("\n", 1)
        return name.removeprefix("event: "), json.loads(data_line.removeprefix("data: "))
