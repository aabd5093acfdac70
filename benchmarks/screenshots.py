"""The pictures of the docs, of the real page with a sample photo: `python -m benchmarks.screenshots`.

Needs `pip install playwright` and chromium on the PATH. Pictures are PNGs of a palette, so that all of them
together stay small; the README's animation is the one that the page's Share makes.
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlencode

from PIL import Image

from benchmarks.servers import CHROMIUM, ROOT, served
from captionbot import CaptionBotError, Captioner, load_image
from captionbot.draw.files import gif
from captionbot.draw.overlays import fit
from captionbot.draw.sheets import animation
from captionbot.pages.samples import sample_photos

if TYPE_CHECKING:
    from playwright.sync_api import Page

DOCS = ROOT / "docs"
MOST = 200_000  # bytes of a picture
ANIMATION, ANIMATED = "words", 360  # the README's, and its pixels each way at most
MARGIN = 16  # pixels around a part
COLOURS = (256, 192, 128, 96, 64, 48, 32)  # the most with which it is no larger
PATIENCE = 120_000  # milliseconds
BUSY = "[data-testid=stStatusWidget], [data-testid=stSpinner], [data-testid=stSkeleton]"
LOADED = "[...document.querySelectorAll('img')].every(image => image.complete && image.naturalWidth)"


class Shot(NamedTuple):
    """width: of the window in pixels. tab: whether the view alone is shown, or all that is on the screen.
    ready: what is there once all is worked out. sample: the photo, where it is not that of the others."""

    name: str
    view: str
    width: int
    tab: bool = True
    ready: str = ".cb-word"
    sample: str = ""


SHOTS = (
    Shot("page", "Captions", 1440, False),
    Shot("explorer-beam", "Beam", 1400),
    Shot("explorer-truth", "Faithfulness", 1440, ready="[data-testid=stMetric]", sample="A horse"),
)


def main(argv: list[str] | None = None) -> int:
    """Write the pictures; 0, or 2 where something is missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.screenshots", description=__doc__)
    names = [ANIMATION, *(shot.name for shot in SHOTS)]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(names)} (default: all)")
    parser.add_argument("--sample", default=next(iter(sample_photos()), None), choices=list(sample_photos()))
    parser.add_argument(
        "--word", type=int, default=2, help="that is pointed at, from 1 (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, default=DOCS, metavar="FOLDER", help="(default: docs)")
    args = parser.parse_args(argv)
    unknown = set(args.names) - set(names)
    try:
        from playwright.sync_api import sync_playwright

        if unknown:
            raise CaptionBotError(f"There is no picture {unknown.pop()}; choose of {', '.join(names)}.")
        if CHROMIUM is None or args.sample is None:
            raise CaptionBotError("Pictures need chromium on the PATH.")
        if not args.names or ANIMATION in args.names:
            data = animated(args.sample)
            (args.out / f"{ANIMATION}.gif").write_bytes(data)
            print(f"{ANIMATION}.gif {len(data) / 1000:.0f} kB", flush=True)
        with served("streamlit") as (address, _), sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.set_default_timeout(PATIENCE)
            page.add_init_script("localStorage.setItem('captionbot.toured', 'yes')")
            for shot in SHOTS:
                if not args.names or shot.name in args.names:
                    data = small(take(page, address, shot, args.sample, args.word))
                    (args.out / f"{shot.name}.png").write_bytes(data)
                    print(f"{shot.name}.png {len(data) / 1000:.0f} kB", flush=True)
            browser.close()
    except (CaptionBotError, ImportError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def animated(sample: str) -> bytes:
    """The default captioner's sentence about a sample, as it is written."""
    photo = fit(load_image(sample_photos()[sample]), ANIMATED)
    (captioned,) = Captioner.from_pretrained().caption([photo])
    return gif(animation(photo, captioned.captions[0]))


def take(page: Page, address: str, shot: Shot, sample: str, word: int) -> bytes:
    """The PNG of one view with a word chosen."""
    asked = {"sample": shot.sample or sample, "view": shot.view}
    page.set_viewport_size({"width": shot.width, "height": 900})
    page.goto(f"http://{address}/?{urlencode(asked)}")
    page.locator(shot.ready).first.wait_for()
    settle(page)
    page.locator(".cb-word").nth(word - 1).hover()
    page.wait_for_timeout(500)  # the map comes smoothly
    if not shot.tab:
        return page.screenshot()
    # What is scrolled inside a page is not drawn: make the window as high as the page.
    height = page.get_by_test_id("stMain").evaluate("page => page.scrollHeight")
    height += page.get_by_role("tabpanel").evaluate("panel => panel.scrollHeight - panel.clientHeight")
    page.set_viewport_size({"width": shot.width, "height": height + 20})
    settle(page)
    box = page.get_by_role("tabpanel").bounding_box()
    assert box is not None
    return page.screenshot(
        clip={
            "x": box["x"] - MARGIN,
            "y": box["y"],
            "width": box["width"] + 2 * MARGIN,
            "height": box["height"] + MARGIN,
        }
    )


def settle(page: Page) -> None:
    """Wait until the server has nothing more to say and every picture is there."""
    page.wait_for_timeout(500)
    page.wait_for_function(f"!document.querySelector('{BUSY}') && {LOADED}")
    page.wait_for_timeout(1000)  # charts draw themselves


def small(png: bytes) -> bytes:
    """The picture with as many colours as fit into `MOST` bytes."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    data = png
    for colours in COLOURS:
        out = io.BytesIO()
        image.quantize(colours, kmeans=2, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
        data = out.getvalue()
        if len(data) <= MOST:
            break
    return data


if __name__ == "__main__":
    sys.exit(main())
