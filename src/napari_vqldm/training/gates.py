"""Is the autoencoder good enough to build on? Numbers on held-out volumes beside baselines that learn nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from napari_vqldm.card import GateResult
from napari_vqldm.coding import exact_math
from napari_vqldm.config import Int3
from napari_vqldm.errors import TrainingError
from napari_vqldm.latent import LatentSpace
from napari_vqldm.metrics.fidelity import (
    blank_baseline,
    choose_gaussian_sigma,
    gaussian_baseline,
    pearson,
    pooled_baseline,
    psnr_unit_range,
)
from napari_vqldm.models.base import BaseAutoencoder
from napari_vqldm.training.config import TrainConfig

Array = npt.NDArray[np.float32]

MARGIN_DB = {"full": 3.0, "smoke": 2.0}
INPUT_TARGET_MARGIN_DB = 0.5  # target = "input": only a collapse can be told without truth
COLLAPSE_MARGIN_DB = 0.5
COLLAPSE_STD_RATIO = 0.1
REMEDY = (
    "lower autoencoder.learning_rate, lengthen warmup_steps, use reconstruction = 'mse', or make the network smaller"
)


@dataclass(frozen=True)
class Judged:
    """Mean PSNR (dB, see `psnr_unit_range`) and correlation to the target of the model and of each baseline."""

    rows: dict[str, tuple[float, float]]
    gaussian_sigma: tuple[float, float, float]

    def psnr(self, row: str) -> float:
        """Mean PSNR of a row, dB."""
        return self.rows[row][0]

    def details(self) -> dict[str, float]:
        """Flat numbers for the checkpoint."""
        numbers = {
            f"psnr_unit_range_{name}_db": round(value[0], 4)
            for name, value in self.rows.items()
            if np.isfinite(value[0])
        }
        return numbers | {f"correlation_{name}": round(value[1], 5) for name, value in self.rows.items()}

    def table(self) -> list[str]:
        """Lines for the user."""
        lines = [f"{'row':>10}  PSNR dB  correlation"]
        return lines + [f"{name:>10}  {db:7.2f}  {r:11.4f}" for name, (db, r) in self.rows.items()]


def reconstruct_all(autoencoder: BaseAutoencoder, inputs: Sequence[Tensor]) -> list[Array]:
    """Reconstruct volumes (1, 1, D, H, W), one by one, as exact as the weights, through the denoiser's latent."""
    autoencoder.eval()
    like = next(autoencoder.parameters())
    device = like.device
    space = LatentSpace.unit(autoencoder).to(device, like.dtype)
    results = []
    for volume in inputs:
        with exact_math(device, "fp32"):
            results.append(space.decode(space.encode(volume.to(like.dtype)))[0, 0].float().cpu().numpy())
    return results


def judge(
    reconstructions: Sequence[Array],
    inputs: Sequence[Array],
    targets: Sequence[Array],
    factor: Int3,
    tuning: tuple[Sequence[Array], Sequence[Array]],
) -> Judged:
    """Compare reconstructions with their targets, and baselines with the same targets.

    Parameters
    ----------
    reconstructions, inputs, targets : sequence of ndarray
        Volumes (Z, Y, X), filament units.
    factor : tuple of int
        Downsampling factor: "pooled" keeps one number per latent voxel of the target.
    tuning : pair of sequences
        Inputs and targets of *other* volumes, on which the Gaussian's width is chosen.
    """
    sigma = choose_gaussian_sigma(*tuning)
    candidates = {
        "model": list(reconstructions),
        "noisy": list(inputs),
        "gaussian": [gaussian_baseline(volume, sigma) for volume in inputs],
        "pooled": [pooled_baseline(target, factor) for target in targets],
        "blank": [blank_baseline(target) for target in targets],
    }
    rows = {}
    for name, volumes in candidates.items():
        scores = [psnr_unit_range(v, t) for v, t in zip(volumes, targets, strict=True)]
        correlations = [pearson(v, t) for v, t in zip(volumes, targets, strict=True)]
        rows[name] = float(np.mean(scores)), float(np.mean(correlations))
    return Judged(rows, sigma)


def gate_of(judged: Judged, config: TrainConfig) -> tuple[GateResult, str]:
    """Apply the gate; returns the result and, when it failed, what is missing."""
    details = judged.details()
    model, blank, pooled = judged.psnr("model"), judged.psnr("blank"), judged.psnr("pooled")
    if config.model.target == "input":
        wanted, name = blank + INPUT_TARGET_MARGIN_DB, f"blank + {INPUT_TARGET_MARGIN_DB:g} dB"
    else:
        margin = MARGIN_DB.get(config.gate, MARGIN_DB["full"])
        wanted, name = blank + margin, f"blank + {margin:g} dB"
        if config.gate != "smoke" and pooled > wanted:
            wanted, name = pooled, "the target pooled to the latent grid"
    details["required_db"] = round(wanted, 4)
    passed = model > wanted if config.model.target == "input" else model >= wanted
    problem = (
        ""
        if passed
        else (f"the autoencoder reaches {model:.2f} dB on held-out volumes, below {name} ({wanted:.2f} dB)")
    )
    return GateResult(kind=config.gate, passed=bool(passed), details=details), problem


def enforce(result: GateResult, problem: str, config: TrainConfig) -> str:
    """Refuse a failed gate, or with ``gate = "record"`` return the warning to print; empty when passed.

    Raises
    ------
    TrainingError
        When the gate failed and is not merely recorded.
    """
    if result.passed:
        return ""
    if config.gate == "record":
        return f"gate failed and recorded: {problem}"
    raise TrainingError(f"{problem}: train longer or {REMEDY}; gate = 'record' goes on and marks the checkpoint")


def watch_for_collapse(
    reconstructions: Sequence[Array], targets: Sequence[Array], step: int, *, patient: bool = False
) -> dict[str, float]:
    """Return held-out numbers of stage 1; ``patient`` only measures, for the first steps.

    Raises
    ------
    TrainingError
        If the network returns almost a constant.
    """
    scores = [psnr_unit_range(r, t) for r, t in zip(reconstructions, targets, strict=True)]
    blanks = [psnr_unit_range(blank_baseline(t), t) for t in targets]
    score, blank = float(np.mean(scores)), float(np.mean(blanks))
    spread = float(np.mean([np.std(r) for r in reconstructions])) / max(
        1e-12, float(np.mean([np.std(t) for t in targets]))
    )
    if not patient and (spread < COLLAPSE_STD_RATIO or not score > blank + COLLAPSE_MARGIN_DB):
        raise TrainingError(
            f"stage 'autoencoder' collapsed at step {step}: {score:.2f} dB on held-out volumes, a constant reaches "
            f"{blank:.2f} dB, contrast {spread:.3f} of the target's: {REMEDY}, then start again with --fresh"
        )
    return {"held_out_psnr_unit_range_db": score, "held_out_blank_db": blank, "held_out_contrast": spread}
