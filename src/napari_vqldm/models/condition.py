"""From named physical conditions to the vector that the denoiser receives."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from napari_vqldm.config import ConditionConfig
from napari_vqldm.errors import ConditionError


def encode_condition(config: ConditionConfig, values: Mapping[str, float | str]) -> Tensor:
    """Standardise one set of conditions.

    Parameters
    ----------
    config : ConditionConfig
        Names with mean and standard deviation of their logarithms, and the organisations known.
    values : mapping
        One positive number per name (units as in the name) and ``organisation``.

    Returns
    -------
    Tensor
        (width,) float32: (log(value) - log_mean) / log_sd per name, then the one-hot organisation.

    Raises
    ------
    ConditionError
        If an entry is missing, unknown, not positive, or the organisation is not one of the model's.
    """
    expected = {*config.names, "organisation"}
    if set(values) != expected:
        raise ConditionError(f"expected the conditions {sorted(expected)}, got {sorted(values)}")
    entries = []
    for name, mean, sd in zip(config.names, config.log_mean, config.log_sd, strict=True):
        value = float(values[name])
        if not (math.isfinite(value) and value > 0):
            raise ConditionError(f"condition {name}: expected a positive number, got {values[name]!r}")
        entries.append((math.log(value) - mean) / sd)
    if values["organisation"] not in config.organisations:
        raise ConditionError(
            f"condition organisation: expected one of {', '.join(config.organisations)}, got {values['organisation']!r}"
        )
    entries += [1.0 if values["organisation"] == name else 0.0 for name in config.organisations]
    return torch.tensor(entries, dtype=torch.float32)
