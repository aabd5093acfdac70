"""Train a captioner: `python -m training.train --config show-attend-tell-flickr8k`.

A run is one stage of training, kept in one folder: its configuration, checkpoints to resume from,
tensorboard curves, and the best captioner so far as a card with weights, which both pages can load.
On several GPUs or machines: `torchrun --nproc-per-node 2 -m training.train ...`.
"""

from __future__ import annotations

import dataclasses
import errno
import math
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from captionbot.captioner import Captioner
from captionbot.cli.commands import Parser, command
from captionbot.decoders import Decoder
from captionbot.errors import CaptionBotError
from captionbot.store import card as cards
from captionbot.store.card import Card
from training.run.captioners import build_captioner, described, new_words
from training.run.checkpoints import (
    CHECKPOINT,
    load_checkpoint,
    other_run,
    prepare_folder,
    save_checkpoint,
    written,
)
from training.run.config import TrainingConfig, add_flags, given_flags, load_config, save_config
from training.run.distributed import World, join_world
from training.run.features import autocast, tidy
from training.run.learner import Learner
from training.run.losses import Term
from training.run.monitor import Monitor
from training.run.splits import Split, photos_of, read_splits
from training.run.stages import Batch, Loss
from training.run.tasks import photo_task, text_task
from training.run.validation import Scores

KEPT = "kept"


