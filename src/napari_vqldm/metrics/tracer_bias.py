"""The frozen tracer as data: its constants, the volumes that they were checked on, and what it gets wrong.

Every report that prints traced numbers prints `TracerBias.lines` beside them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

from napari_vqldm.errors import ConfigError

VERSION = 1

_ROWS = (
    ("length_density", "length density"),
    ("median_length", "median connected length"),
    ("mean_curvature", "mean curvature"),
    ("persistence_length", "apparent persistence length"),
)


@dataclass(frozen=True)
class TracerFile:
    """Content of ``data/tracer.json``.

    Attributes
    ----------
    version : int
        Of the constants: numbers traced under different versions are not comparable.
    constants : mapping
        Defaults of `TracerSettings`.
    provenance : mapping
        Where the constants come from and which seeds they were checked on.
    bias : mapping
        Measured by ``benchmarks/tracer_calibration.py``.
    """

    version: int
    constants: Mapping[str, float]
    provenance: Mapping[str, Any]
    bias: Mapping[str, Any]


@dataclass(frozen=True)
class TracerBias:
    """Traced over true value, minus 1, on simulated volumes with exact truth.

    Attributes
    ----------
    version : int
        Of the tracer.
    measured_on : str
        Which volumes, one sentence.
    overall : mapping of str to float
        ``length_density``, ``median_length``, ``mean_curvature``, ``persistence_length``.
    by_organisation : mapping of str to mapping
        The same per organisation.
    centre_line_f1 : float
        Mean centre-line F1 against the truth.
    """

    version: int
    measured_on: str
    overall: Mapping[str, float]
    by_organisation: Mapping[str, Mapping[str, float]]
    centre_line_f1: float

    def lines(self) -> list[str]:
        """Return the lines that a report prints."""
        head = f"Tracer version {self.version}, bias on {self.measured_on}; centre-line F1 {self.centre_line_f1:.2f}"
        result = [head]
        for key, name in _ROWS:
            parts = ", ".join(f"{kind} {row[key]:+.0%}" for kind, row in self.by_organisation.items() if key in row)
            result.append(f"{name}: {self.overall[key]:+.0%} ({parts})")
        return result


@lru_cache(maxsize=1)
def tracer_file() -> TracerFile:
    """Read the frozen constants and the bias.

    Raises
    ------
    ConfigError
        If the packaged file is of another version.
    """
    file = resources.files("napari_vqldm.metrics") / "data" / "tracer.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    if content.get("version") != VERSION:
        raise ConfigError(
            f"tracer.json: expected version {VERSION}, got {content.get('version')}: reinstall the package"
        )
    return TracerFile(content["version"], content["constants"], content.get("provenance", {}), content.get("bias", {}))


def tracer_bias() -> TracerBias:
    """Return the measured bias of the frozen tracer, to be printed beside every traced number."""
    bias = tracer_file().bias
    return TracerBias(
        tracer_file().version, bias["measured_on"], bias["overall"], bias["by_organisation"], bias["centre_line_f1"]
    )
