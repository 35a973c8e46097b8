"""What is asked of an evaluation, and what can be refused before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from napari_vqldm import __version__
from napari_vqldm.checkpoint import Model
from napari_vqldm.errors import ConfigError
from napari_vqldm.metrics.feature_unit import load_unit
from napari_vqldm.metrics.features import FeatureExtractor, available_versions
from napari_vqldm.metrics.tracer_bias import tracer_bias
from napari_vqldm.report.samples import check_window
from napari_vqldm.simulate.mt_sim import Split, mt_sim_split
from napari_vqldm.volume import Float3

SAMPLE_SEED = 2_026_001  # of noise and, where nothing is asked, of conditions
QUICK_BANK = 96


@dataclass(frozen=True)
class Effort:
    """How much is computed.

    Attributes
    ----------
    count : int
        Volumes of each set.
    reconstructions : int
        Simulated volumes that a model reconstructs.
    bank, queries : int
        Training volumes that are searched for copies (None: all of them), and samples that they are searched for.
    """

    name: str
    count: int
    reconstructions: int
    bank: int | None
    queries: int


QUICK = Effort("quick", 16, 8, QUICK_BANK, 8)
FULL = Effort("full", 64, 64, None, 32)


@dataclass(frozen=True)
class Plan:
    """One evaluation as it was asked for; the fields are the parameters of `evaluate.evaluate_steps`."""

    candidate: Model | Path
    against: Split | Path
    effort: Effort
    extractor: FeatureExtractor
    sampling_steps: int | None
    voxel_size_um: Float3 | None

    @property
    def is_simulated(self) -> bool:
        """Whether the reference is a split of MT-Sim v1."""
        return isinstance(self.against, Split)

    @property
    def split(self) -> Split:
        """The split that is the reference; beside real stacks, the one that stands for the simulator."""
        return self.against if isinstance(self.against, Split) else mt_sim_split("standard", "test")

    @property
    def real_name(self) -> str:
        """Name of the row that is another draw of the reference."""
        return "another seed" if self.is_simulated else "other half"

    def check(self) -> None:
        """Refuse what would fail after minutes.

        Raises
        ------
        ConfigError
            If more volumes are asked for than a split holds, the model's window is too small, or a model without
            denoiser is compared with real stacks.
        """
        count = self.effort.count
        if self.is_simulated:
            available = min(mt_sim_split(self.split.tier, name).count for name in ("test", "val", "extractor"))
            if count > available:
                raise ConfigError(f"--count {count}: expected at most {available}, the volumes of a split")
        if isinstance(self.candidate, Model):
            check_window(self.candidate)
            if self.candidate.denoiser is None and not self.is_simulated:
                raise ConfigError(
                    f"model {self.candidate.name} has no denoiser, so it generates nothing: evaluate it against a tier "
                    "of MT-Sim v1"
                )
        if self.extractor.version in available_versions():
            load_unit(self.extractor.version)

    def about(self, size: int, notes: Sequence[str]) -> dict[str, Any]:
        """Say what was compared with what, and by which frozen tools; ``size`` volumes a set."""
        split = self.split
        return {
            "format": 1,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "package": __version__,
            "candidate": self._candidate() | self._sampling(),
            "against": f"MT-Sim v1, {split.tier} tier, {split.name} split" if self.is_simulated else str(self.against),
            "track": "simulated" if self.is_simulated else "real stacks",
            "effort": self.effort.name,
            "volumes_per_set": size,
            "extractor": {"version": self.extractor.version, "sha256": self.extractor.sha256},
            "tracer_bias": tracer_bias().lines(),
            "notes": list(notes),
        }

    def _candidate(self) -> dict[str, Any]:
        if isinstance(self.candidate, Model):
            return {
                "kind": "model",
                "name": self.candidate.name,
                "family": self.candidate.config.family,
                "weights_sha256": self.candidate.weights_sha256,
            }
        return {"kind": "folder", "name": str(self.candidate)}

    def _sampling(self) -> dict[str, Any]:
        """Say how samples were drawn."""
        if not isinstance(self.candidate, Model) or self.candidate.denoiser is None:
            return {}
        diffusion = self.candidate.config.diffusion
        steps = self.sampling_steps or diffusion.steps
        device = str(self.candidate.device)
        return {"sampler": diffusion.sampler, "steps": steps, "seed": SAMPLE_SEED, "device": device}
