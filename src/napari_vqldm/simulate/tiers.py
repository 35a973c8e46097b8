"""Standard tiers: fixed distributions on which numbers are compared, kept as data."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from napari_vqldm.config import SimulationConfig, validate
from napari_vqldm.errors import ConfigError

TIERS = ("sparse", "standard", "hard")


def read_data(name: str) -> Any:
    """Return the content of a JSON file among the simulator's data."""
    return json.loads((resources.files("napari_vqldm.simulate") / "data" / name).read_text(encoding="utf-8"))


def tier(name: str = "standard") -> SimulationConfig:
    """Return the simulation configuration of a tier.

    ``sparse``: 0.05-0.15 um of filament per um3, 300 photons. ``standard``: 0.1-0.5 um per um3, 50-200 photons.
    ``hard``: 0.5-1.5 um per um3, 20-50 photons, focused 5 um deep into a specimen of refractive index 1.38.

    Raises
    ------
    ConfigError
        If there is no tier of that name.
    """
    if name not in TIERS:
        raise ConfigError(f"unknown tier {name!r}: choose one of {', '.join(TIERS)}")
    return validate(SimulationConfig, read_data(f"{name}.json"), f"tier {name}")
