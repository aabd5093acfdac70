"""One frozen record of everything that a training run depends on: YAML in and out, every field a flag."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from captionbot.errors import CaptionBotError, shortened
from captionbot.fields import set_types
from captionbot.files import aside
from captionbot.search.options import ALLOWED
from training.data.files import parse_yaml, read_text

CONFIGS = Path(__file__).parents[1] / "configs"
REWARDS = ("cider", "bleu_4")
CHOICES = {
    "stage": ("cross-entropy", "self-critical", "language-model"),
    "vocabulary": ("words", "gpt2", "bert"),
    "on_bad_image": ("stop", "skip"),
    "baseline": ("mean", "greedy"),
    "amp": ("bf16", "fp16", "off"),
}
LEAST = {
    **dict.fromkeys(("epochs", "patience", "batch_size", "captions_per_image", "max_words", "image_size"), 1),
    **dict.fromkeys(("samples", "beam_size"), 1),
    **dict.fromkeys(("limit", "min_count", "max_size", "warmup_steps", "keep", "sample_photos"), 0),
    **dict.fromkeys(("learning_rate", "encoder_learning_rate", "final_learning_rate", "weight_decay"), 0),
    **dict.fromkeys(("clip", "doubly_stochastic"), 0),
    **dict.fromkeys(("seed", "checkpoint_minutes"), 0),
    "temperature": ALLOWED["temperature"][1],
    "length_penalty": ALLOWED["length_penalty"][1],
}
MOST = {
    **{name: ALLOWED[name][2] for name in ("beam_size", "length_penalty", "temperature")},
    "samples": ALLOWED["num_return"][2],
    "max_words": ALLOWED["max_length"][2],
    "seed": 2**32 - 1,  # numpy's
    "image_size": 4096,
    # what float32 can divide by Adam's bias correction
    **dict.fromkeys(("learning_rate", "encoder_learning_rate"), 1e30),
}
SHARES = ("label_smoothing", "scheduled_sampling", "word_dropout", "distillation", "ema", "crop", "jitter")
# what a run with `init` takes over from it, so that these fields say nothing of the run
INHERITED = ("family", "encoder", "encoder_config", "decoder", "image_size", "mean", "std", "vocabulary")


@dataclass(frozen=True)
class TrainingConfig:
    """A run: one stage of training of one captioner. Lengths in words, sizes in pixels, rates per step.

    Data
    data: folder with the data set's annotation files, or one such file.
    format: of the annotations, a key of training.data.formats.FORMATS, or "auto" to recognise it.
    images: folder or tar of the photos; "" where they lie with the annotations.
    on_bad_image: "stop" at a photo that cannot be read, or "skip" it and name it at the end.
    text: file of captions without photos (.jsonl, .jsonl.gz) for the stage "language-model".
    text_words: let the words of `text` into the vocabulary too.
    cache: folder for decoded photos and frozen features; they are made again when anything changes.
    limit: use only the first so many training photos and validate on them too ("overfit 20 first").
    vocabulary: "words" of the training captions, or the subwords of "gpt2" or "bert".
    tokenizer: folder, file or Hub name of the subwords' tokenizer; "" for the usual one.
    min_count: words seen less often in the training captions become unknown.
    max_size: of the vocabulary, its most frequent words; 0 for no limit.
    max_words: longer captions are cut; in subwords where the vocabulary has such.
    captions_per_image: how many of each photo's captions are learnt from.

    Captioner
    init: run folder or card to start from; its encoder, decoder, vocabulary and preprocessing are taken
        over, and of decoder_config only dropout can be another.
    extend_vocabulary: add to the vocabulary of init the words of the training captions that it lacks, each
        seen at least min_count times.
    encoder_weights: safetensors of the CNN by torchvision's names, or the run folder or card of a
        captioner whose encoder to take, in the place of init's where there is one.

    Stage
    stage: "cross-entropy"; "self-critical" (arXiv 1612.00563); "language-model", the decoder alone on
        `text`, with one place of zeros for a photo, to be the `init` of a stage with photos.
    train_encoder: fine-tune the CNN end to end.
    cache_features: compute a frozen CNN's features once; otherwise anew in every step, of photos that are
        cropped at random too.
    flips: also learn from mirrored photos.
    crop, jitter: of photos that are not cached: the least share of its sides that a photo is cropped to, and
        the most that its contrast, colours and brightness change by.
    doubly_stochastic: weight of the regulariser of arXiv 1502.03044, equation 14.
    scheduled_sampling: chance at the run's end that a word the decoder reads is one of its own, rising
        from 0 (arXiv 1506.03099).
    word_dropout: chance that a word the decoder reads is the unknown one (arXiv 1511.06349).
    teachers: run folders or cards of captioners with the same vocabulary to learn from as well.
    distillation: share of the cross-entropy that the teachers' probabilities get (arXiv 1503.02531).
    sentences: file of a teacher's captions of the training photos, as `training.evaluate --split train`
        writes them, to be learnt before people's in the cross-entropy stage (arXiv 1606.07947, section
        3.2). With captions_per_image 1 they alone are learnt from.
    ema: decay of the moving average of the weights that is validated and exported; 0 for none.
    samples, temperature: captions drawn per photo in the self-critical stage, and how boldly.
    baseline: what a drawn caption is to beat: the "mean" reward of the photo's others (arXiv 2003.09971)
        or that of the "greedy" caption (arXiv 1612.00563).
    reward: weights of "cider" (CIDEr-D) and "bleu_4" (smoothed, of one sentence) in the reward.
    amp: mixed precision: "bf16" where the device computes it, "fp16" on GPUs, or "off".
    batch_size: photos a step, of all processes together.
    learning_rate, encoder_learning_rate: peaks, after warmup_steps; final_learning_rate: share of them
        that a half cosine ends at.
    patience: epochs without a better score on val after which to stop.

    Keeping and watching
    keep: how many of the best epochs' captioners to keep for `training.compress.average`, in RUN/kept.
    sample_photos: val photos whose captions and heatmaps tensorboard gets after every epoch.
    """

    name: str = "show-attend-tell-flickr8k"
    family: str = "show-attend-tell"
    data: str = "../shared/data/flickr8k"
    format: str = "auto"
    images: str = ""
    on_bad_image: str = "stop"
    text: str = ""
    text_words: bool = False
    cache: str = "cache"
    limit: int = 0
    vocabulary: str = "words"
    tokenizer: str = ""
    min_count: int = 4
    max_size: int = 0
    max_words: int = 20
    captions_per_image: int = 5

    init: str = ""
    extend_vocabulary: bool = False
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
    cache_features: bool = True
    flips: bool = True
    crop: float = 0.8
    jitter: float = 0.0
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
    scheduled_sampling: float = 0.0
    word_dropout: float = 0.0
    teachers: tuple[str, ...] = ()
    distillation: float = 0.5
    sentences: str = ""
    ema: float = 0.99
    samples: int = 5
    temperature: float = 1.0
    baseline: str = "mean"
    reward: dict[str, float] = field(default_factory=lambda: {"cider": 1.0})
    amp: str = "bf16"

    beam_size: int = 3
    length_penalty: float = 0.7
    patience: int = 3
    seed: int = 1
    checkpoint_minutes: float = 3.0
    keep: int = 0
    sample_photos: int = 8

    def __post_init__(self) -> None:
        if isinstance(self.amp, bool):  # YAML reads "off" as False
            object.__setattr__(self, "amp", "bf16" if self.amp else "off")
        if isinstance(self.teachers, str):
            object.__setattr__(self, "teachers", (self.teachers,))
        set_types(self)
        check_name(self.name)
        check_least(self, LEAST, MOST)
        check_shares(self, SHARES)
        for name, allowed in CHOICES.items():
            if (value := getattr(self, name)) not in allowed:
                raise CaptionBotError(
                    f"{name} is '{shortened(value, 60)}'; choose one of {', '.join(allowed)}."
                )
        if not min(self.std) > 0:
            raise CaptionBotError(f"std is {list(self.std)}; give three numbers above 0.")
        if not self.reward:
            raise CaptionBotError("The reward is empty; give a weight, as in --reward '{cider: 1.0}'.")
        if unknown := sorted(set(self.reward) - set(REWARDS)):
            raise CaptionBotError(
                f"'{shortened(unknown[0], 60)}' is no part of a reward; choose from {', '.join(REWARDS)}."
            )
        if self.stage == "language-model" and not self.text:
            raise CaptionBotError(
                "The stage language-model learns from captions without photos; give --text FILE.jsonl."
            )
        if self.stage == "self-critical" and self.baseline == "mean" and self.samples < 2:
            raise CaptionBotError("The mean of the other samples needs others; give --samples 2 or more.")


def check_least(values: object, least: Mapping[str, float], most: Mapping[str, float] | None = None) -> None:
    """Refuse numbers, of fields or of flags, below the least that is allowed, or above the most."""
    for name, low in least.items():
        if not (value := getattr(values, name)) >= low:  # so that what is no number is refused too
            raise CaptionBotError(f"{name} is {shortened(value, 60)}; give {low} or more.")
    for name, high in (most or {}).items():
        if (value := getattr(values, name)) > high:
            raise CaptionBotError(f"{name} is {shortened(value, 60)}; give {high} or less.")


def check_shares(values: object, names: Sequence[str]) -> None:
    for name in names:
        if not 0 <= (value := getattr(values, name)) <= 1:
            raise CaptionBotError(f"{name} is {value}; give a share from 0 to 1.")


def check_name(name: str) -> None:
    """Refuse a captioner's name that cannot be that of its files, or would put them elsewhere."""
    if not name or Path(name).name != name:
        raise CaptionBotError(f"name is '{shortened(name)}'; give one that can be a file's, without slashes.")


