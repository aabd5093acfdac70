"""How the pages bear up: `python -m benchmarks.pages`.

Real servers, each a process of its own, and clients that speak the pages' own protocols, so that no browser
takes the cores and a time is what the server needs. Of each page:

- many sessions at once, each with photos of its own: every one must get the caption that the captioner gives
  when it is called directly;
- the time of a steered and of a hidden caption;
- the time from pointing at a word until its map is painted, in chromium (all maps of a caption are in the
  browser: no server is asked for them), where playwright is installed;
- the memory of the server after a warm-up and after many captions more, and after each captioner in turn.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import secrets
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any, Literal, Protocol

import numpy as np
import requests
from PIL import Image

from benchmarks.servers import CHROMIUM, served
from captionbot import CaptionBotError, Captioner, SearchOptions, load_image
from captionbot.pages.samples import sample_photos
from captionbot.store.registry import list_cards
from captionbot.text.display import sentence

_TRIGGER = "$$STREAMLIT_INTERNAL_KEY_"  # before the id of a component whose browser tells of an event
STEERED = "two dogs"  # what sentences are made to go on with
CAPTIONS = 3  # that both pages show unless they are told otherwise


class Visitor(Protocol):
    """One session of a page."""

    def upload(self, photo: bytes, name: str) -> str:
        """Give the page a photo; the headline that it shows then."""

    def steer(self) -> float:
        """Have the sentence begin with other words, and wait for it; the seconds that took."""

    def hide(self, share: float) -> float:
        """Hide a rectangle of that share of the width, and wait for the caption; the seconds that took."""

    def choose(self, model: str) -> str:
        """Choose another captioner; the headline that is shown then."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line a number; 0, 1 where a session got a wrong caption, 2 where something is missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pages", description=__doc__)
    parser.add_argument("--pages", nargs="+", choices=PAGES, default=list(PAGES), help="(default: both)")
    parser.add_argument("--sessions", type=int, default=10, help="at once (default: %(default)s)")
    parser.add_argument("--each", type=int, default=3, help="photos of a session (default: %(default)s)")
    parser.add_argument("--captions", type=int, default=500, help="for memory (default: %(default)s)")
    parser.add_argument("--clicks", type=int, default=20, help="timed ones (default: %(default)s)")
    parser.add_argument("--hover", action="store_true", help="only the time from a word to its map")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there too")
    args = parser.parse_args(argv)
    if not sample_photos():
        print("There are no samples: captionbot/pages/photos is missing.", file=sys.stderr)
        return 2
    try:
        if args.hover:
            for page in args.pages:
                with served(page) as (address, _):
                    for name, value in hover(address).items():
                        print(f"{page:10} {name:42} {value}", flush=True)
            return 0
        count = max(args.sessions * args.each, 8)
        photos = [photo(number) for number in range(count)]
        expected = directly(photos)
        found = {page: measure(page, photos, expected, args) for page in args.pages}
    except CaptionBotError as error:
        print(error, file=sys.stderr)
        return 2
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return int(any(numbers["wrong captions"] for numbers in found.values()))


def photo(number: int) -> bytes:
    """A JPEG that no other number has: a part of one of the samples, on a tint of its own."""
    rng = np.random.default_rng(number)
    samples = list(sample_photos().values())
    image = load_image(samples[number % len(samples)])
    left, top = rng.uniform(0, 0.4, 2) * image.size
    right, bottom = rng.uniform(0.6, 1, 2) * image.size
    image = image.crop((int(left), int(top), int(right), int(bottom))).resize((640, 480))
    tint = Image.new("RGB", image.size, tuple(rng.integers(0, 256, 3).tolist()))
    data = io.BytesIO()
    Image.blend(image, tint, 0.25).save(data, "JPEG", quality=90)
    return data.getvalue()


def directly(photos: Sequence[bytes]) -> list[str]:
    """What the default captioner says of each photo, asked one by one as the pages do."""
    captioner = Captioner.from_pretrained()
    options = replace(SearchOptions(**captioner.card.search), num_return=CAPTIONS)
    images = [load_image(data) for data in photos]
    return [sentence(captioner.caption([image], options)[0].captions[0].text) for image in images]


