"""What the stages of a run share, and how its processes decide alike."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from lightning_fabric import Fabric
from torch import Tensor

from napari_vqldm.training.config import TrainConfig
from napari_vqldm.training.folder import RunFolder
from napari_vqldm.training.interrupt import StopRequest
from napari_vqldm.training.progress import RunLog


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

    def check_stop(self) -> None:
        """Stop if a signal reached any process: one that left alone would leave the others waiting for it."""
        number = self.highest(self.stop.signal_number or 0)
        if number:  # else nothing is written: a signal that came while the processes agreed must not be lost
            self.stop.signal_number = number
            self.stop.check()
