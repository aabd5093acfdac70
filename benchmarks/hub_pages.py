"""Both pages with BLIP (base) at its true size, random weights, in a real browser: memory, and a picture.

`python -m benchmarks.hub_pages` prints the most memory that each page's server had, once a photo was
captioned and its words can be pointed at. The weights are random: they say nothing, and need as much.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.hub import written
from benchmarks.servers import CHROMIUM, ROOT, served
from captionbot.errors import CaptionBotError

PAGES = ("streamlit", "gradio")
NAME = "blip-base"
_PATIENCE = 600_000  # milliseconds: another program may have all the cores


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", default=PAGES, help=f"of {', '.join(PAGES)}")
    args = parser.parse_args(argv)
    with captioner_of_true_size():
        for page in args.pages:
            print(f"{page}: {peak(page):.0f} MB at most", flush=True)
    return 0


@contextmanager
def captioner_of_true_size() -> Iterator[None]:
    """An imported captioner of random weights, with which pages begin while the block runs."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    from captionbot.store.importers.hub import import_hub

    names = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}
    ids = {names.get(i, f"word{i}"): i for i in range(30522)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    tokenizer.add_special_tokens([*names.values()])
    before = {key: os.environ.get(key) for key in ("CAPTIONBOT_CACHE", "CAPTIONBOT_MODEL")}
    with tempfile.TemporaryDirectory() as folder:
        published = Path(folder, "published")
        published.mkdir()
        encoder, _ = written(published, NAME)
        (published / "config.json").write_text(json.dumps(encoder["config"]), encoding="utf-8")
        tokenizer.save(str(published / "tokenizer.json"))
        import_hub(str(published), Path(folder, NAME), NAME)
        os.environ |= {"CAPTIONBOT_CACHE": folder, "CAPTIONBOT_MODEL": NAME}
        try:
            yield
        finally:
            for key, value in before.items():
                if value is None:
                    del os.environ[key]
                else:
                    os.environ[key] = value


def peak(page: str) -> float:
    """The most MB that a page's server had until a photo was captioned; its picture goes to artefacts/.

    Raises CaptionBotError where there is no browser.
    """
    if CHROMIUM is None:
        raise CaptionBotError("There is no chromium on the PATH: install one.")
    from playwright.sync_api import sync_playwright

    with served(page) as (address, pid), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": 1400, "height": 900})
        tab.set_default_timeout(_PATIENCE)
        tab.goto(f"http://{address}")
        words = tab.locator(".cb-word")
        words.nth(3).wait_for()
        words.nth(3).hover()
        tab.wait_for_timeout(2000)
        (ROOT / "artefacts").mkdir(exist_ok=True)
        tab.screenshot(path=ROOT / "artefacts" / f"hub-{page}.png")
        most = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="ascii"))
        browser.close()
    return int(most[1]) * 1024 / 1e6 if most else 0.0


if __name__ == "__main__":
    sys.exit(main())
