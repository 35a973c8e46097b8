"""Averaged weights: width, formula, file layout, choice of the best one."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from napari_vqldm.errors import ConfigError
from napari_vqldm.training.averages import Averages, PowerAverage, best_of, power_of_width
from napari_vqldm.training.config import StageConfig
from napari_vqldm.training.resume import StageState


def weight(module: nn.Module, name: str = "weight") -> Tensor:
    """Return a weight of a module."""
    return module.get_parameter(name).detach()


@pytest.mark.parametrize("width", [0.005, 0.05, 0.10, 0.2, 0.28])
def test_the_exponent_has_the_width(width: float) -> None:
    gamma = power_of_width(width)
    assert math.sqrt((gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3))) == pytest.approx(width, rel=1e-9)


def test_exponents_of_the_paper() -> None:
    """Karras et al. 2024 give 16.97 and 6.94 for 5 % and 10 %."""
    assert power_of_width(0.05) == pytest.approx(16.97, abs=0.01)
    assert power_of_width(0.10) == pytest.approx(6.94, abs=0.01)


@pytest.mark.parametrize("width", [0.0, -0.1, 0.2887, 1.0])
def test_impossible_widths_are_refused(width: float) -> None:
    with pytest.raises(ConfigError, match="ema_lengths"):
        power_of_width(width)


@pytest.mark.parametrize("width", [0.05, 0.1, 0.25])
def test_the_profile_of_a_power_average_has_the_width(width: float) -> None:
    """Weights that hold the step number and its square tell mean and variance of the averaging profile."""
    steps = 1500
    layer = nn.Linear(2, 1, bias=False).double()
    average = PowerAverage(layer, width)
    for step in range(1, steps + 1):
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([[step, step**2]]))
        average.update_parameters(layer)
        if step == 1:
            assert torch.equal(weight(average.module), layer.weight)
    mean, square = weight(average.module)[0].tolist()
    assert math.sqrt(square - mean**2) / steps == pytest.approx(width, rel=0.01)


def test_a_power_average_is_a_weighted_mean_of_all_steps() -> None:
    average, layer = PowerAverage(nn.Linear(1, 1, bias=False).double(), 0.1), nn.Linear(1, 1, bias=False).double()
    gamma, expected = power_of_width(0.1), 0.0
    for t, value in enumerate((3.0, -1.0, 2.5, 7.0), start=1):
        nn.init.constant_(layer.weight, value)
        average.update_parameters(layer)
        decay = (1 - 1 / t) ** (gamma + 1)
        expected = decay * expected + (1 - decay) * value
        assert float(weight(average.module)) == pytest.approx(expected, rel=1e-12)


class WithCodebook(nn.Module):
    """A layer and a codebook under the name that stages use."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.quantizer = nn.Module()
        self.quantizer.codebook = nn.Parameter(torch.zeros(4, 2))


def trained(config: StageConfig, steps: int = 5) -> tuple[nn.Module, Averages]:
    """Averages over a few random weights."""
    task = WithCodebook()
    averages, generator = Averages(task, config), torch.Generator().manual_seed(0)
    for _ in range(steps):
        with torch.no_grad():
            for parameter in task.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        averages.update(task)
    return task, averages


POWER = StageConfig(steps=10, ema="power", ema_lengths=(0.05, 0.1, 0.2))


def test_one_average_keeps_the_names_of_a_state() -> None:
    for config in (StageConfig(steps=10), StageConfig(steps=10, ema="power", ema_lengths=(0.1,))):
        task, averages = trained(config)
        assert set(averages.tensors()) == {"averages.count"} | {f"average.{name}" for name in task.state_dict()}


def test_averages_survive_a_round_trip() -> None:
    task, averages = trained(POWER)
    saved = {name: tensor.clone() for name, tensor in averages.tensors().items()}
    assert {name.split(".")[0] for name in saved} == {"average", "average1", "average2", "averages"}
    fresh = Averages(WithCodebook(), POWER)
    fresh.load(StageState(saved, {}))
    for both in (averages, fresh):
        both.update(task)
    for a, b in zip(averages.modules, fresh.modules, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    widths = [(weight(m, "layer.weight") - weight(task, "layer.weight")).norm().item() for m in averages.modules]
    assert all(short < long for short, long in pairwise(widths))  # a longer average lags more


def test_a_code_that_jumps_in_one_average_jumps_in_all() -> None:
    _, averages = trained(POWER)
    before = [weight(module, "quantizer.codebook").clone() for module in averages.modules]
    with averages.jumps_shared():
        weight(averages.first, "quantizer.codebook")[2] = 9.0
    for module, old in zip(averages.modules, before, strict=True):
        new = weight(module, "quantizer.codebook")
        assert torch.equal(new[2], torch.tensor([9.0, 9.0]))
        assert torch.equal(new[[0, 1, 3]], old[[0, 1, 3]])


def test_the_best_check_wins() -> None:
    assert best_of([{"held_out_loss": 0.3}, {"held_out_loss": 0.2}]) == (1, [0.3, 0.2])
    assert best_of([{"held_out_average_db": 20.0, "x": 1.0}, {"held_out_average_db": 19.0, "x": 2.0}])[0] == 0
    assert best_of([{"held_out_average_db": 20.0}, {"held_out_average_db": 21.0}])[0] == 1
    assert best_of([{}, {}]) == (0, [])
    assert best_of([{"held_out_loss": 0.2}, {"held_out_loss": 0.2}])[0] == 0


def test_the_result_is_first() -> None:
    _, averages = trained(POWER)
    modules = averages.modules
    averages.put_first(2)
    assert averages.first is modules[2] and averages.labels == ["0.2", "0.05", "0.1"]
