"""What the training loop needs to know about a network in training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from torch import Tensor, nn

from napari_vqldm.training.config import StageConfig, StageName

B = TypeVar("B")


class TrainableStage(Protocol[B]):
    """A stage that `napari_vqldm.training.loop.train` can run.

    A stage may also have ``noise_ceiling_db`` (float or None): 10 log10(1 / MSE) at which the training loss would
    describe the noise of its own target; see `napari_vqldm.training.watchers.AutoencoderOverfit`.
    """

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

    def split(self, batch: B, parts: int) -> Sequence[B]:
        """Cut a batch into equal parts, in the order of its samples."""
        ...

    def losses(self, task: nn.Module, batch: B, step: int) -> dict[str, Tensor]:
        """Call ``task`` on a batch; "loss" is minimized, other scalars are logged."""
        ...

    def before_step(self, step: int, batch: B, average: nn.Module) -> None:
        """Do what a step needs besides the optimizer, before its forward pass."""
        ...

    def after_step(self, step: int, terms: dict[str, Tensor], average: nn.Module) -> dict[str, float]:
        """Advance what the optimizer does not; returns numbers to log.

        ``terms`` are of the whole batch, whatever the number of parts that it was computed in.
        """
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
        """Take back `extra_state`, at the start or, going back in time, in the middle of a training."""
        ...
