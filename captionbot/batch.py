"""Many photos: loaded ahead while the model works, captioned in batches, in the order given."""

from __future__ import annotations

import io
import zipfile
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from captionbot.errors import CaptionBotError
from captionbot.records import Result, free_name

if TYPE_CHECKING:  # torch takes a second to import, and `--help` answers before that
    from PIL.Image import Image

    from captionbot.captioner import Captioner
    from captionbot.images import ImageSource

    Loaded = tuple[str, Image | CaptionBotError]

_LOADERS = 2  # threads that decode photos while the model works: more would only take its cores


def load_ahead(sources: Iterable[ImageSource], ahead: int) -> Iterator[Loaded]:
    """Load images in order, up to `ahead` of them before they are asked for, while the model works."""
    pool = ThreadPoolExecutor(_LOADERS)
    loading: deque[tuple[str, Future[Image | CaptionBotError]]] = deque()
    try:
        for source in sources:
            loading.append((source.name, pool.submit(_loaded, source)))
            if len(loading) > ahead:
                name, image = loading.popleft()
                yield name, image.result()
        for name, image in loading:
            yield name, image.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _loaded(source: ImageSource) -> Image | CaptionBotError:
    try:
        return source.load()
    except CaptionBotError as error:
        return error


def caption_each(
    captioner: Captioner, images: Iterable[Loaded], batch_size: int, options: dict[str, Any]
) -> Iterator[Result]:
    """Captions in the order of the images, with an error in place of those that could not be loaded.

    options: keyword arguments of `Captioner.caption`.
    """
    waiting = iter(images)
    while batch := list(islice(waiting, batch_size)):
        sound = [image for _, image in batch if not isinstance(image, CaptionBotError)]
        captioned = iter(captioner.caption(sound, batch_size=batch_size, **options))
        for name, image in batch:
            yield name, image if isinstance(image, CaptionBotError) else next(captioned)


def zip_of_texts(results: Iterable[Result]) -> bytes:
    """A .zip with a text file for every image, a caption a line, best first; images that failed have none."""
    buffer, taken = io.BytesIO(), set[str]()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, result in results:
            if not isinstance(result, CaptionBotError):
                path = PurePosixPath(*(part for part in PurePosixPath(name).parts if part not in ("..", "/")))
                archive.writestr(free_name(path, taken), "".join(f"{c.text}\n" for c in result.captions))
    return buffer.getvalue()
