"""One frozen record of everything that a training run depends on: YAML in and out, every field a flag."""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from captionbot.errors import CaptionBotError

CONFIGS = Path(__file__).parent / "configs"


@dataclass(frozen=True)
class TrainingConfig:
    """A run: one stage of training of one captioner. Lengths in words, sizes in pixels, rates per step.

    Data
    data: folder with the data set's annotation files and its photos (a folder or tar files).
    cache: folder for decoded photos and frozen features; they are made again when anything changes.
    limit: use only the first so many training photos and validate on them too ("overfit 20 first").
    min_count: words seen less often in the training captions become unknown.
    max_words: longer captions are cut.
    captions_per_image: how many of each photo's captions are learnt from.

    Captioner
    init: run folder or card to start from; its encoder, decoder, vocabulary and preprocessing are taken
        over, and of decoder_config only the dropout can be another.
    encoder_weights: safetensors of the CNN by torchvision's names, to start from when there is no init.

    Stage
    stage: "cross-entropy", or "self-critical" (arXiv 1612.00563, the mean of the other samples as
        baseline, arXiv 2003.09971).
    train_encoder: fine-tune the CNN end to end; otherwise its features are computed once and cached.
    flips: also learn from mirrored photos.
    doubly_stochastic: weight of the regulariser of arXiv 1502.03044, equation 14.
    ema: decay of the moving average of the weights that is validated and exported; 0 for none.
    samples, temperature: captions drawn per photo in the self-critical stage, and how boldly.
    amp: mixed precision in bf16, where the device is a GPU.
    patience: epochs without a better CIDEr on val after which to stop.
    """

    name: str = "show-attend-tell-flickr8k"
    family: str = "show-attend-tell"
    data: str = "../shared/data/flickr8k"
    cache: str = "cache"
    limit: int = 0
    min_count: int = 4
    max_words: int = 20
    captions_per_image: int = 5

    init: str = ""
    encoder: str = "grid"
    encoder_config: dict[str, Any] = field(default_factory=dict)
    encoder_weights: str = ""
    decoder: str = "soft-attention"
    decoder_config: dict[str, Any] = field(default_factory=dict)
    image_size: int = 256
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    stage: str = "cross-entropy"
    train_encoder: bool = False
    flips: bool = True
    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 5e-4
    encoder_learning_rate: float = 5e-5
    final_learning_rate: float = 0.05
    warmup_steps: int = 100
    weight_decay: float = 0.01
    clip: float = 1.0
    label_smoothing: float = 0.1
    doubly_stochastic: float = 1.0
    ema: float = 0.99
    samples: int = 5
    temperature: float = 1.0
    amp: bool = True

    beam_size: int = 3
    length_penalty: float = 0.7
    patience: int = 3
    seed: int = 1
    checkpoint_minutes: float = 3.0

    def __post_init__(self) -> None:
        if self.stage not in ("cross-entropy", "self-critical"):
            raise CaptionBotError(
                f"'{self.stage}' is not a stage of training; choose cross-entropy or self-critical."
            )


def load_config(name_or_file: str, **overrides: Any) -> TrainingConfig:
    """A configuration by its name in `training/configs`, or from a YAML file, with fields replaced."""
    path = Path(name_or_file)
    if not path.is_file():
        path = CONFIGS / f"{name_or_file}.yaml"
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in CONFIGS.glob("*.yaml")))
        raise CaptionBotError(
            f"There is no configuration '{name_or_file}'; choose one of {names}, or a YAML file."
        )
    values = yaml.safe_load(path.read_text()) or {}
    known = {f.name for f in dataclasses.fields(TrainingConfig)}
    if unknown := sorted(set(values) - known):
        raise CaptionBotError(
            f"{path.name} has fields that do not exist: {', '.join(unknown)}; see training/config.py."
        )
    values = {"name": path.stem, **values, **overrides}
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return TrainingConfig(**fields)


def save_config(config: TrainingConfig, path: Path) -> None:
    values = {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(config).items()}
    path.write_text(yaml.safe_dump(values, sort_keys=False))


def add_flags(parser: argparse.ArgumentParser) -> None:
    """One flag for each field; what is not given keeps the configuration's value."""
    for f in dataclasses.fields(TrainingConfig):
        flag = f"--{f.name.replace('_', '-')}"
        parser.add_argument(flag, dest=f.name, default=None, type=yaml.safe_load, help=f"(YAML) {f.type}")


def given_flags(arguments: argparse.Namespace) -> dict[str, Any]:
    names = [f.name for f in dataclasses.fields(TrainingConfig)]
    return {n: getattr(arguments, n) for n in names if getattr(arguments, n) is not None}
