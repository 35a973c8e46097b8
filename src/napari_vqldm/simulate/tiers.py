"""Standard tiers: fixed distributions on which numbers are compared, kept as data."""

from __future__ import annotations

import json
from importlib import resources

from napari_vqldm.config import SimulationConfig, validate
from napari_vqldm.errors import ConfigError

TIERS = ("standard",)


def tier(name: str = "standard") -> SimulationConfig:
    """Return the simulation configuration of a tier.

    Raises
    ------
    ConfigError
        If there is no tier of that name.
    """
    if name not in TIERS:
        raise ConfigError(f"unknown tier {name!r}: choose one of {', '.join(TIERS)}")
    file = resources.files("napari_vqldm.simulate") / "data" / f"{name}.json"
    return validate(SimulationConfig, json.loads(file.read_text(encoding="utf-8")), f"tier {name}")
