"""Averaged weights: what a stage returns is the mean of many steps, not the last one.

Exponential averages forget at one rate. Power-function averages (Karras et al. 2024, arXiv:2312.02696, Sec. 3.1 and
App. C) have a width that is a fixed share of the training so far; several widths live side by side, since the best one
is known only at the end.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from napari_vqldm.errors import ConfigError
from napari_vqldm.training.config import StageConfig
from napari_vqldm.training.resume import StageState, restore_module

LARGEST_WIDTH = 12.0**-0.5  # of a plain mean, gamma = 0


def power_of_width(width: float) -> float:
    """Return the exponent gamma of a power-function average, t^gamma, of a relative width.

    Parameters
    ----------
    width : float
        Standard deviation of the averaging profile over the length of the training, above 0 and below 0.2887.

    Returns
    -------
    float
        Solution of ``width^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3))``.

    Raises
    ------
    ConfigError
        If no profile has this width.

    Notes
    -----
    Source: Karras et al. 2024, arXiv:2312.02696, App. C: moments of the density (gamma + 1) t^gamma on [0, 1].
    """
    if not 0 < width < LARGEST_WIDTH:
        raise ConfigError(f"ema_lengths: expected widths above 0 and below {LARGEST_WIDTH:.4f}, got {width}: lower it")
    low, high = 0.0, 1.0 / width  # the width falls with gamma, and is below 1 / gamma
    for _ in range(200):
        middle = 0.5 * (low + high)
        if (middle + 1) / ((middle + 2) ** 2 * (middle + 3)) > width**2:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


class _Average(AveragedModel, ABC):
    """Copy of a module that holds averaged weights.

    The update of the parent sends its counter to the GPU and so waits for the step that it averages.
    """

    @abstractmethod
    def weight(self, n: int) -> float:
        """Return the weight of the newest weights, after ``n`` averaged ones."""

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Move the average toward the weights of ``model``; buffers are copied."""
        weight = self.weight(int(self.n_averaged))  # on the CPU
        torch._foreach_lerp_(list(self.module.parameters()), list(model.parameters()), weight)
        for kept, current in zip(self.module.buffers(), model.buffers(), strict=True):
            kept.copy_(current)
        self.n_averaged += 1


class MovingAverage(_Average):
    """Copy of a module that holds the exponential moving average of its weights; young averages forget faster."""

    def __init__(self, task: nn.Module, decay: float) -> None:
        super().__init__(task)
        self.decay = decay

    def weight(self, n: int) -> float:
        """Return the weight of the newest weights, after ``n`` averaged ones."""
        return 1.0 - min(self.decay, (1 + n) / (10 + n)) if n else 1.0


class PowerAverage(_Average):
    """Copy of a module that holds the power-function average of its weights.

    Source: arXiv:2312.02696, Eq. 127: the average after t steps decays by beta(t) = (1 - 1/t)^(gamma + 1).
    """

    def __init__(self, task: nn.Module, width: float) -> None:
        super().__init__(task)
        self.exponent = power_of_width(width) + 1.0

    def weight(self, n: int) -> float:
        """Return the weight of the newest weights, after ``n`` averaged ones."""
        t = n + 1
        return 1.0 - float((1.0 - 1.0 / t) ** self.exponent)


class Averages:
    """The averages of one stage; the first one serves for checks and pictures."""

    def __init__(self, task: nn.Module, config: StageConfig) -> None:
        self._all: list[_Average]
        if config.ema == "power":
            self.labels = [f"{width:g}" for width in config.ema_lengths]
            self._all = [PowerAverage(task, width) for width in config.ema_lengths]
        else:
            self.labels = ["exponential"]
            self._all = [MovingAverage(task, config.ema_decay)]
        for average in self._all:
            average.eval()

    @property
    def modules(self) -> list[nn.Module]:
        """Return the averaged copies of the task."""
        return [average.module for average in self._all]

    @property
    def first(self) -> nn.Module:
        """Return the averaged copy that serves for checks and pictures, and at the end as the result."""
        return self._all[0].module

    def update(self, task: nn.Module) -> None:
        """Take in the weights after a step."""
        for average in self._all:
            average.update_parameters(task)

    def put_first(self, index: int) -> None:
        """Make an average the result."""
        self._all.insert(0, self._all.pop(index))
        self.labels.insert(0, self.labels.pop(index))

    @contextmanager
    def jumps_shared(self) -> Iterator[None]:
        """Carry over to all averages what the block sets in the codebook of the first one: a code that jumped."""
        if len(self._all) == 1:
            yield
            return
        before = {name: tensor.detach().clone() for name, tensor in _codebooks(self.first).items()}
        yield
        with torch.no_grad():
            for other in self.modules[1:]:
                target = _codebooks(other)
                for name, tensor in _codebooks(self.first).items():
                    target[name].copy_(torch.where(tensor != before[name], tensor, target[name]))

    def tensors(self) -> dict[str, Tensor]:
        """Return what a state keeps: ``average.*`` of the first, ``average1.*`` of the next, ``averages.count``."""
        found = {
            f"{_prefix(i)}.{name}": tensor
            for i, module in enumerate(self.modules)
            for name, tensor in module.state_dict().items()
        }
        return found | {"averages.count": self._all[0].n_averaged}

    def load(self, state: StageState) -> None:
        """Take back `tensors`."""
        for i, average in enumerate(self._all):
            restore_module(average.module, state.part(_prefix(i)))
            average.n_averaged.copy_(state.tensors["averages.count"])


def best_of(found: Sequence[Mapping[str, float]]) -> tuple[int, list[float]]:
    """Choose by the numbers of a check, one mapping an average.

    Returns
    -------
    tuple
        Index of the lowest "held_out_loss", or else of the highest "held_out_average_db", and these numbers; the first
        without any. Equal ones: the first of them.
    """
    for key, sign in (("held_out_loss", 1.0), ("held_out_average_db", -1.0)):
        if all(key in numbers for numbers in found):
            scores = [numbers[key] for numbers in found]
            return min(range(len(scores)), key=lambda i: sign * scores[i]), scores
    return 0, []


def _prefix(index: int) -> str:
    """Begin of the names in a state; the first has that of a state with one average."""
    return f"average{index or ''}"


def _codebooks(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that a stage sets besides the optimizer."""
    return {name: tensor for name, tensor in module.named_parameters() if ".quantizer." in f".{name}"}
