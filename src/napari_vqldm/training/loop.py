"""The training loop, shared by both networks: optimizer, averaged weights, checks, saving, resuming."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from napari_vqldm.errors import TrainingError
from napari_vqldm.training.config import StageConfig, StageName, TrainConfig
from napari_vqldm.training.data import prefetch
from napari_vqldm.training.folder import RunFolder
from napari_vqldm.training.interrupt import Interrupted, StopRequest
from napari_vqldm.training.progress import RunLog
from napari_vqldm.training.resume import load_state, optimizer_tensors, restore_module, restore_optimizer, save_state

B = TypeVar("B")


@dataclass
class Run:
    """Everything that the stages share."""

    config: TrainConfig
    folder: RunFolder
    fabric: Fabric
    log: RunLog
    stop: StopRequest
    started: float = field(default_factory=time.monotonic)

    @property
    def device(self) -> torch.device:
        """Device of this process."""
        return self.fabric.device

    def samples_of(self, batch_size: int) -> range:
        """Sample indices of this process; together the processes draw ``batch_size`` times their number."""
        first = self.fabric.global_rank * batch_size
        return range(first, first + batch_size)

    def highest(self, number: int) -> int:
        """Return the highest ``number`` of all processes, so that they decide alike."""
        if self.fabric.world_size == 1:
            return number
        reduced = self.fabric.all_reduce(torch.tensor(number, device=self.device), reduce_op="max")
        return int(reduced)  # type: ignore[arg-type]

    def check_stop(self) -> None:
        """Stop if a signal reached any process: one that left alone would leave the others waiting for it."""
        number = self.highest(self.stop.signal_number or 0)
        if number:  # else nothing is written: a signal that came while the processes agreed must not be lost
            self.stop.signal_number = number
            self.stop.check()


class TrainableStage(Protocol[B]):
    """What the loop needs to know about a network in training."""

    @property
    def name(self) -> StageName:
        """Name of the stage."""
        ...

    @property
    def config(self) -> StageConfig:
        """Optimization of this stage."""
        ...

    @property
    def task(self) -> nn.Module:
        """Everything that is optimized, and its loss as forward."""
        ...

    @property
    def channels_last(self) -> bool:
        """Whether weights and batches lie channels last in memory."""
        ...

    def batch(self, step: int) -> B:
        """Make the batch of a step, in the loader thread; a function of the step alone."""
        ...

    def losses(self, task: nn.Module, batch: B, step: int) -> dict[str, Tensor]:
        """Call ``task`` on a batch; "loss" is minimized, other scalars are logged."""
        ...

    def before_step(self, step: int, batch: B, average: nn.Module) -> None:
        """Do what a step needs besides the optimizer, before its forward pass."""
        ...

    def after_step(self, step: int, terms: dict[str, Tensor], average: nn.Module) -> dict[str, float]:
        """Advance what the optimizer does not; returns numbers to log."""
        ...

    def check(self, step: int, network: nn.Module, average: nn.Module) -> dict[str, float]:
        """Held-out numbers; raises `TrainingError` when going on is pointless."""
        ...

    def picture(self, step: int, average: nn.Module) -> None:
        """Write a picture into the run folder."""
        ...

    def extra_state(self) -> dict[str, Tensor]:
        """Tensors to save besides weights and optimizer."""
        ...

    def load_extra_state(self, tensors: dict[str, Tensor]) -> None:
        """Take back `extra_state`."""
        ...


def learning_rate(config: StageConfig, step: int) -> float:
    """Return the learning rate of a step: linear warm-up, then cosine, or constant with a linear cool-down."""
    final = config.final_lr_fraction
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    after = max(1, config.steps - config.warmup_steps)
    progress = min(1.0, max(0, step - config.warmup_steps) / after)
    if config.lr_schedule == "cosine":
        shape = final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))
    else:
        cooldown = max(1e-9, config.cooldown_fraction)
        shape = final + (1 - final) * min(1.0, (1 - progress) / cooldown)
    return config.learning_rate * warm * shape


class MovingAverage(AveragedModel):
    """Copy of a module that holds the exponential moving average of its weights; young averages forget faster.

    The update of the parent sends its counter to the GPU and so waits for the step that it averages.
    """

    def __init__(self, task: nn.Module, decay: float) -> None:
        super().__init__(task)
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Move the average toward the weights of ``model``; buffers are copied."""
        n = int(self.n_averaged)  # on the CPU
        weight = 1.0 - min(self.decay, (1 + n) / (10 + n)) if n else 1.0
        torch._foreach_lerp_(list(self.module.parameters()), list(model.parameters()), weight)
        for kept, current in zip(self.module.buffers(), model.buffers(), strict=True):
            kept.copy_(current)
        self.n_averaged += 1


def train(run: Run, stage: TrainableStage[B]) -> nn.Module:
    """Run a stage to its end and return its task with averaged weights; picks up a saved state.

    Raises
    ------
    TrainingError
        When the loss is no number or the stage's own check fails.
    Interrupted
        After a signal; the state is saved.
    """
    return _Loop(run, stage).run()


