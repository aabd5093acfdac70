"""A map of the photo for each word of a caption."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from captionbot.types import Caption

LABELS = {
    "attention": "where the model looked for the word",
    "needs": "how much less likely the word is where this place is hidden, by a regression over many copies",
    "occlusion": "how much less likely the word is where this place is hidden",
    "gradient": "how much the word's log-probability hangs on this place, by its gradient",
}
"""What the numbers of a map are, by the method that gave them."""


@dataclass(frozen=True)
class WordMaps:
    """What each word of a caption rests on, place by place.

    method: attention, needs, occlusion or gradient; label: what its numbers are, for a person.
    maps: (T, P). Attention sums to 1; needs and occlusion are in nats of log-probability that are lost, and
        below 0 where hiding the place helps the word; gradients have no unit, and are 0 or more.
    boxes: (P, 4) xyxy in pixels of the image; grid: (rows, columns) where they form one.
    """

    method: str
    label: str
    maps: np.ndarray
    boxes: np.ndarray
    grid: tuple[int, int] | None

    def on(self, caption: Caption) -> Caption:
        """The caption with these maps in the place of its attention, so that every drawing shows them."""
        return replace(caption, alphas=np.maximum(self.maps, 0), boxes=self.boxes, grid=self.grid)
