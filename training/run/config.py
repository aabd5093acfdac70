"""One frozen record of everything that a training run depends on: YAML in and out, every field a flag."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from captionbot.errors import CaptionBotError, shortened
from captionbot.fields import about, abouts, set_types
from captionbot.files import aside
from captionbot.search.options import ABOUT as SEARCH
from training.data.files import parse_yaml, read_text

CONFIGS = Path(__file__).parents[1] / "configs"
REWARDS = ("cider", "bleu_4", "repeats")
MOST_RATE = 1e30  # what float32 can divide by Adam's bias correction
# what a run with `init` takes over from it, so that these fields say nothing of the run
INHERITED = ("family", "encoder", "encoder_config", "decoder", "image_size", "mean", "std", "vocabulary")


@dataclass(frozen=True)
class TrainingConfig:
    """A run: one stage of training of one captioner. Lengths in words, sizes in pixels, rates per step."""

    # Data
    name: str = about("the captioner's name, which its files have", "show-attend-tell-flickr8k")
    family: str = about("what the card says of its family", "show-attend-tell")
    data: str = about(
        "folder with the data set's annotation files, or one such file", "../shared/data/flickr8k"
    )
    format: str = about(
        "of the annotations, a key of training.data.formats.FORMATS, or auto to recognise it", "auto"
    )
    images: str = about("folder or tar of the photos; empty where they lie with the annotations", "")
    features: str = about(
        "ready-made features in the place of photos: .tsv of regions, .npz, .h5, or a folder of files or of "
        "CS231n's coco_captioning (training/data/ready.py)", "",
    )  # fmt: skip
    on_bad_image: str = about(
        "stop at a photo that cannot be read, or skip it and name it at the end", "stop",
        choices=("stop", "skip"),
    )  # fmt: skip
    text: str = about("file of captions without photos (.jsonl, .jsonl.gz) for the stage language-model", "")
    text_words: bool = about("let the words of --text into the vocabulary too", False)
    cache: str = about(
        "folder for decoded photos and frozen features; they are made again when anything changes", "cache"
    )
    cache_gib: float = about(
        "GiB of them beyond which what was not used for longest is removed, but nothing of the run's own",
        50.0, low=0,
    )  # fmt: skip
    limit: int = about(
        "use only the first so many training photos, and validate on them too; 0 uses all", 0, low=0
    )
    num_samples: int = about(
        "use only so many training captions: the first of each image, then the second; 0 uses all", 0, low=0
    )
    vocabulary: str = about(
        "words of the training captions, or the subwords of GPT-2 or BERT", "words",
        choices=("words", "gpt2", "bert"),
    )  # fmt: skip
    tokenizer: str = about("folder, file or Hub name of the subwords' tokenizer; empty for the usual one", "")
    min_count: int = about("words seen less often in the training captions become unknown", 4, low=0)
    max_size: int = about("words of the vocabulary, the most frequent ones; 0 for no limit", 0, low=0)
    max_words: int = about(
        "longer captions are cut; in subwords where the vocabulary has such", 20,
        low=1, high=SEARCH["max_length"].high,
    )  # fmt: skip
    captions_per_image: int = about("how many of each photo's captions are learnt from", 5, low=1)

    # Captioner
    init: str = about(
        "run folder or card to start from; its encoder, decoder, vocabulary and preprocessing are taken; "
        "of --decoder-config only dropout can be another", "",
    )  # fmt: skip
    extend_vocabulary: bool = about(
        "add to the vocabulary of --init the words of the training captions that it lacks, seen at least "
        "--min-count times each", False,
    )  # fmt: skip
    encoder: str = about("kind of encoder, a key of captionbot.encoders.ENCODERS", "grid")
    encoder_config: dict[str, Any] = about("fields of the encoder's configuration", factory=dict)
    encoder_weights: str = about(
        "safetensors of the CNN by torchvision's names, or the run folder or card of a captioner, for its "
        "encoder, in the place of that of --init", "",
    )  # fmt: skip
    decoder: str = about("kind of decoder, a key of captionbot.decoders.FAMILIES", "soft-attention")
    decoder_config: dict[str, Any] = about("fields of the decoder's configuration", factory=dict)
    image_size: int = about("height and width that photos are squashed to", 256, low=1, high=4096)
    mean: tuple[float, float, float] = about(
        "of red, green and blue, taken off pixels of 0 to 1", (0.485, 0.456, 0.406)
    )
    std: tuple[float, float, float] = about(
        "of red, green and blue, that pixels are divided by", (0.229, 0.224, 0.225)
    )

    # Stage
    stage: str = about(
        "cross-entropy; self-critical (arXiv 1612.00563); language-model, the decoder alone on --text with "
        "one place of zeros for a photo, to be the --init of a stage with photos", "cross-entropy",
        choices=("cross-entropy", "self-critical", "language-model"),
    )  # fmt: skip
    train_encoder: bool = about("fine-tune the CNN end to end", False)
    cache_features: bool = about(
        "compute a frozen CNN's features once; otherwise anew in every step, of photos that are cropped at "
        "random too", True,
    )  # fmt: skip
    flips: bool = about("also learn from mirrored photos", True)
    crop: float = about(
        "of photos that are not cached: the least share of its sides that a photo is cropped to", 0.8,
        low=0, high=1,
    )  # fmt: skip
    jitter: float = about(
        "of photos that are not cached: the most that contrast, colours and brightness change by", 0.0,
        low=0, high=1,
    )  # fmt: skip
    hide: float = about(
        "of cached features: the most that is left out of a photo's places, as a share", 0.0, low=0, high=1
    )
    hide_patches: float = about(
        "share of training photos that are seen with a random quarter of them under their mean colour", 0.0,
        low=0, high=1,
    )  # fmt: skip
    epochs: int = about("passes over the training photos", 10, low=1)
    max_steps: int = about("steps after which the run ends, whatever --epochs says; 0 for no limit", 0, low=0)
    batch_size: int = about("photos a step, of all processes together", 64, low=1)
    accumulate: int = about(
        "parts that a step's photos are seen in one after the other, to need less memory", 1, low=1
    )
    learning_rate: float = about(
        "peak of the decoder's rate, after --warmup-steps", 5e-4, low=0, high=MOST_RATE
    )
    encoder_learning_rate: float = about(
        "peak of the encoder's rate, with --train-encoder", 5e-5, low=0, high=MOST_RATE
    )
    schedule: str = about(
        "how rates go on after --warmup-steps: down by half a cosine or a line, by the inverse root of the "
        "steps (arXiv 1706.03762), or not at all", "cosine",
        choices=("cosine", "linear", "inverse-root", "constant"),
    )  # fmt: skip
    final_learning_rate: float = about("share of the peaks that a cosine or a line ends at", 0.05, low=0)
    warmup_steps: int = about("steps in which rates rise from 0", 100, low=0)
    weight_decay: float = about("of AdamW", 0.01, low=0)
    clip: float = about("norm that gradients are cut to; 0 for none", 1.0, low=0)
    label_smoothing: float = about("share of the target that all other words get", 0.1, low=0, high=1)
    doubly_stochastic: float = about("weight of the regulariser of arXiv 1502.03044, equation 14", 1.0, low=0)
    scheduled_sampling: float = about(
        "chance at the run's end that a word the decoder reads is one of its own, rising from 0 "
        "(arXiv 1506.03099)", 0.0, low=0, high=1,
    )  # fmt: skip
    word_dropout: float = about(
        "chance that a word the decoder reads is the unknown one (arXiv 1511.06349)", 0.0, low=0, high=1
    )
    teachers: tuple[str, ...] = about(
        "run folders or cards of captioners with the same vocabulary to learn from as well", ()
    )
    distillation: float = about(
        "share of the cross-entropy that the teachers' probabilities get (arXiv 1503.02531)", 0.5,
        low=0, high=1,
    )  # fmt: skip
    sentences: str = about(
        "file of a teacher's captions of the training photos, as training.evaluate --split train writes "
        "them, to be learnt before people's in the cross-entropy stage (arXiv 1606.07947, section 3.2); with "
        "--captions-per-image 1 they alone are learnt from", "",
    )  # fmt: skip
    ema: float = about(
        "decay of the moving average of the weights that is validated and exported; 0 for none", 0.99,
        low=0, high=1,
    )  # fmt: skip
    samples: int = about(
        "captions drawn per photo in the self-critical stage", 5, low=1, high=SEARCH["num_return"].high
    )
    temperature: float = about(
        "how boldly they are drawn", 1.0, low=SEARCH["temperature"].low, high=SEARCH["temperature"].high
    )
    objective: str = about(
        "how the drawn captions are learnt from: policy-gradient; best, of each photo's captions the best "
        "alone; or a loss over a photo's captions as wholes (arXiv 1711.04956, section 3): risk, the mean "
        "cost under their own probabilities, or that the best one be the likeliest, by sequence-nll, "
        "softmax-margin or max-margin",
        "policy-gradient",
        choices=("policy-gradient", "best", "risk", "sequence-nll", "softmax-margin", "max-margin"),
    )  # fmt: skip
    baseline: str = about(
        "what a drawn caption is to beat: the mean reward of the photo's others (arXiv 2003.09971), or that "
        "of the greedy caption (arXiv 1612.00563)", "mean", choices=("mean", "greedy"),
    )  # fmt: skip
    reward: dict[str, float] = about(
        "weights of cider (CIDEr-D), bleu_4 (smoothed, of one sentence) and repeats (what each noun, verb or "
        "adjective costs that was said before) in the reward",
        factory=lambda: {"cider": 1.0},
    )
    amp: str = about(
        "mixed precision: bf16 where the device computes it, fp16 on GPUs, or off", "bf16",
        choices=("bf16", "fp16", "off"),
    )  # fmt: skip

    # Validation, keeping and watching
    beam_size: int = about("of the search on val", 3, low=1, high=SEARCH["beam_size"].high)
    length_penalty: float = about(
        "of the search on val, and what the card asks for", 0.7,
        low=SEARCH["length_penalty"].low, high=SEARCH["length_penalty"].high,
    )  # fmt: skip
    choose_by: str = about(
        "what chooses the epoch that is kept: CIDEr or loss on val, or last for the last; auto chooses by "
        "CIDEr where val has photos enough, else by loss, and takes the last where val is tiny", "auto",
        choices=("auto", "CIDEr", "loss", "last"),
    )  # fmt: skip
    patience: int = about(
        "epochs without a better score on val after which to stop, where a score chooses", 3, low=1
    )
    seed: int = about("of all that is drawn by chance", 1, low=0, high=2**32 - 1)  # numpy's
    checkpoint_minutes: float = about("between checkpoints of the run", 3.0, low=0)
    keep: int = about(
        "how many of the best epochs' captioners to keep for training.average, in RUN/kept", 0, low=0
    )
    sample_photos: int = about(
        "val photos whose captions and heatmaps tensorboard gets after every epoch", 8, low=0
    )

    def __post_init__(self) -> None:
        if isinstance(self.amp, bool):  # YAML reads "off" as False
            object.__setattr__(self, "amp", "bf16" if self.amp else "off")
        if isinstance(self.teachers, str):
            object.__setattr__(self, "teachers", (self.teachers,))
        set_types(self)
        check_name(self.name)
        check_ranges(self)
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
        if self.features and (self.train_encoder or self.teachers or self.hide_patches):
            raise CaptionBotError(
                "Ready-made features come of no encoder that could be trained; teachers and hidden patches "
                "need photos; leave out --train-encoder, --teachers and --hide-patches, or --features."
            )
        compared = self.baseline == "mean" or self.objective not in ("policy-gradient", "best")
        if self.stage == "self-critical" and compared and self.samples < 2:
            raise CaptionBotError("The mean of the other samples needs others; give --samples 2 or more.")


ABOUT = abouts(TrainingConfig)
"""What each field is for."""
_METAVARS = {
    "str": "TEXT",
    "int": "N",
    "bool": "true|false",
    "tuple": "'[A, B, ...]'",
    "dict": "'{NAME: VALUE}'",
}


def check_ranges(record: Any) -> None:
    """Refuse values of a record's fields that its `About`s do not allow."""
    for name, said in abouts(type(record)).items():
        value = getattr(record, name)
        if said.choices and value not in said.choices:
            raise CaptionBotError(
                f"{name} is '{shortened(value, 60)}'; choose one of {', '.join(said.choices)}."
            )
        if (said.low, said.high) == (0, 1):
            check_shares(record, [name])
        elif said.low is not None:
            check_least(record, {name: said.low}, {} if said.high is None else {name: said.high})


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
        kind = str if f.type == "str" else _yaml
        words = ABOUT[f.name].help
        if allowed := ABOUT[f.name].allowed:
            words += f" ({allowed})"
        metavar = _METAVARS.get(str(f.type).partition("[")[0], "X")
        parser.add_argument(
            flag, dest=f.name, default=None, type=kind, metavar=metavar, help=words.replace("%", "%%")
        )


def given_flags(arguments: argparse.Namespace) -> dict[str, Any]:
    names = [f.name for f in dataclasses.fields(TrainingConfig)]
    return {n: getattr(arguments, n) for n in names if getattr(arguments, n) is not None}


def _yaml(text: str) -> Any:
    try:
        return parse_yaml(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{shortened(text)}' is not YAML ({error})") from None
