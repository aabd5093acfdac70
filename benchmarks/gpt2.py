"""Our search over a GPT-2 against the `generate` of `transformers`: `python -m benchmarks.gpt2`.

One GPT-2 with random weights, 10 image tokens in front, beam 5, exactly 20 words, at several batch
sizes, in turns, so that the ratio holds on a busy machine too. The captions are compared word for word.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial
from itertools import product
from statistics import median
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchmarks.caption import as_loaded, seconds
from captionbot.beam_search import beam_search
from captionbot.decoders import Decoder
from captionbot.decoders.gpt2_prefix import GPT2_NAMES, GPT2PrefixConfig, GPT2PrefixDecoder
from captionbot.encoders import grid_boxes
from captionbot.search_options import SearchOptions
from captionbot.types import Features

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

BATCHES = (1, 8)
BOS, EOS, WORDS, BEAMS = 1, 2, 20, 5


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line a batch size; 0, or 1 where the captions differ."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpt2", description=__doc__)
    parser.add_argument("--layers", type=int, default=12, help="(default: %(default)s)")
    parser.add_argument("--hidden-size", type=int, default=768, help="(default: %(default)s)")
    parser.add_argument("--vocabulary", type=int, default=50261, help="(default: %(default)s, GPT-2's)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="(default: all cores)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    config = GPT2PrefixConfig(
        args.vocabulary, 1280, layers=args.layers, hidden_size=args.hidden_size, heads=args.hidden_size // 64
    )
    decoder = GPT2PrefixDecoder(config).eval().requires_grad_(False)
    twin = as_transformers(decoder)
    packed = as_loaded(decoder, "float32")
    same = True
    for batch in BATCHES:
        features = Features(torch.randn(batch, 64, 1280), grid_boxes(8, 8), (8, 8))
        ours, theirs = search(packed, features), generate(twin, decoder, features)
        equal = sum(a == b for a, b in zip(ours, theirs, strict=True))
        same = same and equal == batch
        runs = {
            "search": partial(search, packed, features),
            "generate": partial(generate, twin, decoder, features),
        }
        times: dict[str, list[float]] = {name: [] for name in runs}
        for _, (name, run) in product(range(args.rounds), runs.items()):
            times[name].append(seconds(run))
        ratio = median(slow / fast for slow, fast in zip(times["generate"], times["search"], strict=True))
        print(
            f"beam {BEAMS}, batch {batch}: {median(times['search']):.3f} s   {ratio:.1f} x generate "
            f"({median(times['generate']):.3f} s)   same captions {equal}/{batch}",
            flush=True,
        )
    return 0 if same else 1


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


if __name__ == "__main__":
    sys.exit(main())
