"""What the stages of a run share, and how its processes decide alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from lightning_fabric import Fabric
from torch import Tensor

from napari_vqldm.errors import TrainingError
from napari_vqldm.training.config import TrainConfig
from napari_vqldm.training.folder import RunFolder
from napari_vqldm.training.interrupt import Interrupted, StopRequest
from napari_vqldm.training.progress import RunLog

FAILED = 1000  # beyond any signal number


@dataclass
class Run:
    """Everything that the stages share."""

    config: TrainConfig
    folder: RunFolder
    fabric: Fabric
    log: RunLog
    stop: StopRequest
    started: float = field(default_factory=time.monotonic)
    rate_factor: float = 1.0  # of every learning rate, after a rewind

    @property
    def dtype(self) -> torch.dtype:
        """Number format of weights and of what is drawn for them."""
        return torch.float64 if self.config.precision == "64-true" else torch.float32

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

    def mean(self, numbers: Mapping[str, Tensor]) -> dict[str, float]:
        """Return scalars, each averaged over the processes: what is logged is that of the whole batch."""
        names = sorted(numbers)
        values = torch.stack([numbers[name].detach().to(self.device, torch.float64) for name in names])
        if self.fabric.world_size > 1:
            values = self.fabric.all_reduce(values, reduce_op="mean")  # type: ignore[assignment]
        found = dict(zip(names, values.tolist(), strict=True))
        return {name: found[name] for name in numbers}

    def first_alone(self, work: Callable[[], None]) -> None:
        """Let the first process do ``work`` while the others wait for it; what stops it stops all of them.

        Raises
        ------
        Interrupted
            In every process, when a signal reached the first one.
        TrainingError
            In the others, when the first one failed.
        """
        signal_number, failure = 0, None
        if self.fabric.is_global_zero:
            try:
                work()
            except Interrupted as stopped:
                signal_number = stopped.signal_number
            except Exception as error:  # noqa: BLE001 - raised again below, once the others know
                signal_number, failure = FAILED, error
        told = self.highest(signal_number)
        if failure is not None:
            raise failure
        if told == FAILED:
            raise TrainingError("the first process of this run failed: see its message")
        if told:
            raise Interrupted(told)

    def peak_memory(self) -> dict[str, float]:
        """Return the highest memory that tensors took on the GPU since the last call, {"memory_gib": ...}."""
        if self.device.type != "cuda":
            return {}
        peak = torch.cuda.max_memory_allocated(self.device) / 2**30
        torch.cuda.reset_peak_memory_stats(self.device)
        return {"memory_gib": round(peak, 3)}

    def check_stop(self) -> None:
        """Stop if a signal reached any process: one that left alone would leave the others waiting for it."""
        number = self.highest(self.stop.signal_number or 0)
        if number:  # else nothing is written: a signal that came while the processes agreed must not be lost
            self.stop.signal_number = number
            self.stop.check()
