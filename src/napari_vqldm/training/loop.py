"""The training loop, shared by both networks: optimizer, averaged weights, checks, saving, resuming."""

from __future__ import annotations

import math
import time
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from napari_vqldm.errors import TrainingError
from napari_vqldm.models.checkpointing import recompute_blocks
from napari_vqldm.training.accumulation import backward_in_parts
from napari_vqldm.training.averages import Averages, best_of
from napari_vqldm.training.context import Run
from napari_vqldm.training.data import prefetch
from napari_vqldm.training.interrupt import Interrupted
from napari_vqldm.training.lr_schedule import learning_rate
from napari_vqldm.training.progress import Bar
from napari_vqldm.training.resume import (
    StageState,
    load_state,
    optimizer_tensors,
    restore_module,
    restore_optimizer,
    save_state,
)
from napari_vqldm.training.rewind import Rewind, all_finite
from napari_vqldm.training.trainable import TrainableStage
from napari_vqldm.training.watchers import Watch, watchers_for

B = TypeVar("B")


def train(run: Run, stage: TrainableStage[B]) -> nn.Module:
    """Run a stage to its end and return its task with averaged weights; picks up a saved state.

    Raises
    ------
    TrainingError
        When the loss is no number a second time or the stage's own check fails.
    Interrupted
        After a signal; the state is saved.
    """
    return _Loop(run, stage).run()


