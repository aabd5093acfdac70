"""Our search over a GPT-2 against the `generate` of `transformers`.

One GPT-2 with random weights, rounded to 8 bits as in the captioners that ship ("fp32 weights": not), 10
image tokens in front, beam 5, exactly 20 words, at several batch sizes, by one thread, whose processor's time
it is. The captions are compared word for word.
"""

from __future__ import annotations

import time
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchmarks.caption import UNROUNDED, all_loaded, as_stored
from benchmarks.timing import Part, Row, in_turns, one_thread, times_as_fast
from captionbot.decoders import Decoder
from captionbot.decoders.gpt2_prefix import GPT2_NAMES, GPT2PrefixConfig, GPT2PrefixDecoder
from captionbot.encoders import grid_boxes
from captionbot.search.beam import beam_search
from captionbot.search.options import SearchOptions
from captionbot.types import Features

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

BATCHES = (1, 8)
BOS, EOS, WORDS, BEAMS = 1, 2, 20, 5


def measure(rounds: int, quick: bool) -> list[Part]:
    """Ratios, milliseconds, and how many captions are the same, of a GPT-2 with random weights."""
    torch.manual_seed(0)
    vocabulary, layers, width, words = (1000, 2, 128, 4) if quick else (50261, 12, 768, WORDS)
    config = GPT2PrefixConfig(vocabulary, 1280, layers=layers, hidden_size=width, heads=width // 64)
    unrounded = GPT2PrefixDecoder(config).eval().requires_grad_(False)
    decoder = as_stored(unrounded)
    ours = all_loaded(unrounded, decoder)
    twin = as_transformers(decoder)
    times: list[dict[str, list[float]]] = []
    same: dict[str, list[float]] = {name: [] for name in ours if name != UNROUNDED}
    with one_thread():
        for batch in BATCHES:
            features = Features(torch.randn(batch, 64, 1280), grid_boxes(8, 8), (8, 8))
            runs = {name: partial(search, packed, features, words) for name, packed in ours.items()}
            theirs = partial(generate, twin, decoder, features, words)
            expected = theirs()
            for name, shares in same.items():
                shares.append(sum(a == b for a, b in zip(runs[name](), expected, strict=True)) / batch)
            times.append(in_turns({**runs, "generate": theirs}, rounds, time.process_time))
    rows = [
        *(Row(f"{name} against `generate`", [times_as_fast(t, name, "generate") for t in times], "times")
          for name in ours),
        *(Row(name, [1000 * median(t[name]) for t in times], "ms") for name in (*ours, "generate")),
        *(Row(f"share of captions, {name}, that are those of `generate`", shares, "")
          for name, shares in same.items()),
    ]  # fmt: skip
    how = f"Beam {BEAMS}, exactly {words} words behind 10 tokens of the photo."
    columns = [f"{batch} photo{'s' * (batch > 1)}" for batch in BATCHES]
    return [Part(f"GPT-2 of {layers} layers, against `generate` of transformers", how, columns, rows)]


def search(decoder: Decoder, features: Features, words: int = WORDS) -> list[tuple[int, ...]]:
    """The best caption of each image by our search, of exactly so many words."""
    options = SearchOptions(beam_size=BEAMS, min_length=words, max_length=words)
    found = beam_search(decoder, features, bos_id=BOS, eos_id=EOS, options=options)
    return [hypotheses[0].token_ids for hypotheses in found.hypotheses]


@torch.inference_mode()
def generate(
    model: GPT2LMHeadModel, decoder: GPT2PrefixDecoder, features: Features, words: int = WORDS
) -> list[tuple[int, ...]]:
    """The same by `transformers`: image tokens and start as embeddings, then so many words and the end."""
    from transformers import LogitsProcessorList

    tokens, _ = decoder.image_tokens(decoder.normalise(features.values), features)
    start = decoder.wte(torch.full((len(features), 1), BOS))
    generated = model.generate(  # type: ignore[misc]
        inputs_embeds=torch.cat([tokens, start], 1),
        attention_mask=torch.ones(len(features), tokens.shape[1] + 1, dtype=torch.long),
        num_beams=BEAMS,
        do_sample=False,
        max_new_tokens=words + 1,
        length_penalty=0.7,
        eos_token_id=EOS,
        pad_token_id=0,
        logits_processor=LogitsProcessorList([partial(_end_after, words=words)]),
    )
    return [tuple(ids[:words].tolist()) for ids in generated]


def _end_after(input_ids: Tensor, scores: Tensor, words: int) -> Tensor:
    """The end, and nothing else, after so many words."""
    end = torch.arange(scores.shape[-1]) == EOS
    return scores.masked_fill(~end if input_ids.shape[1] == words else end, float("-inf"))


def as_transformers(decoder: GPT2PrefixDecoder) -> GPT2LMHeadModel:
    """The GPT-2 of `transformers` with a decoder's weights."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = decoder.config
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=config.vocabulary_size,
            n_positions=config.positions,
            n_embd=config.hidden_size,
            n_layer=config.layers,
            n_head=config.heads,
            bos_token_id=BOS,
            eos_token_id=EOS,
        )
    ).eval()
    tensors = {
        f"transformer.{name}": t for name, t in decoder.state_dict().items() if name[:2] in ("wt", "wp", "ln")
    }
    tensors["lm_head.weight"] = decoder.wte.weight
    for i, block in enumerate(decoder.blocks):
        for name, tensor in block.state_dict().items():
            layer, part = name.split(".")
            tensors[f"transformer.h.{i}.{GPT2_NAMES[layer]}.{part}"] = (
                tensor.mT if tensor.ndim == 2 else tensor
            )
    model.load_state_dict(tensors)
    return model
