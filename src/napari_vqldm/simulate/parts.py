"""What a configuration adds to the filaments of one volume: cell, bundles, buckles, labelling.

Each has random streams of its own, so that turning one on leaves the draws of everything else as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from napari_vqldm.config import Organisation, SimulationConfig
from napari_vqldm.simulate.buckles import Buckles
from napari_vqldm.simulate.bundles import Bundles
from napari_vqldm.simulate.cell import Cell, draw_cell
from napari_vqldm.simulate.draws import BUCKLES, BUNDLES, CELL, LABELLING, SCENE, generator_for, uniform
from napari_vqldm.simulate.filaments import FloatArray
from napari_vqldm.simulate.labelling import Labelling, draw_labelling


@dataclass(frozen=True)
class SceneParts:
    """Parts of the scene of one volume, as far as they are drawn before its filaments; None or 0: off."""

    config: SimulationConfig
    seed: int
    index: int
    cell: Cell | None
    bundled_share: float
    buckled_share: float
    labelling: Labelling | None

    def parameters(self) -> dict[str, Any]:
        """Return what `SampleParameters` keeps of the parts."""
        labelling = self.labelling
        return {
            "has_cell": self.cell is not None,
            "has_nucleus": self.cell is not None and self.cell.nucleus is not None,
            "bundled_share": self.bundled_share,
            "buckled_share": self.buckled_share,
            "fluorophores_per_um": None if labelling is None else labelling.fluorophores_per_um,
            "label_cv": 0.0 if labelling is None else labelling.intensity_cv,
            "label_correlation_um": None if labelling is None else labelling.correlation_um,
            "label_gap_share": 0.0 if labelling is None else labelling.gap_share,
        }

    def bundles(self) -> Bundles | None:
        """Return the source of followers, its generator at the start."""
        rng = generator_for(self.seed, self.index, BUNDLES)
        return Bundles(self.bundled_share, self.config.bundles.offset_um, rng) if self.bundled_share > 0 else None

    def buckles(self) -> Buckles | None:
        """Return the source of buckles, its generator at the start."""
        rng = generator_for(self.seed, self.index, BUCKLES)
        limits = self.config.buckles
        return Buckles(self.buckled_share, limits.radius_um, limits.deflection, rng) if self.buckled_share > 0 else None

    def segment_brightness(self, filaments: list[FloatArray]) -> list[FloatArray] | None:
        """Return the relative brightness (points - 1,) of the segments of each filament, or None: all 1."""
        if self.labelling is None:
            return None
        return self.labelling.brightness(filaments, generator_for(self.seed, self.index, LABELLING))


def draw_parts(
    config: SimulationConfig, organisation: Organisation, extent: FloatArray, seed: int, index: int
) -> SceneParts:
    """Draw the parts of volume ``index`` of ``seed``; ``extent`` (3,) is that of its window in um."""
    rng = generator_for(seed, index, SCENE)
    return SceneParts(
        config=config,
        seed=seed,
        index=index,
        cell=draw_cell(config.cell, organisation, extent, generator_for(seed, index, CELL)),
        bundled_share=uniform(rng, config.bundles.share),
        buckled_share=uniform(rng, config.buckles.share),
        labelling=draw_labelling(config.labelling, rng),
    )
