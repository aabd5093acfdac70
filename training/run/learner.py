"""What is learnt and how: weights, their moving average, and the optimizer with its rates."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from captionbot.decoders import Decoder
from training.run.captioners import Model
from training.run.config import TrainingConfig
from training.run.distributed import World


class Learner:
    """Takes a captioner a step along the gradient of a loss, in all processes alike."""

    def __init__(self, config: TrainingConfig, model: Model, world: World) -> None:
        self.config, self.world = config, world
        self.model = model.to(world.device)
        self.model.encoder.requires_grad_(config.train_encoder)
        self.model.encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.model.decoder.requires_grad_(True)
        self.learnt: nn.Module = self.model if config.train_encoder else self.model.decoder
        self.ema = (
            AveragedModel(self.learnt, multi_avg_fn=get_ema_multi_avg_fn(config.ema)) if config.ema else None
        )
        self.optimizer = self._optimizer()
        self.scaler = torch.amp.grad_scaler.GradScaler(
            world.device.type, enabled=config.amp == "fp16" and world.device.type == "cuda"
        )

    def _optimizer(self) -> torch.optim.AdamW:
        config = self.config
        groups = [{"params": list(self.model.decoder.parameters()), "lr": config.learning_rate}]
        if config.train_encoder:
            groups.append(
                {"params": list(self.model.encoder.parameters()), "lr": config.encoder_learning_rate}
            )
        return torch.optim.AdamW(groups, weight_decay=config.weight_decay, betas=(0.9, 0.98))

    def averaged(self) -> tuple[nn.Module, Decoder]:
        """Encoder and decoder with averaged weights, which are better than the last, where there are such."""
        learnt = self.ema.module if self.ema else self.learnt
        if self.config.train_encoder:
            return cast(Model, learnt).encoder, cast(Model, learnt).decoder
        return self.model.encoder, cast(Decoder, learnt)

    def forget(self) -> None:
        """Begin a new step, without gradients."""
        self.optimizer.zero_grad()

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a part of a step's loss."""
        self.scaler.scale(loss).backward()

    def gather(self, share: float) -> bool:
        """The gradient of all processes' losses together, times a share and clipped; whether it is finite."""
        if share != 1:
            for parameter in self.learnt.parameters():
                if parameter.grad is not None:
                    parameter.grad *= share
        self.world.add_gradients(self.learnt.parameters())
        if self.config.stage == "language-model":
            self._leave_untouched()
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.learnt.parameters(), self.config.clip)
        return self.scaler.is_enabled() or bool(torch.isfinite(norm))  # the scaler leaves such a step out

    def step(self, done: int, steps: int) -> float:
        """Learn, after `done` of so many steps. Returns the decoder's learning rate."""
        rate = self._set_learning_rates(done, steps)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.ema:
            self.ema.update_parameters(self.learnt)
        return rate

    def _leave_untouched(self) -> None:
        """Without gradient weight decay alone would wear down what only photos can teach."""
        for parameter in self.model.decoder.parameters():
            if parameter.grad is not None and not parameter.grad.any():
                parameter.grad = None

    def _set_learning_rates(self, done: int, steps: int) -> float:
        """Warm-up, and what follows it by the schedule. Returns the decoder's."""
        config = self.config
        factor = scheduled(config, done, steps) * min(1.0, (done + 1) / max(config.warmup_steps, 1))
        peaks = (config.learning_rate, config.encoder_learning_rate)
        for group, peak in zip(self.optimizer.param_groups, peaks, strict=False):
            group["lr"] = peak * factor
        return config.learning_rate * factor

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs to hold of it."""
        return {
            "model": self.learnt.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "ema": self.ema.state_dict() if self.ema else None,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.learnt.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.ema:
            self.ema.load_state_dict(state["ema"])


def scheduled(config: TrainingConfig, done: int, steps: int) -> float:
    """The share of its peak that a rate has after `done` of so many steps, but for the warm-up."""
    if config.schedule == "constant":
        return 1.0
    if config.schedule == "inverse-root":
        return math.sqrt(max(config.warmup_steps, 1) / max(config.warmup_steps, done + 1))
    gone = done / max(steps, 1)
    left = 1 - gone if config.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * gone))
    return config.final_learning_rate + (1 - config.final_learning_rate) * left
