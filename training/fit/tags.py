"""Put tags in front of a GPT-2 captioner: `python -m training.tags --config NAME --init RUN --out DIR`.

S002's "<dog> <bark>, <image>, words": a tag is a content word of the training captions, and a linear
classifier of the image's features says which ones are likely, as in arXiv 1411.4952, section 3, without
its boxes. What is written is the captioner with its classifier: train on with `--init DIR`, so that it
learns what the tags are good for.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from captionbot.cli.commands import Parser, command
from captionbot.decoders.gpt2_prefix import GPT2PrefixDecoder, Tagger
from captionbot.errors import CaptionBotError
from captionbot.images.load import Preprocessing
from captionbot.store import card as cards
from captionbot.text.vocabulary import Vocabulary, load_vocabulary
from training.run.captioners import build_captioner
from training.run.config import TrainingConfig, add_flags, given_flags, load_config
from training.run.distributed import join_world
from training.run.features import FeatureSource, cached_features
from training.run.splits import Split, read_splits, with_pixels

FUNCTION_WORDS = frozenset(
    """
    a an the this that these those some any each every all both another other others one two three four five
    six several many few more most it its itself he him his she hers her they them their there who whom whose
    which what where while when as and or but nor so than then if not no n't 's 'd 're is are was were be
    been being am do does did done has have had having can could will would may might must to of in on at by
    for from with without into onto off over under through across along around about above below behind
    beside between among against near next up down out inside outside toward towards past during before
    after within upon away back front top side very also just only like such too together apart
    """.split()  # noqa: SIM905 (a list of so many strings is harder to read)
)
BATCH = 256
DECAY = 0.02  # of the squared weights of a tag


@command
def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser("python -m training.tags", description="Put tags in front of a GPT-2 captioner.")
    parser.add_argument("--config", required=True, help="name in training/configs, or YAML file")
    parser.add_argument("--out", type=Path, required=True, help="folder for the captioner with tags")
    parser.add_argument("--words", type=int, default=300, help="tags to know (default: %(default)s)")
    parser.add_argument("--tags", type=int, default=5, help="tags to say of a photo (default: %(default)s)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add_flags(parser)
    given = parser.parse_args(arguments)
    put_tags(load_config(given.config, **given_flags(given)), given)
    return 0


def put_tags(config: TrainingConfig, given: argparse.Namespace) -> None:
    """Learn a tagger on the captioner of a configuration, say how good it is, and write both."""
    torch.manual_seed(config.seed)
    splits = read_splits(config)
    card, model = build_captioner(config, (words for image in splits[0].captions for words in image))
    if not isinstance(model.decoder, GPT2PrefixDecoder):
        raise CaptionBotError(
            f"Tags stand in front of gpt2-prefix decoders, and this captioner's is {card.decoder['kind']}; "
            "give the --init or the --config of a GPT-2 captioner."
        )
    vocabulary, preprocessing = load_vocabulary(card.vocabulary), Preprocessing.from_json(card.preprocessing)
    words = content_words((words for image in splits[0].captions for words in image), vocabulary, given.words)
    tagger = Tagger(model.decoder.config.feature_size, len(words))
    pooled, targets = [], []
    with join_world(given.device) as world:
        for split in splits:
            split, pixels = with_pixels(split, config, preprocessing, world)
            encoder = model.encoder.to(world.device)
            features = cached_features(
                encoder, preprocessing, pixels, False, Path(config.cache), world.device, config.amp
            )
            pooled.append(pool(tagger, encoder, features, len(split)))
            targets.append(mentions(split, words))
    fit(tagger, pooled[0], targets[0])
    right, usual = precision(tagger, pooled[1], targets[0], targets[1], given.tags)
    print(
        f"{len(words)} tags, most frequent first: {' '.join(words[:10])} ...\n"
        f"of the {given.tags} tags of a val photo {right:.1%} are in its captions "
        f"(of the {given.tags} most frequent: {usual:.1%})"
    )
    tags = {"tag_ids": vocabulary.encode(words), "tags": given.tags}
    old = model.decoder
    decoder = GPT2PrefixDecoder(dataclasses.replace(old.config, pretrained="", **tags))
    decoder.load_state_dict(old.state_dict() | {f"tagger.{k}": v for k, v in tagger.state_dict().items()})
    written = cards.save(
        given.out, dataclasses.replace(card, decoder=card.decoder | tags), model.encoder.cpu(), decoder
    )
    print(written)


def content_words(captions: Iterable[Sequence[str]], vocabulary: Vocabulary, count: int) -> list[str]:
    """The words that most captions mention, but for those that any sentence has; most frequent first.

    vocabulary: only its words, or those that its subwords write in one piece.
    count: how many words at most.
    """
    found = Counter(word for caption in captions for word in set(caption))
    words = [word for word in found if word.isalpha() and len(word) > 1 and word not in FUNCTION_WORDS]
    words.sort(key=lambda word: (-found[word], word))
    ids = ((word, vocabulary.encode([word])) for word in words)
    return [word for word, pieces in ids if len(pieces) == 1 and vocabulary.unk_id not in pieces][:count]


def mentions(split: Split, words: Sequence[str]) -> Tensor:
    """(n, words) the share of an image's captions that mention a word."""
    place = {word: i for i, word in enumerate(words)}
    shares = torch.zeros(len(split), len(words))
    for i, captions in enumerate(split.captions):
        for caption in captions:
            for word in set(caption) & place.keys():
                shares[i, place[word]] += 1 / len(captions)
    return shares


@torch.inference_mode()
def pool(tagger: Tagger, encoder: torch.nn.Module, features: FeatureSource, images: int) -> Tensor:
    """(n, C) what the tagger's linear layer reads of each image."""
    batches = torch.arange(images).split(BATCH)
    return torch.cat([tagger.pool(features(encoder, batch.numpy())).cpu() for batch in batches])


def fit(tagger: Tagger, pooled: Tensor, targets: Tensor) -> None:
    """Logistic regression of every tag. pooled: (n, C); targets: (n, tags) in 0..1."""
    pooled = pooled.clone()  # no inference tensor, so that autograd may keep it
    weight, bias = tagger.linear.weight, tagger.linear.bias
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=100, line_search_fn="strong_wolfe")

    def cost() -> Tensor:
        optimizer.zero_grad()
        wrong = F.binary_cross_entropy_with_logits(tagger.linear(pooled), targets, reduction="none")
        loss = wrong.sum(1).mean() + DECAY / 2 * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(cost)  # type: ignore[arg-type]


@torch.inference_mode()
def precision(
    tagger: Tagger, pooled: Tensor, known: Tensor, targets: Tensor, tags: int
) -> tuple[float, float]:
    """The share of the likeliest tags that some caption of the image mentions, and that of the most usual.

    pooled: (n, C) and targets: (n, all tags) of images that were not learnt from; known: of those that were.
    """
    said = targets > 0
    best = tagger.linear(pooled).topk(tags).indices
    usual = known.mean(0).topk(tags).indices
    return float(said.gather(1, best).float().mean()), float(said[:, usual].float().mean())
