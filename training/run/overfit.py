"""Learn a few captions by heart, and draw how it went: `python -m training.overfit --model rnn`.

A captioner that is wired right says its training captions word for word and knows nothing of other
photos: the demonstration of Stanford's CS231n, on real photos. Flags of `training.train` may follow.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import yaml
from PIL import Image

from captionbot import Captioner
from captionbot.cli.commands import Parser, command
from captionbot.decoders import FAMILIES
from captionbot.text.display import sentence
from training.data import Example
from training.data.formats import load_dataset
from training.data.ready import open_ready
from training.evaluation.evaluate import caption_ready
from training.run import train
from training.run.config import TrainingConfig, load_config
from training.run.splits import photos_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CONFIG = "from-scratch-overfit"
MODELS = {
    name: (kind, dict(sizes)) for kind, family in FAMILIES.items() for name, sizes in family.small.items()
}


@command
def main(arguments: list[str] | None = None) -> int:
    parser = Parser(
        "python -m training.overfit", description="Learn a few captions by heart, and draw how it went."
    )
    parser.add_argument("--model", choices=MODELS, default="rnn")
    parser.add_argument(
        "--num-samples",
        type=int,
        default=300,
        help="captions to learn: one of each photo, of fewer photos then a second (default: %(default)s)",
    )
    parser.add_argument("--out", type=Path, help="folder of the run (default: runs/overfit-MODEL)")
    given, flags = parser.parse_known_args(arguments)
    out = given.out or Path("runs") / f"overfit-{given.model}"
    kind, sizes = MODELS[given.model]
    run = [
        "--config",
        CONFIG,
        "--out",
        str(out),
        "--decoder",
        kind,
        "--decoder-config",
        yaml.safe_dump(sizes),
    ]
    count = str(given.num_samples)
    if status := train.main([*run, "--limit", count, "--num-samples", count, *flags]):
        return status
    draw(out)
    return 0


def draw(out: Path) -> None:
    """Write loss.png and photos.png beside a run's captioner; of features its captions are printed."""
    config = load_config(str(out / "config.yaml"))
    loss_curve(*read_losses(out)).savefig(out / "loss.png")
    captioner = Captioner.from_pretrained(out)
    print(f"The loss is drawn in {out / 'loss.png'}.")
    if config.features:
        print_captions(captioner, config)
        return
    rows = []
    for split in ("train", "val"):
        names, photos, truths = _two_of(config, split)
        found = captioner.caption(photos, beam_size=1)
        rows += [
            (f"{split}: {name}", photo, captioned.captions[0].text, truth)
            for name, photo, captioned, truth in zip(names, photos, found, truths, strict=True)
        ]
    photo_sheet(rows).savefig(out / "photos.png")
    print(f"Two photos of train and two of val are in {out / 'photos.png'}.")


def print_captions(captioner: Captioner, config: TrainingConfig) -> None:
    """Captions of two images of train and two of val, from ready-made features alone."""
    ready, options = open_ready(config.features), captioner.options(beam_size=1)
    for split in ("train", "val"):
        examples = _examples(config, split)
        said = caption_ready(captioner, ready, examples, options, len(examples))
        for example in examples:
            print(
                f"{split}: {example.name}\n  predicted: {said[example.name]}\n  true: {example.captions[0]}"
            )


def read_losses(out: Path) -> tuple[list[int], list[float]]:
    """Steps of a run and the loss at each."""
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

    events = EventAccumulator(str(out / "tensorboard"), {SCALARS: 0}).Reload()
    losses = {event.step: event.value for event in events.Scalars("loss")}  # of a step done again, the last
    steps = sorted(losses)
    return steps, [losses[step] for step in steps]


def loss_curve(steps: list[int], losses: list[float]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure((7, 4), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.plot(steps, losses, linewidth=1)
    axes.set(xlabel="step", ylabel="loss (nats a word)", title=f"Loss: {losses[-1]:.3f} at the end")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    return figure


def photo_sheet(photos: list[tuple[str, Image.Image, str, str]]) -> Figure:
    """A drawing of photos, each with its title, what the captioner says and what a person wrote."""
    from matplotlib.figure import Figure

    figure = Figure((10, 10), dpi=120, layout="constrained")
    for i, (title, photo, predicted, truth) in enumerate(photos):
        axes = figure.add_subplot(2, -(-len(photos) // 2), i + 1)
        axes.imshow(np.asarray(photo))
        axes.axis("off")
        axes.set_title(title, fontsize=10)
        says = f"predicted: {sentence(predicted)}\ntrue: {sentence(truth)}"
        axes.text(0, -0.02, says, transform=axes.transAxes, va="top", fontsize=9, wrap=True, parse_math=False)
    return figure


def _examples(config: TrainingConfig, split: str) -> list[Example]:
    """The first two examples of a split."""
    return [e for e in load_dataset(config.data, config.format) if e.captions and e.split == split][:2]


def _two_of(config: TrainingConfig, split: str) -> tuple[list[str], list[Image.Image], list[str]]:
    """Names, photos and first captions of a split's first two photos."""
    examples = _examples(config, split)
    store = photos_of(config)
    photos = [store.load(e.name) for e in examples]
    return [e.name for e in examples], photos, [e.captions[0].strip(" .") for e in examples]
