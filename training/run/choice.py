"""Which epoch of a run is the best, and by which number: val may be too small for some, or for all."""

from __future__ import annotations

from dataclasses import dataclass

from training.data.files import VAL_LEAST
from training.run.config import TrainingConfig
from training.run.splits import Split
from training.run.validation import Scores

ENOUGH_FOR_CIDER = 200  # val photos
ENOUGH_FOR_LOSS = VAL_LEAST  # val photos

_SAID = {"CIDEr": "of the highest CIDEr on val", "loss": "of the lowest loss on val", "last": "the last one"}


@dataclass(frozen=True)
class Choice:
    """by: a name of scores, of which the best epoch has the best, or "last". why: in a sentence."""

    by: str
    why: str

    def worth(self, scores: Scores) -> float:
        """A number that is higher the better an epoch is. scores: on val, and which epoch it is."""
        if self.by == "last":
            return scores["epoch"]
        return -scores["val_loss"] if self.by == "loss" else scores["CIDEr"]

    def is_better(self, scores: Scores, best: Scores) -> bool:
        """best: scores of the best epoch so far; of an earlier version's run some may be missing."""
        try:
            bar = self.worth(best)
        except KeyError:
            bar = float("-inf")
        return self.worth(scores) > bar  # never where a score is no number

    @property
    def which(self) -> str:
        """Which epoch is kept, in words."""
        return _SAID[self.by]


def choose(config: TrainingConfig, val: Split) -> Choice:
    """What the best epoch of a run is to be chosen by, as the configuration says or as val allows."""
    photos = min(map(len, val.by_source().values()))
    counted = f"{photos} val photo{'s' * (photos > 1)}"
    if config.choose_by != "auto":
        return Choice(config.choose_by, "as --choose-by says")
    if config.stage == "language-model":
        return Choice("loss", "as captions are what this stage cannot make")
    if config.limit:
        return Choice("CIDEr", "as the training captions are to be learnt by heart")
    if config.stage == "self-critical":
        doubt = f", although of {counted} it is mostly chance" * (photos < ENOUGH_FOR_CIDER)
        return Choice("CIDEr", f"as captions are what is rewarded{doubt}")
    if photos >= ENOUGH_FOR_CIDER:
        return Choice("CIDEr", f"which {counted} are enough for")
    if photos >= ENOUGH_FOR_LOSS:
        return Choice(
            "loss", f"as CIDEr of {counted} is mostly chance (from {ENOUGH_FOR_CIDER} on it chooses)"
        )
    return Choice(
        "last", f"as {counted} cannot choose by anything; give {ENOUGH_FOR_LOSS} or more the split val"
    )