def load_config(name_or_file: str, **overrides: Any) -> TrainingConfig:
    """A configuration by its name in `training/configs`, or from a YAML file, with fields replaced."""
    path, values = read_config(TrainingConfig, CONFIGS, name_or_file)
    return TrainingConfig(**{"name": path.stem, **values, **overrides})


def read_config(record: type, folder: Path, name_or_file: str) -> tuple[Path, dict[str, Any]]:
    """The file of a configuration, by its name in a folder or by its path, and its fields.

    record: the dataclass that the fields must belong to.
    """
    path = Path(name_or_file)
    if not path.is_file():
        path = folder / f"{name_or_file}.yaml"
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in folder.glob("*.yaml")))
        raise CaptionBotError(
            f"There is no configuration '{shortened(name_or_file)}'; choose one of {names}, or a YAML file."
        )
    try:
        values = parse_yaml(read_text(path)) or {}
    except ValueError as error:
        raise CaptionBotError(f"{shortened(path)} is not YAML that can be read ({error}); mend it.") from None
    if not isinstance(values, dict):
        raise CaptionBotError(
            f"{shortened(path)} is no configuration; give YAML with a line `field: value` for each."
        )
    if unknown := sorted(set(map(shortened, values)) - {f.name for f in dataclasses.fields(record)}):
        raise CaptionBotError(
            f"{path.name} has fields that do not exist: {shortened(', '.join(unknown))}; "
            f"see {record.__name__}."
        )
    return path, values


def save_config(config: TrainingConfig, path: Path) -> None:
    values = {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(config).items()}
    with aside(path) as partial:  # a full disk would leave nothing of the file that was there
        partial.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """One flag for each field; what is not given keeps the configuration's value."""
    for f in dataclasses.fields(TrainingConfig):
        flag = f"--{f.name.replace('_', '-')}"
        # text is taken as it stands: a folder may be called 2024 or "photos #2"
        kind, about = (str, "text") if f.type == "str" else (_yaml, f"(YAML) {f.type}")
        parser.add_argument(flag, dest=f.name, default=None, type=kind, help=about)


def given_flags(arguments: argparse.Namespace) -> dict[str, Any]:
    names = [f.name for f in dataclasses.fields(TrainingConfig)]
    return {n: getattr(arguments, n) for n in names if getattr(arguments, n) is not None}


def _yaml(text: str) -> Any:
    try:
        return parse_yaml(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{shortened(text)}' is not YAML ({error})") from None
