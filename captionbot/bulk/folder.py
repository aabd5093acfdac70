"""Many photos: decoded ahead while the model works, captioned in batches, in the order given.

Threads are enough: Pillow and torch let go of Python's lock while they work. Every queue is bounded, so
that a million photos take the memory of a few batches.
"""

from __future__ import annotations

import io
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from captionbot.bulk.records import Result, as_written, free_name
from captionbot.errors import CaptionBotError
from captionbot.files import utf8

if TYPE_CHECKING:  # torch takes a second to import, and `--help` answers before that
    from PIL.Image import Image

    from captionbot.captioner import Captioner
    from captionbot.images.load import ImageSource, Preprocessing

    Loaded = tuple[str, Image | CaptionBotError]

In = TypeVar("In")
Out = TypeVar("Out")

BATCH = {"cpu": 16, "cuda": 128, "mps": 16}  # photos at once by device, unless one asks for another number
LOADERS = 2  # threads that decode photos while the model works: more would only take its cores
HELD = 150_000_000  # bytes of photos' files that wait to be decoded, of archives
WORKERS = 4  # threads at most that caption batches side by side; each holds one batch in memory


def load_ahead(
    sources: Iterable[ImageSource], ahead: int, wanted: Preprocessing | None = None, loaders: int = LOADERS
) -> Iterator[Loaded]:
    """Load images in order, up to `ahead` of them before they are asked for, while the model works.

    wanted: an encoder's; images come squashed to its size already, so that a large photo is held for a
        moment only and is decoded near the size that is needed. The boxes of their captions are then in
        pixels of the small image.
    """
    with ThreadPoolExecutor(loaders) as pool:
        load = partial(_loaded, wanted=wanted)
        yield from _in_order(pool, load, sources, ahead, lambda source: source.held)


def _loaded(source: ImageSource, wanted: Preprocessing | None) -> Loaded:
    try:
        return source.name, source.load() if wanted is None else small(source, wanted)
    except CaptionBotError as error:
        return source.name, error


def small(source: ImageSource, wanted: Preprocessing) -> Image:
    """The image at the size that an encoder wants; CaptionBotError where there is none."""
    from PIL import Image

    from captionbot.images.load import squash

    # Twice the size, as libjpeg shrinks by averaging blocks alone: the rest is for a better filter.
    return Image.fromarray(squash(source.load(2 * max(wanted.size)), wanted))


def caption_each(
    captioner: Captioner,
    images: Iterable[Loaded],
    batch_size: int,
    options: dict[str, Any],
    workers: int = 0,
) -> Iterator[Result]:
    """Captions in the order of the images, with an error in place of those that could not be loaded.

    options: keyword arguments of `Captioner.caption`.
    workers: threads that caption a batch each, side by side, torch's threads divided among them; 0: this
        thread, one batch as it is asked for.
    """
    waiting = iter(images)
    batches = iter(lambda: list(islice(waiting, batch_size)), [])
    caption = partial(_caption_batch, captioner, options)
    if not workers:
        for batch in batches:
            yield from caption(batch)
        return

    import torch

    threads = torch.get_num_threads()
    share = max(1, threads // workers)
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(share,)) as pool:
            for results in _in_order(pool, caption, batches, workers):
                yield from results
    finally:
        torch.set_num_threads(threads)


def try_options(captioner: Captioner, options: dict[str, Any]) -> None:
    """CaptionBotError for options of `Captioner.caption` that do not work, before much depends on them."""
    from PIL import Image

    captioner.caption(Image.new("RGB", (64, 64)), **options)


def workers_for(captioner: Captioner) -> int:
    """How many threads should caption a folder: a GPU is kept busy by one, CPU cores work best alone."""
    import torch

    return min(WORKERS, torch.get_num_threads()) if captioner.device.type == "cpu" else 1


def _caption_batch(captioner: Captioner, options: dict[str, Any], batch: list[Loaded]) -> list[Result]:
    sound = [image for _, image in batch if not isinstance(image, CaptionBotError)]
    captioned = iter(captioner.caption(sound, batch_size=len(batch), **options))
    return [(name, image if isinstance(image, CaptionBotError) else next(captioned)) for name, image in batch]


def _in_order(
    pool: ThreadPoolExecutor,
    work: Callable[[In], Out],
    items: Iterable[In],
    ahead: int,
    held: Callable[[In], int] = lambda item: 0,
) -> Iterator[Out]:
    """What `work` makes of each item, in their order; `ahead` are under way beside the one waited for.

    held: bytes that an item holds until it is worked on; where they are many, fewer are under way.
    """
    under_way: deque[tuple[Future[Out], int]] = deque()
    try:
        for item in items:
            under_way.append((pool.submit(work, item), held(item)))
            del item  # it may be a whole batch of images
            while len(under_way) > ahead or sum(size for done, size in under_way if not done.done()) > HELD:
                yield under_way.popleft()[0].result()
        while under_way:
            yield under_way.popleft()[0].result()
    finally:
        for future, _ in under_way:
            future.cancel()


def zip_of_texts(results: Iterable[Result]) -> bytes:
    """A .zip with a text file for every image, a caption a line, best first; images that failed have none."""
    buffer, taken = io.BytesIO(), set[str]()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, result in results:
            if not isinstance(result, CaptionBotError):
                path = PurePosixPath(*(part for part in PurePosixPath(name).parts if part not in ("..", "/")))
                member = as_written(free_name(path, taken))
                archive.writestr(member, utf8("".join(f"{c.text}\n" for c in result.captions)))
    return buffer.getvalue()
