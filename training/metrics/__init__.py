"""The scores of the field: BLEU-1..4, METEOR, ROUGE-L, CIDEr-D and SPICE, equal to coco-caption's own.

`overlap` needs nothing but numpy, `java` runs METEOR and SPICE; `significance` says how sure they are, and
`prose` how the captions read. docs/evaluation.md says what each number means.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from captionbot.errors import CaptionBotError
from captionbot.text.tokenizer import tokenize
from training.metrics.java import meteor_tally, spice_tally
from training.metrics.overlap import CiderD, bleu, bleu_tally, rouge_l
from training.metrics.tally import Tally, mean_tally

__all__ = ["CiderD", "Measured", "bleu", "measure", "rouge_l", "score"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measured:
    """Captions of n images and what every metric found in them.

    images: their names. captions: their words. references: the words of their human captions.
    tallies: in the order in which scores are printed.
    left_out: metrics that could not run, and why.
    """

    images: tuple[str, ...]
    captions: list[list[str]]
    references: list[list[list[str]]]
    tallies: tuple[Tally, ...]
    left_out: dict[str, str]

    def corpus(self) -> dict[str, float]:
        """Scores of all images together, by name."""
        return {
            name: float(value)
            for tally in self.tallies
            for name, value in zip(tally.names, tally.corpus(), strict=True)
        }

    def each(self) -> dict[str, np.ndarray]:
        """Scores of every image on its own, by name: (n,)."""
        return {
            name: values
            for tally in self.tallies
            for name, values in zip(tally.names, tally.each().T, strict=True)
        }


def score(
    hypotheses: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    meteor: bool = True,
    spice: bool = True,
) -> dict[str, float]:
    """All scores of raw captions by image: Bleu_1..Bleu_4, METEOR, ROUGE_L, CIDEr and SPICE, of these images.

    CIDEr is CIDEr-D, with coco-caption's name and factor of 10: one person against four others gets
    about 0.8 on Flickr8k. METEOR and SPICE are left out, with a warning, where they cannot run. Raises
    CaptionBotError if an image has no reference.
    """
    return measure(hypotheses, references, meteor, spice).corpus()


def measure(
    hypotheses: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    meteor: bool = True,
    spice: bool = True,
) -> Measured:
    """What `score` says, image by image."""
    if not hypotheses:
        raise CaptionBotError("There is nothing to score: give at least one caption.")
    lacking = [name for name in hypotheses if not references.get(name)]
    if lacking:
        raise CaptionBotError(
            f"{len(lacking)} of {len(hypotheses)} captioned images have no reference caption, the first is "
            f"'{lacking[0]}'; captions are scored only for images that the annotations name."
        )
    captions = [tokenize(caption) for caption in hypotheses.values()]
    humans = [[tokenize(caption) for caption in references[name]] for name in hypotheses]
    tallies = [
        bleu_tally(captions, humans),
        mean_tally("ROUGE_L", rouge_l(captions, humans)),
        mean_tally("CIDEr", CiderD(humans)(captions)),
    ]
    left_out = {}
    java = (("METEOR", meteor, 1, meteor_tally), ("SPICE", spice, len(tallies) + 1, spice_tally))
    for name, wanted, place, tally in java:
        if not wanted:
            continue
        try:
            tallies.insert(place, tally(captions, humans))
        except CaptionBotError as error:
            left_out[name] = str(error)
            logger.warning("%s is left out. %s", name, error)
    return Measured(tuple(hypotheses), captions, humans, tuple(tallies), left_out)