@command
def main(arguments: list[str] | None = None) -> int:
    parser = Parser("python -m training.train", description="Train a captioner.")
    parser.add_argument(
        "--config", default="show-attend-tell-flickr8k", help="name in training/configs, or YAML file"
    )
    parser.add_argument("--out", type=Path, help="folder of the run (default: runs/CONFIG)")
    earlier = parser.add_mutually_exclusive_group()
    earlier.add_argument(
        "--resume", action="store_true", help="go on from the last checkpoint in the folder of the run"
    )
    earlier.add_argument(
        "--replace", action="store_true", help="begin anew in a folder that has a run already"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add_flags(parser)
    given = parser.parse_args(arguments)
    config = load_config(given.config, **given_flags(given))
    out = given.out or Path("runs") / Path(given.config).stem
    prepare_folder(out, given.resume or given.replace)
    try:
        with join_world(given.device) as world:
            Run(config, out, world).go(resume=given.resume)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise CaptionBotError(
            f"The disk is full ({error.filename}); make room and go on with --resume."
        ) from error
    except KeyboardInterrupt:
        print(f"Stopped; --resume goes on from the last checkpoint in {out}.", file=sys.stderr)
        raise
    return 0


class Run:
    """One run: its loop and its files. All that it learns is in `learner`, all that it asks in `task`."""

    def __init__(self, config: TrainingConfig, out: Path, world: World) -> None:
        self.config, self.out, self.world = config, out, world
        begun = time.time()
        _seed(config.seed)
        train, val = read_splits(config)
        text = Split.of_text(config.text, config.limit) if config.text else None
        spoken = [train, text] if text and config.text_words else [train]
        captions = [caption for split in spoken for image in split.captions for caption in image]
        self.card, model = build_captioner(config, captions)
        if unknown := new_words(self.card, captions, config.min_count) if config.init else []:
            self._say(
                f"{len(unknown)} words of the captions are unknown to {config.init} "
                f"({', '.join(unknown[:5])}, ...); learn them too with --extend-vocabulary true."
            )
        self.learner = Learner(config, model, world)
        if config.stage == "language-model":
            self.task = text_task(config, self.card, cast(Split, text), val, world)
        else:
            self.task = photo_task(config, self.card, model.encoder, train, val, world)
        if world.main and (gone := tidy(Path(config.cache), config.cache_gib, begun)):
            self._say(f"{len(gone)} caches that no run needed any more were removed from {config.cache}.")
        if world.size > 1:  # each process draws its own dropout
            _seed(config.seed + 1000 * (world.rank + 1))
        seen = len(self.task.an_epoch(np.random.default_rng(0)))
        self.steps_an_epoch = -(-seen // config.batch_size)
        self.steps = min(config.epochs * self.steps_an_epoch, config.max_steps or sys.maxsize)
        self.epoch = self.step = self.bad_epochs = 0
        self.best: Scores = {}
        self.curve: list[Scores] = []
        self.kept: dict[int, float] = {}
        self.epoch_loss = 0.0

    # The loop

    def go(self, resume: bool = False) -> None:
        if resume and (self.out / CHECKPOINT).exists():
            self._restore(load_checkpoint(self.out / CHECKPOINT, self.world.device))
        if self.world.main:
            save_config(self.config, self.out / "config.yaml")
        choice = self.task.choice
        self._say(f"The epoch that is kept will be {choice.which}, {choice.why}.")
        with Monitor(self.out, self.world) as self.monitor:
            while self._is_to_go_on():
                self._train_epoch()
                self._save()  # before the validation, so that a kill there costs no training
                self._finish_epoch()
                self._save()
        kept = f"epoch {self.best['epoch']}, {choice.which}, is kept" if self.best else "no epoch is kept"
        self._say(f"{kept} in {self.out}: {_line(self.best)}")
        if choice.by != "last" and self.best.get("epoch") == self.config.epochs > 1:
            self._say("The last epoch was still the best: more --epochs may be better yet.")
        if bad := self.task.bad:
            self._say(f"{len(bad)} photos were left out:")
            for name, reason in bad.items():
                self._say(f"  {name}: {reason}")

    def _is_to_go_on(self) -> bool:
        return self.epoch * self.steps_an_epoch < self.steps and self.bad_epochs < self.config.patience

    def _train_epoch(self) -> None:
        config = self.config
        self.learner.model.train()
        saved = time.monotonic()
        progress = self.monitor.progress(
            self._batches(), f"epoch {self.epoch + 1}/{config.epochs}", self.steps_an_epoch, self.step,
            later=max(0, self.steps - (self.epoch + 1) * self.steps_an_epoch),
        )  # fmt: skip
        for images, mirrored, crops in progress:
            due = self.world.main and time.monotonic() - saved > 60 * config.checkpoint_minutes
            due = self._learn(images, mirrored, crops, due)
            progress.show(self.epoch_loss / self.step, len(images))
            if due:
                self._save()
                saved = time.monotonic()

    def _batches(self) -> Iterator[tuple[np.ndarray, np.ndarray, Tensor]]:
        """What is left of the epoch: photos, which are mirrored, and how each is cropped and covered.

        Drawn from seed and epoch alone, so that a resumed run sees what it would have seen.
        """
        rng = np.random.default_rng([self.config.seed, self.epoch])
        order = self.task.an_epoch(rng)
        mirrored = rng.random(len(order)) < 0.5 * self.config.flips
        crops = rng.random((len(order), 6), dtype=np.float32)
        covers = rng.random((len(order), 1), dtype=np.float32)
        drawn = torch.from_numpy(np.concatenate([crops, covers], 1))
        last = min(self.steps_an_epoch, self.steps - self.epoch * self.steps_an_epoch)
        for step in range(self.step, last):
            where = slice(step * self.config.batch_size, (step + 1) * self.config.batch_size)
            yield order[where], mirrored[where], drawn[where]

    def _learn(self, images: np.ndarray, mirrored: np.ndarray, crops: Tensor, due: bool) -> bool:
        """One step on a batch, shared among the processes. Returns whether a checkpoint is due for any."""
        world = self.world
        done = self.epoch * self.steps_an_epoch + self.step
        mine = world.share(np.arange(len(images)))
        idle = not len(mine)  # fewer photos than processes: this one does work that does not count
        mine = mine if len(mine) else np.arange(1)
        parts = [part for part in np.array_split(mine, self.config.accumulate) if len(part)]
        # What each term is the mean of, in all parts and processes. Where that is not known before, a part
        # counts by what it has for each photo, and the gradient is divided in the end.
        counts = self.task.stage.counts(images)
        self.learner.forget()
        summed: list[list[float]] = []
        figures: dict[str, float] = {}
        for number, part in enumerate(parts):
            loss = self._ask(images[part], mirrored[part], crops[part], done, number)
            terms = [Term(t.mean, 0 if idle else t.count) for t in loss.terms]
            weights = counts or [len(images)] * len(terms)
            total = sum(t.mean * (t.count / n) for t, n in zip(terms, weights, strict=True))
            self.learner.backward(cast(Tensor, total))
            summed.append([*(t.mean.item() * t.count for t in terms), *(t.count for t in terms)])
            for name, figure in loss.figures.items():
                figures[name] = figures.get(name, 0.0) + figure * len(part) / len(mine)
        *sums, late = world.sum([*np.sum(summed, 0).tolist(), due])
        everyones = sums[len(sums) // 2 :]
        value = sum(s / n for s, n in zip(sums, everyones, strict=False))
        if not math.isfinite(value):
            self._diverged(f"The loss became {value}")
        if not self.learner.gather(1.0 if counts else len(images) / everyones[0]):
            self._diverged("The gradient was not finite")
        rate = self.learner.step(done, self.steps)
        self.step += 1
        self.epoch_loss += value
        self.monitor.scalars({"loss": value, "learning_rate": rate, **figures}, done + 1)
        return late > 0

    def _ask(self, images: np.ndarray, mirrored: np.ndarray, crops: Tensor, done: int, number: int) -> Loss:
        """What a part of a step costs. number: of the part."""
        config, model, rank = self.config, self.learner.model, self.world.rank
        drawn = (config.seed, self.epoch, self.step, *[rank] * bool(rank), *[-number] * bool(number))
        batch = Batch(images, mirrored, done / self.steps, hash(drawn) % 2**31)
        with autocast(self.world.device, config.amp):
            features = self.task.features(model.encoder, images, mirrored, crops)
            return self.task.stage(model.decoder, features, batch)

    def _diverged(self, what: str) -> None:
        raise CaptionBotError(
            f"{what} in epoch {self.epoch + 1}; go on with --resume from the last checkpoint in {self.out} "
            "and a lower --learning-rate or --clip."
        )

    # What it is worth, and what is kept

    def _finish_epoch(self) -> None:
        encoder, decoder = self.learner.averaged()
        scores = self.task.validate(encoder.eval(), decoder.eval())
        told = {"loss": self.epoch_loss / max(self.step, 1), **scores}
        self._say(f"epoch {self.epoch + 1}: {_line(told)}")
        figures = {f"val/{name.removeprefix('val_')}": value for name, value in scores.items()}
        self.monitor.scalars(figures, self.epoch + 1)
        self.curve.append({name: round(value, 4) for name, value in told.items()})
        scores["epoch"] = self.epoch + 1
        better = self.task.choice.is_better(scores, self.best)
        if better:
            self.best = scores
        self.bad_epochs = 0 if better else self.bad_epochs + 1
        if self.world.main:
            card = described(self.card, self.config, self.task.data, self.best, self.curve)
            if better:
                with written("The captioner", self.out):
                    cards.save(self.out, card, encoder, decoder)
            self._keep(card, encoder, decoder, scores)
            self._show_samples(card, encoder, decoder)
        self.epoch, self.step, self.epoch_loss = self.epoch + 1, 0, 0.0

    def _keep(self, card: Card, encoder: nn.Module, decoder: Decoder, scores: Scores) -> None:
        """Keep the captioners of the best epochs, for `training.compress.average`."""
        if not self.config.keep:
            return
        self.kept[self.epoch + 1] = self.task.choice.worth(scores)
        best = sorted(self.kept, key=lambda epoch: -self.kept[epoch])[: self.config.keep]
        self.kept = {epoch: self.kept[epoch] for epoch in best}
        folder = self.out / KEPT
        names = {epoch: f"{card.name}-epoch-{epoch}" for epoch in best}
        if self.epoch + 1 in names:
            with written("The captioner of this epoch", folder):
                cards.save(folder, dataclasses.replace(card, name=names[self.epoch + 1]), encoder, decoder)
        for file in folder.glob("*"):
            if file.name.split(".")[0] not in names.values():
                file.unlink()

    def _show_samples(self, card: Card, encoder: nn.Module, decoder: Decoder) -> None:
        if names := self.task.samples:
            store = photos_of(self.config)
            photos = [store.load(name) for name in names]
            captioner = Captioner(card, encoder, decoder, self.world.device)
            self.monitor.samples(captioner, names, photos, self.epoch + 1)

    def _save(self) -> None:
        """All that a resumed run needs."""
        cuda = self.world.device.type == "cuda"
        random_states = self.world.gather([torch.get_rng_state()])
        random_cuda = self.world.gather([torch.cuda.get_rng_state(self.world.device)] if cuda else [])
        if not self.world.main:
            return
        state = {
            **self.learner.state(),
            "random": random_states,
            "random_cuda": random_cuda,
            "progress": [self.epoch, self.step, self.bad_epochs, self.epoch_loss],
            "best": self.best,
            "curve": self.curve,
            "kept": self.kept,
        }
        save_checkpoint(self.out / CHECKPOINT, state)

    def _restore(self, state: dict[str, Any]) -> None:
        try:
            self.learner.restore(state)
            self.epoch, self.step, self.bad_epochs, self.epoch_loss = state["progress"]
            self.best, self.kept = state["best"], state["kept"]
            self.curve = state.get("curve", [])  # which checkpoints of before lack
            random_states, random_cuda = state["random"], state["random_cuda"]
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise other_run(self.out, error) from error
        if len(random_states) == self.world.size:  # with other processes there is nothing to go on from
            torch.set_rng_state(random_states[self.world.rank].cpu())
            if random_cuda:
                torch.cuda.set_rng_state(random_cuda[self.world.rank].cpu(), self.world.device)

    def _say(self, line: str) -> None:
        if self.world.main:
            print(line, flush=True)


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (libraries may draw from it)
    torch.manual_seed(seed)


def _line(scores: Scores) -> str:
    return " ".join(f"{name} {value:.4f}" for name, value in scores.items() if name != "epoch")
