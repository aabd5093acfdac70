"""Photos in, captions out: an encoder, a decoder and the one search, behind one call."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from PIL import Image
from torch import nn

from captionbot.backends import compile as compilation
from captionbot.backends import cpu
from captionbot.backends.cpu import precision as arithmetic
from captionbot.backends.cpu.threads import one_after_a_fork, one_unless_they_spin
from captionbot.decoders import Decoder
from captionbot.errors import CaptionBotError
from captionbot.images.load import Preprocessing, boxes_to_image, to_pixel_values, upright_rgb
from captionbot.search.beam import beam_search, image_of
from captionbot.search.confidence import judge_of
from captionbot.search.constraints import Banned
from captionbot.search.options import SearchOptions, checked_text
from captionbot.store import card as cards
from captionbot.store.card import Card
from captionbot.store.registry import find_card
from captionbot.text.pieces import of_words
from captionbot.text.vocabulary import load_vocabulary
from captionbot.types import Caption, Captioned, Features, Hypothesis, Judgement, Search, Size, Word

DEVICES = ("auto", "cpu", "cuda", "mps")


class Captioner:
    """A trained captioner. One serves all threads: nothing of a call is kept on it.

    >>> captioner = Captioner.from_pretrained()
    >>> captioner.caption([image], beam_size=5)[0].captions[0].text
    'a brown dog runs through the grass'
    """

    def __init__(self, card: Card, encoder: nn.Module, decoder: Decoder, device: torch.device) -> None:
        self.card = card
        self.device = device
        self.encoder = encoder.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.decoder = decoder.to(device)
        # What photos are encoded with; `encoder` has gradients too.
        self._encode: Callable[[torch.Tensor], Features] = self.encoder
        self.precision = "float32"
        """As `from_pretrained` takes it: where an approximation is allowed, and which."""
        self.vocabulary = load_vocabulary(card.vocabulary)
        self.preprocessing = Preprocessing.from_json(card.preprocessing)
        self.judge = judge_of(card.confidence, decoder.evidence, self.vocabulary)

    @classmethod
    def from_pretrained(
        cls,
        name_or_dir: str | Path | None = None,
        device: str | torch.device = "auto",
        precision: str | None = None,
        compiled: bool | None = None,
    ) -> Captioner:
        """The captioner of a name that ships, of a folder with a card, or of a card; None: the default.

        device: auto (CUDA, else MPS, else CPU), cpu, cuda or mps.
        precision: auto, float32, half, float16 or bfloat16 on a CPU, see
            `captionbot.backends.cpu.precision.choose`; None asks the environment's CAPTIONBOT_PRECISION,
            then the card.
        compiled: let torch compile the decoder's steps, for many photos on a GPU: see
            `captionbot.backends.compile`. None asks the environment's CAPTIONBOT_COMPILE.
        Raises CaptionBotError for an unknown name or precision, weights that do not fit, or a device that is
        not there.
        """
        one_after_a_fork()
        chosen = _device(device)
        card, encoder, decoder = cards.load(find_card(name_or_dir))
        precision = arithmetic.known(precision or arithmetic.asked_for(card.precision))
        captioner = cls(card, encoder, decoder, chosen)
        if compilation.asked_for() if compiled is None else compiled:
            captioner.decoder = compilation.compiled(captioner.decoder)
        if chosen.type == "cpu":
            captioner.precision = precision
            captioner._encode, captioner.decoder = cpu.packed(encoder, captioner.decoder, precision)
        return captioner

    def __reduce__(self) -> NoReturn:
        raise CaptionBotError(
            "A captioner cannot be pickled or copied, since a CPU packs weights for itself: "
            "call Captioner.from_pretrained in every process that needs one."
        )

    @property
    def name(self) -> str:
        return self.card.name

    def options(self, **changes: Any) -> SearchOptions:
        """The search options that this captioner was chosen with, some of them changed."""
        if unknown := sorted(set(changes) - {f.name for f in dataclasses.fields(SearchOptions)}):
            allowed = ", ".join(f.name for f in dataclasses.fields(SearchOptions))
            raise CaptionBotError(f"There is no search option '{unknown[0]}'; choose from {allowed}.")
        defaults = self.card.search
        if changes.get("sample"):  # drawing has no beam
            defaults = {k: v for k, v in defaults.items() if k != "beam_size"}
        return SearchOptions(**{**defaults, **changes})

    def caption(
        self,
        images: Image.Image | Sequence[Image.Image],
        options: SearchOptions | None = None,
        *,
        prefix: str = "",
        banned_words: Sequence[str] = (),
        batch_size: int = 32,
        **search_options: Any,
    ) -> list[Captioned]:
        """One `Captioned` an image, in the order given, each with at least one caption of at least one word.

        images: as `captionbot.images.load.load_image` gives them; other PIL images are made so first.
        options: search options, or give them by name (beam_size=5, num_return=3, ...).
        prefix: words that every caption starts with.
        banned_words: words that no caption has, but for those of the prefix.
        batch_size: images captioned at once.
        Raises CaptionBotError for options that make no sense, words outside the vocabulary, and images that
        are none.
        """
        one = isinstance(images, Image.Image | str | bytes) or not isinstance(images, Iterable)
        images = [images] if one else list(images)  # type: ignore[list-item, arg-type]
        if not isinstance(batch_size, Integral) or batch_size < 1:
            raise CaptionBotError(f"batch_size is {batch_size!r}; give a whole number from 1.")
        if options is None:
            options = self.options(**search_options)
        elif search_options:
            raise CaptionBotError("Give search options as one record or by name, not both.")
        elif not isinstance(options, SearchOptions):
            raise CaptionBotError(f"options is {options!r}; give a SearchOptions, or each by its name.")
        results: list[Captioned] = []
        for start in range(0, len(images), batch_size):
            batch = [upright_rgb(image) for image in images[start : start + batch_size]]
            results += self.caption_features(
                self.encode(batch),
                [Size(*image.size) for image in batch],
                options,
                prefix=prefix,
                banned_words=banned_words,
            )
        return results

    def caption_features(
        self,
        features: Features,
        sizes: Sequence[Size],
        options: SearchOptions,
        *,
        prefix: str = "",
        banned_words: Sequence[str] = (),
    ) -> list[Captioned]:
        """`caption` of images that are encoded already, so that asking again costs the search alone.

        features: of `encode`, perhaps with places masked since.
        sizes: of the images that were encoded.
        """
        if not isinstance(prefix, str):
            raise CaptionBotError(
                f"prefix is {prefix!r}; give the words that captions start with as one text."
            )
        words = banned_words if isinstance(banned_words, Iterable) else [banned_words]
        banned_words = list(words)
        if isinstance(words, str) or not all(isinstance(word, str) for word in banned_words):
            raise CaptionBotError(f"banned_words is {words!r}; give a list of words.")
        for text in banned_words:
            checked_text(text, "A word to avoid")
        forced = self.vocabulary.ids_of(checked_text(prefix, "The beginning"))
        banned = self.vocabulary.banned(banned_words)
        search = self.search(features, options, forced, banned)
        judged: Sequence[Sequence[Judgement]] = [()] * len(sizes)
        if self.judge:
            judged = self.judge.judge(features, search.hypotheses, options.num_return)
        return [
            self._captioned(search, features, i, size, options, judged[i]) for i, size in enumerate(sizes)
        ]

    def encode(self, images: Sequence[Image.Image]) -> Features:
        """Features of a batch of images, as of `caption`."""
        return self.encode_pixels(to_pixel_values(images, self.preprocessing, self.device))

    def encode_pixels(self, pixel_values: torch.Tensor) -> Features:
        """Features of (B, 3, H, W) pixels that `to_pixel_values` made, perhaps changed since."""
        with torch.inference_mode(), self.autocast():
            return self._encode(pixel_values.to(self.device))

    def search(
        self,
        features: Features,
        options: SearchOptions,
        prefix: Sequence[int] = (),
        banned_ids: Banned = (),
    ) -> Search:
        """The search over a batch of features; padding, start and unknown words are never produced."""
        v = self.vocabulary
        with self.autocast(), one_unless_they_spin():
            return beam_search(
                self.decoder, features, bos_id=v.bos_id, eos_id=v.eos_id, options=options,
                prefix=prefix or None, banned_ids=(*v.special_ids, *banned_ids),
                continuing=v.continuing if prefix else (), naming=v.naming,
            )  # fmt: skip

    def autocast(self) -> torch.autocast:
        """The arithmetic that encoder and decoder run in: bf16 on CUDA."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")

    def _captioned(
        self,
        search: Search,
        features: Features,
        index: int,
        size: Size,
        options: SearchOptions,
        judgements: Sequence[Judgement],
    ) -> Captioned:
        found = search.hypotheses[index][: options.num_return]
        captions = [self._caption(h, features, index, size) for h in found]
        if judgements:
            captions = [
                dataclasses.replace(caption, judgement=judged)
                for caption, judged in zip(captions, judgements, strict=True)
            ]
        return Captioned(tuple(captions), image_of(search, index))

    def _caption(self, hypothesis: Hypothesis, features: Features, index: int, size: Size) -> Caption:
        boxes = features.boxes[index if len(features.boxes) > 1 else 0].float().cpu().numpy()
        real = slice(None) if features.mask is None else features.mask[index].cpu().numpy()
        scores = None if features.scores is None else features.scores[index].float().cpu().numpy()[real]
        ids = hypothesis.token_ids
        texts, pieces = self.vocabulary.words(ids), self.vocabulary.groups(ids)
        log_probs = of_words(hypothesis.log_probs, (*pieces, 1))
        alphas, nowhere = of_words(hypothesis.alphas[:-1, real].T, pieces, mean=True).T, None
        if self.decoder.looks_elsewhere:
            looked = alphas.sum(1, keepdims=True)
            alphas, nowhere = alphas / looked.clip(1e-20), 1 - looked[:, 0]
        return Caption(
            text=self.vocabulary.text(ids),
            words=tuple(Word(text, float(lp)) for text, lp in zip(texts, log_probs[:-1], strict=True)),
            log_prob=hypothesis.log_prob,
            score=hypothesis.score,
            confidence=float(np.exp(log_probs.mean())),
            alphas=alphas,
            boxes=boxes_to_image(boxes[real], size, self.preprocessing),
            grid=features.grid,
            image_size=size,
            token_ids=ids,
            pieces=pieces,
            nowhere=nowhere,
            labels=None if features.labels is None else features.labels[index],
            scores=scores,
        )


def _device(device: str | torch.device) -> torch.device:
    name = str(device)
    if name not in DEVICES:
        raise CaptionBotError(f"'{name}' is not a device; choose one of {', '.join(DEVICES)}.")
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(device for device in ("cuda", "mps", "cpu") if there[device])
    if not there[name]:
        raise CaptionBotError(f"This machine has no {name} device that torch can use; choose auto or cpu.")
    return torch.device(name)
