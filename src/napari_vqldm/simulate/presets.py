"""Presets near real stacks: distributions tuned by hand on public images, kept as commented data."""

from __future__ import annotations

import tomllib
from importlib import resources

from napari_vqldm.config import SimulationConfig, validate
from napari_vqldm.errors import ConfigError
from napari_vqldm.simulate.tiers import TIERS, tier

PRESETS = ("spindle", "interphase")


def preset(name: str) -> SimulationConfig:
    """Return the simulation configuration of a preset, or of a tier.

    ``spindle``: a mitotic spindle in a round cell without nucleus, confocal, 18 x 17 x 17 um. ``interphase``: a dense
    network in a flat cell with a nucleus, some of it asters, 3.2 x 16 x 16 um. ``docs/simulator.md`` compares both with
    the real images they were tuned on. The tiers are those of `tier`.

    Raises
    ------
    ConfigError
        If there is no preset and no tier of that name.
    """
    if name in TIERS:
        return tier(name)
    if name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}: choose one of {', '.join((*PRESETS, *TIERS))}")
    text = (resources.files("napari_vqldm.simulate") / "data" / f"{name}.toml").read_text(encoding="utf-8")
    return validate(SimulationConfig, tomllib.loads(text), f"preset {name}")
