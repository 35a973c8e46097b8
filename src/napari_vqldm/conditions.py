"""What a generated volume is asked to be: named physical conditions, drawn or given, inside the trained range."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from napari_vqldm.condition_ranges import ORGANISATION, allowed_conditions, training_conditions
from napari_vqldm.config import ConditionConfig, Float3, ModelConfig, SimulationConfig
from napari_vqldm.errors import ConditionError
from napari_vqldm.models.condition import encode_condition
from napari_vqldm.simulate import Simulator

_TOLERANCE = 1e-6  # relative: a range end typed with seven digits is still inside


@dataclass(frozen=True)
class Conditions:
    """Conditions of one volume.

    Attributes
    ----------
    values : mapping
        Name to value, units as in the name, and ``organisation``; empty for a model without conditions.
    vector : Tensor or None
        (width,), what the denoiser receives; None for a model without conditions.
    voxel_size_um : tuple of float
        Voxel size (z, y, x) of the volume, um.
    """

    values: Mapping[str, float | str]
    vector: Tensor | None
    voxel_size_um: Float3


def check_conditions(config: ModelConfig, given: Mapping[str, float | str] | None) -> dict[str, float | str]:
    """Return the given conditions as clean values.

    Raises
    ------
    ConditionError
        If a name is unknown or a value is outside its trained range; the message names what is allowed.
    """
    if not given:
        return {}
    allowed = allowed_conditions(config)
    if not allowed:
        raise ConditionError(f"condition {next(iter(given))!r}: this model takes no conditions: leave them out")
    checked: dict[str, float | str] = {}
    for name, value in given.items():
        if name not in allowed:
            raise ConditionError(f"unknown condition {name!r}: this model takes {_describe(allowed)}")
        checked[name] = _check_value(name, value, allowed[name])
    return checked


def draw_conditions(
    config: ModelConfig, seed: int, index: int, given: Mapping[str, float | str] | None = None
) -> Conditions:
    """Draw the conditions of volume ``index`` of ``seed`` from the training distribution; ``given`` ones are kept.

    A function of its arguments alone: the same whatever the batch.

    Raises
    ------
    ConditionError
        See `check_conditions`.
    """
    fixed = check_conditions(config, given)
    known = training_conditions(config)
    if known is None:
        low, high = config.voxel_size_range_um
        z, y, x = (math.sqrt(a * b) for a, b in zip(low, high, strict=True))
        return Conditions({}, None, (z, y, x))
    condition, simulation = known
    drawn = Simulator(simulation).draw_parameters(seed, index).condition_values()
    taken = {name: drawn[name] for name in (*condition.names, ORGANISATION)}
    return _conditions(condition, simulation, {**taken, **fixed})


def blend_conditions(a: Conditions, b: Conditions, t: float) -> Conditions:
    """Return the conditions at ``t`` between two volumes of one model: a straight line in the vector that it receives.

    Positive numbers move along their logarithm. The organisation is a mixture; its name is that of the nearer end.
    """
    if a.vector is None or b.vector is None:
        return a
    values: dict[str, float | str] = {}
    for name, first in a.values.items():
        second = b.values[name]
        if isinstance(first, str) or isinstance(second, str):
            values[name] = first if t < 0.5 else second
        else:
            values[name] = _between(first, second, t)
    z, y, x = (_between(u, v, t) for u, v in zip(a.voxel_size_um, b.voxel_size_um, strict=True))
    return Conditions(values, (1 - t) * a.vector + t * b.vector, (z, y, x))


def _between(a: float, b: float, t: float) -> float:
    return a if a == b else float(a ** (1 - t) * b**t)


def _conditions(
    condition: ConditionConfig, simulation: SimulationConfig, values: Mapping[str, float | str]
) -> Conditions:
    z, y, x = simulation.voxel_size_um
    z = float(values.get("voxel_size_z_um", z))
    y, x = (float(values.get("voxel_size_xy_um", size)) for size in (y, x))
    return Conditions(dict(values), encode_condition(condition, values), (z, y, x))


def _check_value(name: str, value: float | str, allowed: tuple[float, float] | tuple[str, ...]) -> float | str:
    if name == ORGANISATION:
        if value not in allowed:
            choices = ", ".join(map(str, allowed))
            raise ConditionError(f"condition organisation: expected one of {choices}, got {value!r}")
        return value
    low, high = (float(end) for end in allowed)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not low * (1 - _TOLERANCE) <= float(value) <= high * (1 + _TOLERANCE):
        raise ConditionError(
            f"condition {name}: expected a number from {low:.4g} to {high:.4g}, the trained range, got {value!r}"
        )
    return float(value)


def _describe(allowed: Mapping[str, tuple[float, float] | tuple[str, ...]]) -> str:
    return ", ".join(
        f"{name} ({' | '.join(map(str, ends))})" if name == ORGANISATION else f"{name} ({ends[0]:.4g} to {ends[1]:.4g})"
        for name, ends in allowed.items()
    )