def measure(
    page: str, photos: Sequence[bytes], expected: Sequence[str], args: argparse.Namespace
) -> dict[str, Any]:
    """The numbers of one page, printed as they come."""
    numbers: dict[str, Any] = {}

    def note(name: str, value: Any, unit: str = "") -> None:
        numbers[name] = value
        print(f"{page:10} {name:42} {value} {unit}".rstrip(), flush=True)

    visit = PAGES[page]
    launched = time.perf_counter()
    with served(page) as (address, pid):
        visited = time.perf_counter()
        visitor = visit(address)
        said = visitor.upload(photos[0], "0.jpg")
        note("seconds from the server's start to a caption", round(time.perf_counter() - launched, 1))
        note("seconds from the first visit to a caption", round(time.perf_counter() - visited, 1))
        note("memory, MiB", memory(pid))
        if said != expected[0]:
            print(f"{page}: “{said}” and not “{expected[0]}”", file=sys.stderr)

        for name, value in hover(address).items():
            note(name, value)
        times: dict[str, list[float]] = {"steer": [], "hide": []}
        worked: dict[str, list[float]] = {name: [] for name in times}
        for turn in range(args.clicks):
            visitor.upload(photos[turn % len(photos)], f"{turn}.jpg")
            for name, act in (
                ("steer", visitor.steer),
                ("hide", partial(visitor.hide, 0.2 + 0.01 * (turn % 20))),
            ):
                before = processor(pid)
                times[name].append(act())
                worked[name].append(processor(pid) - before)
        for name, taken in times.items():
            note(f"{name}, ms, median", round(1000 * median(taken)))
            note(f"{name}, ms, slowest", round(1000 * max(taken)))
            note(f"{name}, ms of processor, mean", round(1000 * mean(worked[name])))

        wrong, seconds = at_once(visit, address, photos, expected, args.sessions, args.each)
        note("wrong captions", wrong, f"of {args.sessions * args.each}, {args.sessions} sessions at once")
        note("seconds a photo, sessions at once", round(seconds / (args.sessions * args.each), 2))

        before = memory(pid)
        note("memory after the sessions, MiB", before)
        for turn in range(args.captions):
            visitor.upload(photos[turn % len(photos)] + turn.to_bytes(4, "big"), f"{turn}.jpg")
            if turn + 1 in (args.captions // 2, args.captions):
                note(f"memory after {turn + 1} captions more, MiB", memory(pid))
        for name in [path.stem for path in list_cards()] * 2:
            visitor.choose(name)
            note(f"memory with {name}, MiB", memory(pid))
            numbers.setdefault("captioners", []).append([name, memory(pid)])
    return numbers


_HOVER = """async (count) => {
    const words = [...document.querySelectorAll(".cb-word")], heat = document.querySelector(".cb-heat");
    const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
    const painted = () => new Promise((done) => requestAnimationFrame(() => {
        const channel = new MessageChannel();  // whose message comes once the frame is painted
        channel.port1.onmessage = done;
        channel.port2.postMessage(0);
    }));
    const times = [];
    for (let turn = 0; turn < count; turn++) {
        const word = words[turn % words.length], tell = (name) =>
            word.dispatchEvent(new PointerEvent(name, { pointerType: "mouse" }));
        await wait(400);
        const began = performance.now();
        tell("pointerenter");
        await painted();
        times.push(performance.now() - began);
        if (heat.dataset.word.toLowerCase() !== word.textContent.toLowerCase()) throw Error("no map came");
        tell("pointerleave");
    }
    return times;
}"""


def hover(address: str, count: int = 30) -> dict[str, float]:
    """Milliseconds from pointing at a word until its map is painted, in chromium: for whoever wants no motion
    all of it, for others its first frame, after which it comes smoothly. Nothing without playwright."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return {}
    if CHROMIUM is None:
        return {}
    found = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        motions: dict[str, Literal["reduce", "no-preference"]] = {
            "the whole map": "reduce",
            "its first frame": "no-preference",
        }
        for what, motion in motions.items():
            page = browser.new_page(viewport={"width": 1440, "height": 900}, reduced_motion=motion)
            page.goto(f"http://{address}/")
            page.locator(".cb-word").first.wait_for(timeout=300_000)
            page.wait_for_timeout(8_000)  # the sentence has played once
            times = page.evaluate(_HOVER, count)
            found[f"hover to {what}, ms, median of {count}"] = round(median(times), 1)
            found[f"hover to {what}, ms, slowest"] = round(max(times), 1)
            page.close()
        browser.close()
    return found


def at_once(
    visit: Any, address: str, photos: Sequence[bytes], expected: Sequence[str], sessions: int, each: int
) -> tuple[int, float]:
    """How many captions were another photo's, or an error, and the seconds that all took."""

    def one(session: int) -> int:
        own, wrong = visit(address), 0
        for turn in range(each):
            number = session * each + turn
            said = own.upload(photos[number], f"session {session} photo {turn}.jpg")
            if said != expected[number]:
                print(f"session {session}: “{said}” and not “{expected[number]}”", file=sys.stderr)
                wrong += 1
        return wrong

    started = time.perf_counter()
    with ThreadPoolExecutor(sessions) as pool:
        return sum(pool.map(one, range(sessions))), time.perf_counter() - started


def memory(pid: int) -> int:
    """MiB that a process has in memory, of Linux's own accounts."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS"))


def processor(pid: int) -> float:
    """Seconds of processor that a process has had, of all its threads: the same on a busy machine."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class StreamlitVisitor:
    """A session of the Streamlit page, in the messages that its own JavaScript sends.

    said: when the last sentence came, by `time.perf_counter`; the script runs on behind it.
    """

    def __init__(self, address: str) -> None:
        from websockets.sync.client import connect

        self.address = address
        protocols: Any = ["streamlit"]
        self.socket = connect(
            f"ws://{address}/_stcore/stream", subprotocols=protocols, max_size=None
        ).__enter__()  # open until the process ends
        self.session = ""
        self.states: dict[str, Any] = {}
        self.elements: dict[tuple[int, ...], Any] = {}
        self.said = math.nan
        self.run()

    def run(self) -> None:
        """Have the script run with the widgets as they are, and wait for its end."""
        from streamlit.proto.BackMsg_pb2 import BackMsg

        message = BackMsg()
        message.rerun_script.widget_states.widgets.extend(self.states.values())
        self.socket.send(message.SerializeToString())
        self.elements.clear()
        while True:
            answer = self.receive()
            kind = answer.WhichOneof("type")
            if kind == "new_session":
                self.session = answer.new_session.initialize.session_id or self.session
            elif kind == "delta" and answer.delta.WhichOneof("type") == "new_element":
                element = answer.delta.new_element
                self.elements[tuple(answer.metadata.delta_path)] = element
                shown = element.WhichOneof("type")
                if shown == "bidi_component" and '"said"' in element.bidi_component.json:
                    self.said = time.perf_counter()
                if shown == "exception":
                    raise CaptionBotError(f"The page failed: {element.exception.message}")
            elif kind == "script_finished" and answer.script_finished in (0, 3):
                return

    def receive(self) -> Any:
        from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

        answer = ForwardMsg()
        answer.ParseFromString(self.socket.recv(timeout=300))
        return answer

    def widget(self, kind: str, label: str = "") -> Any:
        found = [getattr(e, kind) for e in self.elements.values() if e.WhichOneof("type") == kind]
        return next(widget for widget in found if widget.label.startswith(label))

    def set(self, widget: Any) -> Any:
        from streamlit.proto.WidgetStates_pb2 import WidgetState

        return self.states.setdefault(widget.id, WidgetState(id=widget.id))

    def part(self, name: str) -> tuple[str, dict[str, Any]]:
        """A part of the canvas: its id, and what it is given."""
        parts = [e.bidi_component for e in self.elements.values() if e.WhichOneof("type") == "bidi_component"]
        given = ((part.id, json.loads(part.json)) for part in parts)
        return next(pair for pair in given if pair[1]["part"] == name)

    def headline(self) -> str:
        return str(self.part("sentence")[1]["said"])

    def upload(self, photo: bytes, name: str) -> str:
        from streamlit.proto.BackMsg_pb2 import BackMsg

        request = BackMsg()
        request.file_urls_request.request_id = name
        request.file_urls_request.file_names.append(name)
        request.file_urls_request.session_id = self.session
        self.socket.send(request.SerializeToString())
        while (answer := self.receive()).WhichOneof("type") != "file_urls_response":
            pass
        urls = answer.file_urls_response.file_urls[0]
        requests.put(
            f"http://{self.address}{urls.upload_url}", files={"file": (name, photo)}, timeout=300
        ).raise_for_status()
        uploader = self.widget("file_uploader", "Photo")
        self.states = {k: v for k, v in self.states.items() if k == uploader.id or "model" in k}
        files = self.set(uploader).file_uploader_state_value
        del files.uploaded_file_info[:]
        files.uploaded_file_info.add(name=name, size=len(photo), file_id=urls.file_id, file_urls=urls)
        self.run()
        return self.headline()

    def steer(self) -> float:
        return self.did("sentence", "edit", {"t": 0, "text": STEERED})

    def hide(self, share: float) -> float:
        return self.did("photo", "hide", {"boxes": [[0.1, 0, 0.1 + share, 1]], "only": False})

    def did(self, part: str, event: str, value: Any) -> float:
        """Tell what was done to a part of the canvas; the seconds until the sentence is another."""
        from streamlit.proto.WidgetStates_pb2 import WidgetState

        told = [{"event": "did", "value": {"event": event, "value": value}}]
        trigger = f"{_TRIGGER}{self.part(part)[0]}__events"
        self.states[trigger] = WidgetState(id=trigger, json_trigger_value=json.dumps(told))
        started = time.perf_counter()
        self.run()
        seconds = time.perf_counter() - started
        del self.states[trigger]
        if "before" not in self.part("sentence")[1]:
            raise CaptionBotError(f"The page did not take {event}.")
        return seconds

    def choose(self, model: str) -> str:
        box = self.widget("selectbox", "Captioner")
        self.set(box).string_value = model
        self.run()
        return self.headline()


class GradioVisitor:
    """A session of the Gradio page, in the requests that its own JavaScript makes."""

    def __init__(self, address: str) -> None:
        self.url = f"http://{address}/gradio_api"
        self.session = secrets.token_hex(6)
        config = requests.get(f"http://{address}/config", timeout=60).json()
        self.events = config["dependencies"]
        self.parts = {part["id"]: part for part in config["components"]}
        self.values = {i: part["props"].get("value") for i, part in self.parts.items()}

    def part(self, kind: str, **having: str) -> int:
        """The id of a component by its kind and one of its properties."""
        ((key, value),) = having.items()
        return next(
            i
            for i, p in self.parts.items()
            if p["type"] == kind and str(p["props"].get(key)).startswith(value)
        )

    def fire(self, part: int, event: str, about: Any = None) -> float:
        """Have an event's function run with the page's values; the seconds until they are changed."""
        fn = next(fn for fn in self.events if [part, event] in [list(target) for target in fn["targets"]])
        asked = {
            "data": [self.values[i] for i in fn["inputs"]],
            "fn_index": fn["id"],
            "event_data": about,
            "session_hash": self.session,
            "trigger_id": part,
        }
        started = time.perf_counter()
        requests.post(f"{self.url}/queue/join", json=asked, timeout=300).raise_for_status()
        with requests.get(
            f"{self.url}/queue/data", params={"session_hash": self.session}, stream=True, timeout=300
        ) as stream:
            for line in stream.iter_lines():
                answer = json.loads(line.removeprefix(b"data:")) if line else {}
                if answer.get("msg") == "process_completed":
                    break
        seconds = time.perf_counter() - started
        if not answer["success"]:
            raise CaptionBotError(f"The page failed: {answer['output']}")
        for i, value in zip(fn["outputs"], answer["output"]["data"], strict=True):
            update = isinstance(value, dict) and value.get("__type__") == "update"
            self.values[i] = value.get("value", self.values[i]) if update else value
        return seconds

    def headline(self) -> str:
        text = self.values[self.part("markdown", elem_id="headline")]
        return text.removeprefix("## ").split("\n")[0].replace("\\", "")

    def upload(self, photo: bytes, name: str) -> str:
        (path,) = requests.post(f"{self.url}/upload", files={"files": (name, photo)}, timeout=300).json()
        image = self.part("image", elem_id="photo")
        self.values[image] = {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}
        self.fire(image, "change")
        return self.headline()

    def steer(self) -> float:
        return self.did({"event": "edit", "value": {"t": 0, "text": STEERED}})

    def hide(self, share: float) -> float:
        boxes = [[0.1, 0, 0.1 + share, 1]]
        return self.did({"event": "hide", "value": {"boxes": boxes, "only": False}})

    def did(self, told: dict[str, Any]) -> float:
        return self.fire(self.part("html", elem_id="sentence"), "did", told)

    def choose(self, model: str) -> str:
        box = self.part("dropdown", elem_id="model")
        self.values[box] = model
        self.fire(box, "input")
        self.fire(self.part("button", value="Caption again"), "click")
        return self.headline()


PAGES: dict[str, Any] = {"streamlit": StreamlitVisitor, "gradio": GradioVisitor}


if __name__ == "__main__":
    sys.exit(main())
