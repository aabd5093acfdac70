"""Train a captioner: `python -m training.train --config show-attend-tell-flickr8k`.

A run is one stage of training, kept in one folder: its configuration, checkpoints to resume from,
tensorboard curves, and the best captioner so far as a card with weights, which both pages can load.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from captionbot import card as cards
from captionbot.beam_search import beam_search
from captionbot.card import Card
from captionbot.decoders import Decoder, build_decoder
from captionbot.encoders import GridEncoder, build_encoder, grid_boxes
from captionbot.errors import CaptionBotError
from captionbot.images import Preprocessing
from captionbot.search_options import SearchOptions
from captionbot.tokenizer import tokenize
from captionbot.types import Features
from captionbot.vocabulary import Vocabulary
from captionbot.weights import find_card
from training.config import TrainingConfig, add_flags, given_flags, load_config, save_config
from training.data import Example, open_images
from training.data.flickr import load_flickr8k
from training.features import cached_features, cached_pixels, normalise
from training.losses import caption_loss, self_critical_loss, teacher_force
from training.metrics import CiderD, bleu

EVALUATION_BATCH = 50


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m training.train", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--config", default="show-attend-tell-flickr8k", help="name in training/configs, or YAML file"
    )
    parser.add_argument("--out", type=Path, help="folder of the run (default: runs/CONFIG)")
    parser.add_argument(
        "--resume", action="store_true", help="go on from the last checkpoint in the folder of the run"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add_flags(parser)
    given = parser.parse_args(arguments)
    try:
        config = load_config(given.config, **given_flags(given))
        out = given.out or Path("runs") / Path(given.config).stem
        Trainer(config, out, torch.device(given.device)).run(resume=given.resume)
    except CaptionBotError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


@dataclass(frozen=True)
class Data:
    """One split in memory: pixels (n, S, S, 3) uint8, token_ids (n, K, L), references tokenised."""

    names: list[str]
    pixels: np.ndarray
    token_ids: Tensor
    references: list[list[list[str]]]


class Model(nn.Module):
    """What is trained: one module, so that one average and one checkpoint hold it all."""

    def __init__(self, encoder: GridEncoder, decoder: Decoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder


class Trainer:
    """One run. All that it learns is in `model`; all that a resumed run needs is in `_checkpoint`."""

    def __init__(self, config: TrainingConfig, out: Path, device: torch.device) -> None:
        self.config, self.out, self.device = config, out, device
        random.seed(config.seed)
        np.random.seed(config.seed)  # noqa: NPY002 (libraries may draw from it)
        torch.manual_seed(config.seed)
        examples = load_flickr8k(Path(config.data))
        train = [e for e in examples if e.split == "train"][: config.limit or None]
        val = train if config.limit else [e for e in examples if e.split == "val"]
        self.vocabulary, self.preprocessing, encoder, decoder, self.card = self._captioner(train)
        self.train, self.val = self._data(train), self._data(val)
        self.model = Model(encoder, decoder).to(device)
        encoder.requires_grad_(config.train_encoder)
        if not config.train_encoder:
            cache = Path(config.cache)
            self.train_features, self.val_features = (
                cached_features(encoder, self.preprocessing, d.pixels, flips, cache, device)
                for d, flips in ((self.train, config.flips), (self.val, False))
            )
        self.optimizer = self._optimizer()
        self.ema = (
            AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(config.ema)) if config.ema else None
        )
        self.reward = CiderD([[[*r, "<eos>"] for r in refs] for refs in self.train.references])
        self.steps_an_epoch = -(-len(self.train.names) // config.batch_size)
        self.epoch = self.step = self.bad_epochs = 0
        self.best: dict[str, float] = {}
        self.epoch_loss = 0.0

    # What there is to train on, and what is trained

    def _captioner(
        self, train: list[Example]
    ) -> tuple[Vocabulary, Preprocessing, GridEncoder, Decoder, Card]:
        """Vocabulary, preprocessing, encoder, decoder and card: those of `init`, or new ones."""
        config = self.config
        if config.init:
            card, encoder, decoder = cards.load(find_card(config.init))
            decoder.requires_grad_(True)
            decoder.config = dataclasses.replace(decoder.config, **config.decoder_config)
            card = dataclasses.replace(card, decoder={**card.decoder, **config.decoder_config})
            preprocessing = Preprocessing.from_json(card.preprocessing)
            return Vocabulary(card.vocabulary), preprocessing, encoder, decoder, card
        vocabulary = Vocabulary.build((tokenize(c) for e in train for c in e.captions), config.min_count)
        preprocessing = Preprocessing((config.image_size, config.image_size), config.mean, config.std)
        encoder = build_encoder(
            config.encoder, config.encoder_config, _initial_weights(config.encoder_weights)
        )
        with torch.inference_mode():
            size = encoder.eval()(torch.zeros(1, 3, *preprocessing.size)).values.shape[-1]
        sizes = {**config.decoder_config, "vocabulary_size": len(vocabulary), "feature_size": size}
        card = Card(
            name=config.name,
            family=config.family,
            encoder={"kind": config.encoder, **config.encoder_config},
            decoder={"kind": config.decoder, **sizes},
            preprocessing=dataclasses.asdict(preprocessing),
            vocabulary=vocabulary.tokens,
        )
        return vocabulary, preprocessing, encoder, build_decoder(config.decoder, sizes), card

    def _data(self, examples: list[Example]) -> Data:
        config = self.config
        names = [e.name for e in examples]
        pixels = cached_pixels(
            open_images(Path(config.data)), names, self.preprocessing.size[0], Path(config.cache)
        )
        references = [[tokenize(c) for c in e.captions] for e in examples]
        token_ids = torch.zeros(len(names), config.captions_per_image, config.max_words + 2, dtype=torch.long)
        for i, captions in enumerate(references):
            for j, words in enumerate(captions[: config.captions_per_image]):
                ids = [self.vocabulary.bos_id, *self.vocabulary.encode(words[: config.max_words])]
                ids += [self.vocabulary.eos_id] * (len(words) <= config.max_words)  # a cut caption has no end
                token_ids[i, j, : len(ids)] = torch.tensor(ids)
        return Data(names, pixels, token_ids, references)

    def _optimizer(self) -> torch.optim.AdamW:
        config = self.config
        groups = [{"params": list(self.model.decoder.parameters()), "lr": config.learning_rate}]
        if config.train_encoder:
            groups.append(
                {"params": list(self.model.encoder.parameters()), "lr": config.encoder_learning_rate}
            )
        for group in groups:
            group["peak"] = group["lr"]
        return torch.optim.AdamW(groups, weight_decay=config.weight_decay, betas=(0.9, 0.98))

    # The run

    def run(self, resume: bool = False) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.out.mkdir(parents=True, exist_ok=True)
        checkpoint = self.out / "checkpoint.pt"
        if resume and checkpoint.exists():
            self._restore(torch.load(checkpoint, map_location=self.device, weights_only=True))
        save_config(self.config, self.out / "config.yaml")
        with SummaryWriter(str(self.out / "tensorboard")) as self.writer:
            while self.epoch < self.config.epochs and self.bad_epochs < self.config.patience:
                self._train_epoch(checkpoint)
                self._save(checkpoint)  # before the validation, so that a kill there costs no training
                self._finish_epoch()
                self._save(checkpoint)
        print(f"best on val: {self.best}; the captioner is in {self.out}")

    def _train_epoch(self, checkpoint: Path) -> None:
        config = self.config
        self.model.train()
        saved = time.monotonic()
        bar = tqdm(
            self._batches(), desc=f"epoch {self.epoch + 1}/{config.epochs}", unit="step", mininterval=5,
            total=self.steps_an_epoch, initial=self.step,
        )  # fmt: skip
        for images, mirrored, crops in bar:
            self._set_learning_rate()
            with self._autocast():
                loss = self._loss(self._features(images, mirrored, crops), images)
            if not torch.isfinite(loss):
                raise CaptionBotError(
                    f"The loss became {loss.item()} in epoch {self.epoch + 1}; lower --learning-rate "
                    f"or --clip and go on with --resume from the last checkpoint in {self.out}."
                )
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
            self.optimizer.step()
            if self.ema:
                self.ema.update_parameters(self.model)
            self.step += 1
            self.epoch_loss += loss.item()
            bar.set_postfix(loss=f"{self.epoch_loss / self.step:.3f}")
            self.writer.add_scalar("loss", loss.item(), self.epoch * self.steps_an_epoch + self.step)
            if time.monotonic() - saved > 60 * config.checkpoint_minutes:
                self._save(checkpoint)
                saved = time.monotonic()

    def _finish_epoch(self) -> None:
        scores = self.validate()
        print(
            f"epoch {self.epoch + 1}: loss {self.epoch_loss / max(self.step, 1):.4f} {_line(scores)}",
            flush=True,
        )
        for name, value in scores.items():
            self.writer.add_scalar(f"val/{name}", value, self.epoch + 1)
        if scores["CIDEr"] > self.best.get("CIDEr", -1.0):
            self.best, self.bad_epochs = {**scores, "epoch": self.epoch + 1}, 0
            self._export()
        else:
            self.bad_epochs += 1
        self.epoch, self.step, self.epoch_loss = self.epoch + 1, 0, 0.0

    def _batches(self) -> Iterator[tuple[np.ndarray, np.ndarray, Tensor]]:
        """What is left of the epoch: photos, which are mirrored, and how each is cropped.

        Drawn from seed and epoch alone, so that a resumed run sees what it would have seen.
        """
        rng = np.random.default_rng([self.config.seed, self.epoch])
        order = rng.permutation(len(self.train.names))
        mirrored = rng.random(len(order)) < 0.5 * self.config.flips
        crops = torch.from_numpy(rng.random((len(order), 3), dtype=np.float32))
        for step in range(self.step, self.steps_an_epoch):
            where = slice(step * self.config.batch_size, (step + 1) * self.config.batch_size)
            yield order[where], mirrored[where], crops[where]

    def _features(self, images: np.ndarray, mirrored: np.ndarray, crops: Tensor) -> Features:
        if not self.config.train_encoder:
            return self._cached(self.train_features, images, mirrored.astype(int))
        values = normalise(self.train.pixels[images], self.preprocessing, self.device)
        return self.model.encoder(
            _augment(values, torch.from_numpy(mirrored).to(self.device), crops.to(self.device))
        )

    def _cached(self, features: np.ndarray, images: np.ndarray, side: np.ndarray | int = 0) -> Features:
        values = torch.from_numpy(features[images, side].astype(np.float32)).to(self.device)
        side_length = round(values.shape[1] ** 0.5)
        return Features(
            values, grid_boxes(side_length, side_length).to(self.device), (side_length, side_length)
        )

    def _loss(self, features: Features, images: np.ndarray) -> Tensor:
        config, decoder = self.config, self.model.decoder
        if config.stage == "cross-entropy":
            forced = teacher_force(decoder, features, self.train.token_ids[images].to(self.device))
            return caption_loss(forced, config.label_smoothing, config.doubly_stochastic)
        token_ids, rewards = self._sample(features, images)
        return self_critical_loss(teacher_force(decoder, features, token_ids), rewards, config.temperature)

    def _sample(self, features: Features, images: np.ndarray) -> tuple[Tensor, Tensor]:
        """Captions drawn from the model, (B, K, L) ids, and their CIDEr-D, (B, K).

        The end counts as a word of the reward, or captions learn to break off ("a dog runs through a").
        """
        config, vocabulary = self.config, self.vocabulary
        seed = hash((config.seed, self.epoch, self.step)) % 2**31
        options = SearchOptions(
            sample=True,
            num_return=config.samples,
            temperature=config.temperature,
            max_length=config.max_words,
            seed=seed,
        )
        self.model.eval()
        detached = dataclasses.replace(features, values=features.values.detach())
        with self._autocast(cache=False):  # the loss must not find weights that inference mode has cast
            drawn = self._search(self.model.decoder, detached, options).hypotheses
        self.model.train()
        flat = [h.token_ids for hypotheses in drawn for h in hypotheses]
        words = [[*vocabulary.decode(ids), "<eos>"] for ids in flat]
        rewards = self.reward(words, np.repeat(images, config.samples).tolist())
        self.writer.add_scalar(
            "reward", float(np.mean(rewards)), self.epoch * self.steps_an_epoch + self.step
        )
        token_ids = torch.zeros(len(images), config.samples, config.max_words + 2, dtype=torch.long)
        for row, ids in zip(token_ids.view(len(flat), -1), flat, strict=True):
            row[: len(ids) + 2] = torch.tensor([vocabulary.bos_id, *ids, vocabulary.eos_id])
        shape = (len(images), config.samples)
        return token_ids.to(self.device), torch.as_tensor(
            rewards, dtype=torch.float32, device=self.device
        ).view(shape)

    def _autocast(self, cache: bool = True) -> torch.autocast:
        enabled = self.config.amp and self.device.type == "cuda"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled, cache_enabled=cache)

    def _search(self, decoder: Decoder, features: Features, options: SearchOptions) -> Any:
        v = self.vocabulary
        return beam_search(
            decoder, features, bos_id=v.bos_id, eos_id=v.eos_id, options=options, banned_ids=v.special_ids
        )

    def _set_learning_rate(self) -> None:
        """Linear warm-up, then half a cosine down to `final_learning_rate` of the peak."""
        config = self.config
        done = self.epoch * self.steps_an_epoch + self.step
        total = max(config.epochs * self.steps_an_epoch, 1)
        cosine = 0.5 * (1 + math.cos(math.pi * done / total))
        factor = config.final_learning_rate + (1 - config.final_learning_rate) * cosine
        factor *= min(1.0, (done + 1) / max(config.warmup_steps, 1))
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * factor

    # What it is worth, and what is kept

    def _best_model(self) -> Model:
        """The averaged weights, which are better than the last ones, where an average is kept."""
        return cast("Model", self.ema.module) if self.ema else self.model

    def validate(self) -> dict[str, float]:
        """CIDEr-D and BLEU-4 of the averaged weights on the val photos."""
        model = self._best_model().eval()
        options = SearchOptions(
            beam_size=self.config.beam_size,
            length_penalty=self.config.length_penalty,
            max_length=self.config.max_words,
        )
        captions = []
        for i in range(0, len(self.val.names), EVALUATION_BATCH):
            images = np.arange(i, min(i + EVALUATION_BATCH, len(self.val.names)))
            with torch.inference_mode():
                if self.config.train_encoder:
                    pixels = normalise(self.val.pixels[images], self.preprocessing, self.device)
                    features = model.encoder(pixels)
                else:
                    features = self._cached(self.val_features, images)
            found = self._search(model.decoder, features, options).hypotheses
            captions += [self.vocabulary.decode(hypotheses[0].token_ids) for hypotheses in found]
        references = self.val.references
        if self.config.limit:  # how many of the training captions it says word for word
            exact = [c == r[0] for c, r in zip(captions, references, strict=True)]
            return {"CIDEr": float(np.mean(CiderD(references)(captions))), "exact": float(np.mean(exact))}
        return {
            "CIDEr": float(np.mean(CiderD(references)(captions))),
            "Bleu_4": float(bleu(captions, references)[3]),
        }

    def _export(self) -> None:
        """The best captioner so far, as a card with weights."""
        config, model = self.config, self._best_model()
        history = [*self.card.training.get("stages", []), {**dataclasses.asdict(config), "best": self.best}]
        training = {
            "data": f"Flickr8k, {len(self.train.names)} training photos",
            "seed": config.seed,
            "stages": history,
        }
        card = dataclasses.replace(
            self.card,
            name=config.name,
            training=training,
            search={"beam_size": 5, "length_penalty": config.length_penalty, "max_length": config.max_words},
        )
        cards.save(self.out, card, model.encoder, model.decoder)

    def _save(self, path: Path) -> None:
        """All that a resumed run needs; written aside and moved, so that a kill leaves the last one whole."""
        state = {
            "model": self.model.decoder.state_dict()
            if not self.config.train_encoder
            else self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.state_dict() if self.ema else None,
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all() if self.device.type == "cuda" else [],
            "progress": [self.epoch, self.step, self.bad_epochs, self.epoch_loss],
            "best": self.best,
        }
        partial = path.with_suffix(".part")
        torch.save(state, partial)
        partial.replace(path)

    def _restore(self, state: dict[str, Any]) -> None:
        (self.model if self.config.train_encoder else self.model.decoder).load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.ema:
            self.ema.load_state_dict(state["ema"])
        torch.set_rng_state(state["random"].cpu())
        if state["random_cuda"]:
            torch.cuda.set_rng_state_all([s.cpu() for s in state["random_cuda"]])
        self.epoch, self.step, self.bad_epochs, self.epoch_loss = state["progress"]
        self.best = state["best"]


def _augment(pixel_values: Tensor, mirrored: Tensor, crops: Tensor) -> Tensor:
    """Mirror some photos, and crop each to 80..100 % of its sides at a random place.

    mirrored: (B,) bool.
    crops: (B, 3) numbers in 0..1: how much, and where across and down.
    """
    scale = 0.8 + 0.2 * crops[:, 0]
    shift = (crops[:, 1:] * 2 - 1) * (1 - scale).unsqueeze(1)
    theta = torch.zeros(len(crops), 2, 3, device=crops.device)
    theta[:, 0, 0] = torch.where(mirrored, -scale, scale)
    theta[:, 1, 1] = scale
    theta[:, :, 2] = shift
    grid = F.affine_grid(theta, list(pixel_values.shape), align_corners=False)
    return F.grid_sample(pixel_values, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _initial_weights(path: str) -> dict[str, Tensor] | None:
    if not path:
        return None
    from safetensors.torch import load_file

    if not Path(path).is_file():
        raise CaptionBotError(f"There are no weights at {path}; give --encoder-weights FILE.safetensors.")
    return load_file(path)


def _line(scores: dict[str, float]) -> str:
    return " ".join(f"{name} {value:.4f}" for name, value in scores.items())


if __name__ == "__main__":
    sys.exit(main())
