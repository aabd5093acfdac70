"""Whether a captioner of the Hub says what the `generate` of transformers says."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from captionbot.captioner import Captioner
from captionbot.errors import CaptionBotError, shortened
from captionbot.hub import loading
from captionbot.images.load import load_image, to_pixel_values
from captionbot.store.registry import find_card

if TYPE_CHECKING:
    from torch import Tensor

    from captionbot.store.card import Card


def asked_of_generate(card: Card, pixels: Tensor) -> tuple[dict[str, Any], int]:
    """What the `generate` of transformers is given for (B, 3, H, W) pixels, and the ids before its answer."""
    prompt, question = list(card.decoder["prompt"]), list(card.decoder["question"])
    config, family = card.encoder["config"], card.decoder["family"]
    asked: dict[str, Any] = {"pixel_values": pixels}

    def each(ids: list[int]) -> Tensor:
        return torch.tensor([ids] * len(pixels))

    if family == "git":  # whose cache is wrong in some versions
        asked |= {"input_ids": each(prompt), "use_cache": False}
    elif family == "florence-2":
        places = (pixels.shape[2] // prod(config["vision_config"]["patch_stride"])) ** 2 + 1  # and the pooled
        image = [config["image_token_id"]] * places
        asked |= {"input_ids": each(image + question), "decoder_input_ids": each(prompt)}
    elif family == "smolvlm":
        prompt = question + prompt
        asked = {"pixel_values": pixels.unsqueeze(1), "input_ids": each(prompt)}
    return asked, len(prompt)


def compared(name: str, photo: Path) -> tuple[bool, str]:
    """Whether a captioner that is here says what transformers' own `generate` says; a line on both.

    Both are greedy, and `generate` may break off where our sentence ends.
    """
    captioner = Captioner.from_pretrained(find_card(name), device="cpu", precision="float32")
    card = captioner.card
    if not card.is_hub:
        raise CaptionBotError(
            f"{shortened(name)} is no captioner of the Hub: name one that was imported from it."
        )
    image = load_image(photo)
    options = captioner.options(beam_size=1, max_length=20)
    ours = captioner.caption([image], options)[0].captions[0]
    model = loading.load(card.encoder, find_card(name).with_suffix(".safetensors")).eval()
    asked, before = asked_of_generate(card, to_pixel_values([image], captioner.preprocessing))
    asked |= {"num_beams": 1, "do_sample": False, "max_new_tokens": 20}
    asked |= {"no_repeat_ngram_size": options.no_repeat_ngram_size}
    with torch.inference_mode():
        said = model.generate(**asked)[0].tolist()
    theirs = [i for i in said[before:] if i != captioner.vocabulary.eos_id]
    words = captioner.vocabulary.words(theirs)
    count = len(theirs)
    same = list(ours.token_ids[:count]) == theirs
    verdict = "as generate says" if same else f"where generate says “{' '.join(words)}”"
    return same, f"{card.title} says “{ours.text}”, {verdict}."