class _Loop(Generic[B]):
    def __init__(self, run: Run, stage: TrainableStage[B]) -> None:
        self.context, self.stage, self.config = run, stage, stage.config
        task = stage.task.to(run.device, run.dtype)
        if stage.channels_last:
            to_channels_last(task)
        if self.config.checkpoint_activations:
            recompute_blocks(task)
        self.averages = Averages(task, self.config)
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
        self.rewinds: list[Rewind] = []
        self.choice: dict[str, Any] = {}  # which average is the result, once the stage is done
        self.watch = self._new_watch()
        self._resume()
        self.module, self.wrapped_optimizer = run.fabric.setup(task, self.optimizer)

    def run(self) -> nn.Module:
        run, stage, config = self.context, self.stage, self.config
        if self.step >= config.steps:
            return self.averages.first
        run.log.forget_after(stage.name, self.step, [rewind.note() for rewind in self.rewinds])
        self.began = time.monotonic() - self.seconds
        if not run.folder.state(stage.name).exists():
            self._save()  # where a rewind before the first regular save goes
        stage.task.train()
        with run.log.bar(stage.name, config.steps, self.step) as bar:
            while self.step < config.steps:
                self._advance(bar)
        return self.averages.first

    def _advance(self, bar: Bar) -> None:
        """Train to the end, or go back once and return."""
        run, config = self.context, self.config
        batches = prefetch(self.stage.batch, range(self.step, config.steps))
        try:
            for step, batch in batches:
                terms = self._one_step(step, batch)
                saves = (step + 1) % config.save_every == 0 or step + 1 == config.steps
                if terms is None or (saves and run.highest(int(not self._is_finite()))):
                    self._go_back(step + 1)
                    return
                self.step, self.seconds = step + 1, time.monotonic() - self.began
                numbers = self._watch(terms)
                if numbers is None:
                    self._go_back(self.step)
                    return
                text = "  ".join(f"{name} {value:.4g}" for name, value in numbers.items() if name != "lr")
                bar.update(self.step, f"{text}  {self._trouble()}".rstrip() if text else "")
                if saves:
                    self._save()
                run.check_stop()
        except Interrupted:
            if self._is_finite():
                self._save()
            raise
        finally:
            batches.close()  # type: ignore[attr-defined]

    def _one_step(self, step: int, batch: B) -> dict[str, Tensor] | None:
        """Do one optimizer step; None when a loss or gradient is no number in any process."""
        self.context.rate_factor = math.prod(rewind.rate_factor(step) for rewind in self.rewinds)
        rate = self._rate(step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        stage, fabric = self.stage, self.context.fabric
        with self.averages.jumps_shared():
            stage.before_step(step, batch, self.averages.first)
        terms = backward_in_parts(fabric, stage, self.module, batch, step)
        norm = fabric.clip_gradients(
            self.module, self.wrapped_optimizer, max_norm=self.config.gradient_clip, error_if_nonfinite=False
        )
        good = torch.isfinite(terms["loss"].detach())
        if norm is not None:
            terms["gradient_norm"] = norm
            good = good & torch.isfinite(norm)
        if self.context.highest(int(not bool(good))):
            return None
        self.wrapped_optimizer.step()
        self.wrapped_optimizer.zero_grad(set_to_none=True)
        self.averages.update(stage.task)
        seen = dict(terms)  # the stage takes out what it needs
        with self.averages.jumps_shared():
            extra = stage.after_step(step, terms, self.averages.first)
        added = [
            terms[name].detach() for name in terms.keys() - seen.keys()
        ]  # by another optimizer: the discriminator's
        if added and self.context.highest(int(not bool(torch.stack([v.isfinite().all() for v in added]).all()))):
            return None
        terms.update({name: torch.tensor(value) for name, value in extra.items()})
        self.watch.observe(step + 1, seen | terms)
        return terms

    def _watch(self, terms: dict[str, Tensor]) -> dict[str, float] | None:
        """Log, check and draw when it is time to; returns what was logged, None when a term is no number."""
        config, stage, log = self.config, self.stage, self.context.log
        last = self.step == config.steps
        numbers: dict[str, float] = {}
        found: dict[str, float] = {}
        if self.step % config.log_every == 0 or self.step == 1 or last:
            numbers = self.context.mean({name: value for name, value in terms.items() if value.ndim == 0})
            if self.context.highest(int(not all(math.isfinite(value) for value in numbers.values()))):
                return None
            numbers["lr"] = self._rate(self.step - 1)
            log.write(stage.name, self.step, numbers, seconds=self.seconds, **self.context.peak_memory())
        if self.step % config.check_every == 0 or last:
            found = stage.check(self.step, stage.task, self.averages.first)
            if last:
                self._choose(found)
            stage.task.train()
            if found:
                log.write(stage.name, self.step, found)
                log.say(f"{stage.name} step {self.step}: " + "  ".join(f"{k} {v:.4g}" for k, v in found.items()))
        if numbers or found:
            troubles, new = self.watch.report(self.step, numbers | found)
            for trouble in troubles:
                log.note(stage.name, self.step, trouble.note())
            for trouble in new:
                log.say(f"{stage.name} step {self.step}: ! {trouble.watcher}: {trouble.message}")
        if (self.step % config.picture_every == 0 or last) and self.context.fabric.is_global_zero:
            stage.picture(self.step, self.averages.first)
        return numbers

    def _choose(self, found: dict[str, float]) -> None:
        """Make the average that checks best the result; ``found``: the check of the first one, replaced by its own."""
        labels = list(self.averages.labels)
        if len(labels) == 1:
            return
        others = self.averages.modules[1:]
        checks = [dict(found)] + [self.stage.check(self.step, self.stage.task, average) for average in others]
        index, scores = best_of(checks)
        index = int(self.context.fabric.broadcast(index))
        self.averages.put_first(index)
        found.update(checks[index])
        self.choice = {"ema_length": labels[index], "scores": dict(zip(labels, scores, strict=False))}
        self.context.log.note(self.stage.name, self.step, self.choice)
        shown = ", ".join(f"{label}: {score:.5g}" for label, score in self.choice["scores"].items())
        self.context.log.say(f"{self.stage.name}: averaged weights of length {labels[index]} are kept ({shown})")

    def _go_back(self, failed: int) -> None:
        """Return to the last saved state and be careful from there on; a second time is the end."""
        path, log = self.context.folder.state(self.stage.name), self.context.log
        if self.rewinds:
            end = self._no_number(failed, f"again, after going back from step {self.rewinds[-1].failed}")
            note = {"watcher": "not_a_number", "message": f"{end}", "value": float(failed)}
            log.note(self.stage.name, failed, note)
            raise end
        state = load_state(path)
        if state is None:
            raise self._no_number(failed, "and no state is saved")
        self.wrapped_optimizer.zero_grad(set_to_none=True)
        self._restore(state)
        self.seconds = time.monotonic() - self.began
        self.rewinds = [Rewind.after(failed, self.step)]
        self.stage.task.train()
        self.context.fabric.barrier()  # all have read the state before it is replaced
        self._save()
        notes = [rewind.note() for rewind in self.rewinds]
        log.forget_after(self.stage.name, self.step, notes)
        log.say(f"{self.stage.name} step {failed}: ! not_a_number: {notes[-1]['message']}")

    def _no_number(self, step: int, more: str) -> TrainingError:
        return TrainingError(
            f"stage {self.stage.name!r}: the loss is no number at step {step} {more}: lower "
            "learning_rate or use precision = '32-true', then start again with --fresh"
        )

    def _rate(self, step: int) -> float:
        return learning_rate(self.config, step) * math.prod(rewind.rate_factor(step) for rewind in self.rewinds)

    def _trouble(self) -> str:
        """Text for the progress line while something is the matter."""
        careful = [rewind.short for rewind in self.rewinds if self.step < rewind.until]
        return "  ".join(filter(None, [*careful, self.watch.text]))

    def _is_finite(self) -> bool:
        return all_finite([self.stage.task, *self.averages.modules], self.stage.extra_state().values())

    def _new_watch(self) -> Watch:
        ceiling = getattr(self.stage, "noise_ceiling_db", None)
        return Watch(watchers_for(self.stage.name, self.context.config, noise_ceiling_db=ceiling))

    def _save(self) -> None:
        if not self.context.fabric.is_global_zero:
            return
        task = self.stage.task
        tensors = {f"model.{k}": v for k, v in task.state_dict().items()}
        tensors |= self.averages.tensors()
        tensors |= {f"optimizer.{k}": v for k, v in optimizer_tensors(self.optimizer, task).items()}
        tensors |= {f"extra.{k}": v for k, v in self.stage.extra_state().items()}
        record: dict[str, Any] = {
            "stage": self.stage.name,
            "step": self.step,
            "seconds": round(self.seconds, 1),
            "threads": torch.get_num_threads(),
            "rewinds": [rewind.record() for rewind in self.rewinds],
            "watch": self.watch.state(),
        }
        save_state(self.context.folder.state(self.stage.name), tensors, record | self.choice)

    def _restore(self, state: StageState) -> None:
        """Take back everything that `_save` wrote; also from a later step of the same training."""
        task = self.stage.task
        restore_module(task, state.part("model"))
        self.averages.load(state)
        self.optimizer.state.clear()
        restore_optimizer(self.optimizer, task, state.part("optimizer"))
        self.stage.load_extra_state(state.part("extra"))
        self.step, self.seconds = int(state.record["step"]), float(state.record["seconds"])
        self.rewinds = [Rewind.of(record) for record in state.record.get("rewinds", [])]
        self.watch = self._new_watch()
        if "watch" in state.record:
            self.watch.load(state.record["watch"])

    def _resume(self) -> None:
        state = load_state(self.context.folder.state(self.stage.name))
        if state is None:
            return
        self._restore(state)
        say, name = self.context.log.say, self.stage.name
        if self.step >= self.config.steps:
            kept = f", averaged weights of length {state.record['ema_length']}" if "ema_length" in state.record else ""
            say(f"{name}: done, {self.step} steps{kept}")
            return
        say(f"{name}: resuming after step {self.step}")
        if state.record["threads"] != torch.get_num_threads():
            say(
                f"{name}: saved with {state.record['threads']} threads, now {torch.get_num_threads()}: "
                "the result will differ in the last digits"
            )


def to_channels_last(module: nn.Module) -> None:
    """Order the weights of 3D convolutions channels last: several times faster on CPUs."""
    for parameter in module.parameters():
        if parameter.ndim == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