class _Loop(Generic[B]):
    def __init__(self, run: Run, stage: TrainableStage[B]) -> None:
        self.context, self.stage, self.config = run, stage, stage.config
        task = stage.task.to(run.device)
        if stage.channels_last:
            to_channels_last(task)
        self.average = MovingAverage(task, self.config.ema_decay)
        self.average.eval()
        parameters = [p for p in task.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            parameters,
            lr=self.config.learning_rate,
            betas=self.config.betas,
            weight_decay=self.config.weight_decay,
            fused=run.device.type == "cuda",
        )
        self.step = 0  # optimizer steps done
        self.seconds = 0.0
        self._resume()
        self.module, self.wrapped_optimizer = run.fabric.setup(task, self.optimizer)

    def run(self) -> nn.Module:
        run, stage, config = self.context, self.stage, self.config
        averaged: nn.Module = self.average.module
        if self.step >= config.steps:
            return averaged
        run.log.forget_after(stage.name, self.step)
        began = time.monotonic() - self.seconds
        stage.task.train()
        with run.log.bar(stage.name, config.steps, self.step) as bar:
            batches = prefetch(stage.batch, range(self.step, config.steps))
            try:
                for step, batch in batches:
                    terms = self._one_step(step, batch)
                    self.step, self.seconds = step + 1, time.monotonic() - began
                    numbers = self._watch(terms)
                    bar.update(
                        self.step, "  ".join(f"{name} {value:.4g}" for name, value in numbers.items() if name != "lr")
                    )
                    if self.step % config.save_every == 0 or self.step == config.steps:
                        self._save()
                    run.check_stop()
            except Interrupted:
                self._save()
                raise
            finally:
                batches.close()  # type: ignore[attr-defined]
        return averaged

    def _one_step(self, step: int, batch: B) -> dict[str, Tensor]:
        rate = learning_rate(self.config, step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        stage, fabric = self.stage, self.context.fabric
        stage.before_step(step, batch, self.average.module)
        terms = stage.losses(self.module, batch, step)
        fabric.backward(terms["loss"])
        norm = fabric.clip_gradients(
            self.module, self.wrapped_optimizer, max_norm=self.config.gradient_clip, error_if_nonfinite=False
        )
        if norm is not None:
            terms["gradient_norm"] = norm
        self.wrapped_optimizer.step()
        self.wrapped_optimizer.zero_grad(set_to_none=True)
        self.average.update_parameters(stage.task)
        extra = stage.after_step(step, terms, self.average.module)
        terms.update({name: torch.tensor(value) for name, value in extra.items()})
        return terms

    def _watch(self, terms: dict[str, Tensor]) -> dict[str, float]:
        """Log, check and draw when it is time to; returns what was logged."""
        config, stage, log = self.config, self.stage, self.context.log
        last = self.step == config.steps
        numbers: dict[str, float] = {}
        if self.step % config.log_every == 0 or self.step == 1 or last:
            numbers = {name: float(value.detach()) for name, value in terms.items() if value.ndim == 0}
            if self.context.highest(not all(math.isfinite(value) for value in numbers.values())):
                raise TrainingError(
                    f"stage {stage.name!r}: the loss is no number at step {self.step} ({numbers}): lower "
                    "learning_rate or use precision = '32-true', then start again with --fresh"
                )
            numbers["lr"] = learning_rate(config, self.step - 1)
            log.write(stage.name, self.step, numbers, seconds=self.seconds)
        if self.step % config.check_every == 0 or last:
            found = stage.check(self.step, stage.task, self.average.module)
            stage.task.train()
            if found:
                log.write(stage.name, self.step, found)
                log.say(f"{stage.name} step {self.step}: " + "  ".join(f"{k} {v:.4g}" for k, v in found.items()))
        if (self.step % config.picture_every == 0 or last) and self.context.fabric.is_global_zero:
            stage.picture(self.step, self.average.module)
        return numbers

    def _save(self) -> None:
        if not self.context.fabric.is_global_zero:
            return
        task = self.stage.task
        tensors = {f"model.{k}": v for k, v in task.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.module.state_dict().items()}
        tensors["averages.count"] = self.average.n_averaged
        tensors |= {f"optimizer.{k}": v for k, v in optimizer_tensors(self.optimizer, task).items()}
        tensors |= {f"extra.{k}": v for k, v in self.stage.extra_state().items()}
        record = {
            "stage": self.stage.name,
            "step": self.step,
            "seconds": round(self.seconds, 1),
            "threads": torch.get_num_threads(),
        }
        save_state(self.context.folder.state(self.stage.name), tensors, record)

    def _resume(self) -> None:
        state = load_state(self.context.folder.state(self.stage.name))
        if state is None:
            return
        task = self.stage.task
        restore_module(task, state.part("model"))
        restore_module(self.average.module, state.part("average"))
        self.average.n_averaged.copy_(state.tensors["averages.count"])
        restore_optimizer(self.optimizer, task, state.part("optimizer"))
        self.stage.load_extra_state(state.part("extra"))
        self.step, self.seconds = int(state.record["step"]), float(state.record["seconds"])
        if self.step >= self.config.steps:
            self.context.log.say(f"{self.stage.name}: done, {self.step} steps")
            return
        self.context.log.say(f"{self.stage.name}: resuming after step {self.step}")
        if state.record["threads"] != torch.get_num_threads():
            self.context.log.say(
                f"{self.stage.name}: saved with {state.record['threads']} threads, now {torch.get_num_threads()}: "
                "the result will differ in the last digits"
            )


def to_channels_last(module: nn.Module) -> None:
    """Order the weights of 3D convolutions channels last: several times faster on CPUs."""
    for parameter in module.parameters():
        if parameter.ndim == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
