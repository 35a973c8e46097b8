"""Trainings that are broken on purpose, each in one way, and healthy ones beside them: the table of broken_runs.py.

The networks are the tiny ones of the tests (tests/training/conftest.py, shrink.toml).
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

from torch import Tensor, nn

from napari_vqldm.training.config import STAGES, StageName, TrainConfig
from napari_vqldm.training.folder import read_json, write_json
from napari_vqldm.training.stages.autoencoder import AutoencoderTraining

FAILS_AT = 9  # step of the bad batch


def load(path: Path) -> ModuleType:
    """Import a file that belongs to no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TINY = load(Path(__file__).parents[1] / "tests" / "training" / "conftest.py")


@dataclass(frozen=True)
class Case:
    """One training.

    Parameters
    ----------
    what : str
        What is wrong, for the table.
    base : str
        "ldm" or "vq-ldm" (tiny runs), or the name of a preset, which is shrunk.
    changes : dict
        Dotted keys with "__" for the dot.
    watcher : str
        Who must notice first; "" for a healthy training.
    remedy : str
        What the line for the user must name.
    also : tuple of str
        Who may notice later.
    stops : str
        What the error must say; "" when the run ends by itself.
    stages : tuple of str
        What is run.
    between : callable or None
        What is done to the run folder before the last stage.
    broken : callable
        Returns the context of the training.
    """

    what: str
    base: str
    changes: dict[str, Any]
    watcher: str = ""
    remedy: str = ""
    also: tuple[str, ...] = ()
    stops: str = ""
    stages: tuple[StageName, ...] = ("autoencoder",)
    between: Callable[[Path], None] | None = None
    broken: Callable[[], AbstractContextManager[None]] = nullcontext

    def config(self) -> TrainConfig:
        """Return the validated configuration."""
        made: TrainConfig
        if self.base in TINY.FAMILIES:
            made = TINY.tiny_config(self.base, **self.changes)
        else:
            made = TINY.shrunk_config(self.base, **self.changes)
        return made


def stage_one(steps: int, **changes: Any) -> dict[str, Any]:
    """Return settings of stage 1 under their dotted keys; noted, checked and saved a few times."""
    settings = {"steps": steps, "log_every": 10, "check_every": 20, "save_every": steps, "crop": [8, 16, 16]}
    return {f"autoencoder__{name}": value for name, value in (settings | changes).items()}


def stage_three(steps: int, **changes: Any) -> dict[str, Any]:
    """Return the same for stage 3."""
    settings = {"steps": steps, "log_every": 10, "check_every": 20, "save_every": steps, "crop_probability": 0.0}
    return {f"denoiser__{name}": value for name, value in (settings | changes).items()}


ADVERSARY = {"discriminator_channels": 4, "discriminator_layers": 1, "adversarial_start": 20, "adversarial_ramp": 10}


@contextmanager
def one_bad_batch() -> Iterator[None]:
    """One loss of stage 1 is no number, once."""
    losses, left = AutoencoderTraining.losses, [FAILS_AT]

    def fail_once(self: AutoencoderTraining, task: nn.Module, batch: Any, step: int) -> dict[str, Tensor]:
        terms = losses(self, task, batch, step)
        if left == [step]:
            left.clear()
            terms["loss"] = terms["loss"] * math.nan
        return terms

    with patch.object(AutoencoderTraining, "losses", fail_once):
        yield


def scale_of_another_autoencoder(folder: Path) -> None:
    """Halve the scale in the record of the latents."""
    path = folder / "cache" / "latents" / "latents.json"
    record = read_json(path)
    if record is None:
        raise FileNotFoundError(path)
    write_json(path, record | {"scale": [value / 2 for value in record["scale"]]})


ALL = STAGES
PARTS = {"ema": "power", "accumulate": 2, "checkpoint_activations": True}
VOLUMES = {"data__num_volumes": 24, "data__held_out": 4}
NOISY = {"model__target": "input", "model__simulation__photons": [5.0, 10.0]}
CODES = {"codebook_size": 256, "codebook_weight": 0.0, "commitment_weight": 0.0, "restart": False}
WIDE = {  # as many numbers as voxels
    "strides": [[1, 2, 2]],
    "widths": [8],
    "encoder_blocks": [1],
    "decoder_blocks": [1],
    "latent_channels": 8,
}

BROKEN: dict[str, Case] = {
    "kl-weight": Case(
        "`autoencoder.kl_weight` 10, a hundred thousand times the default",
        "ldm",
        stage_one(60, kl_weight=10.0, learning_rate=1e-2),
        "posterior_collapse",
        "autoencoder.kl_weight",
        also=("scale_drift",),
    ),
    "stuck-codes": Case(
        "codes that never move or restart, set before the encoder has learned anything",
        "vq-ldm",
        stage_one(100, kmeans_after=0, learning_rate=5e-3)
        | {"model__autoencoder__quantizer": CODES, "model__autoencoder__latent_channels": 1},
        "codebook_collapse",
        "restart = true",
        also=("scale_drift",),
    ),
    "adversarial-weight": Case(
        "`autoencoder.adversarial_weight` 1000, hinge loss",
        "ldm",
        stage_one(60, adversarial_weight=1000.0, adversarial="hinge", learning_rate=5e-3, **ADVERSARY),
        "adversarial_instability",
        "autoencoder.adversarial_weight",
        also=("scale_drift",),
    ),
    "discriminator-asleep": Case(
        "`autoencoder.discriminator_learning_rate` 1e-12",
        "ldm",
        stage_one(260, adversarial_weight=0.01, discriminator_learning_rate=1e-12, learning_rate=5e-3, **ADVERSARY),
        "dead_discriminator",
        "tells nothing",
    ),
    "discriminator-wins": Case(
        "noisy targets, smooth reconstructions, a fast discriminator with next to no weight",
        "ldm",
        stage_one(
            400,
            batch_size=4,
            adversarial_weight=1e-6,
            discriminator_learning_rate=5e-3,
            adversarial="hinge",
            **ADVERSARY | {"discriminator_channels": 16},
        )
        | NOISY
        | {"model__simulation__photons": [2.0, 4.0]},
        "dead_discriminator",
        "always wins",
    ),
    "learning-rate": Case(
        "`autoencoder.learning_rate` 1e15",
        "ldm",
        stage_one(40, learning_rate=1e15),
        "not_a_number",
        "lower learning_rate",
        stops="lower learning_rate",
    ),
    "bad-batch": Case(
        "one loss that is no number",
        "ldm",
        stage_one(20, save_every=4, learning_rate=1e-2),
        "not_a_number",
        "lower learning_rate",
        broken=one_bad_batch,
    ),
    "other-scale": Case(
        "latents whose scale is that of another autoencoder",
        "ldm",
        stage_one(10) | stage_three(40),
        "scale_drift",
        "--stage latents --fresh",
        stages=ALL,
        between=scale_of_another_autoencoder,
    ),
    "no-prior": Case(
        "`autoencoder.kl_weight` 0, `autoencoder.learning_rate` 0.1",
        "ldm",
        stage_one(40, kl_weight=0.0, learning_rate=1e-1),
        "scale_drift",
        "autoencoder.kl_weight",
        also=("overfit",),
    ),
    "one-volume": Case(
        "a denoiser trained on one volume",
        "ldm",
        stage_one(160, kl_weight=1e-5, kl_warmup_steps=80, learning_rate=5e-3)
        | stage_three(200, learning_rate=5e-3)
        | {"data__num_volumes": 1, "data__held_out": 4, "latents__augmentations": 1},
        "overfit",
        "data.num_volumes",
        stages=ALL,
    ),
    "copies-noise": Case(
        "noisy targets, a latent as large as the volume",
        "ldm",
        stage_one(300, learning_rate=1e-2, kl_weight=0.0) | NOISY | {"model__autoencoder": WIDE},
        "overfit",
        "model.autoencoder.latent_channels",
    ),
    "constant": Case(
        "an autoencoder that does not learn",
        "ldm",
        stage_one(60, learning_rate=1e-9, collapse_grace=10),
        stops="collapsed",
    ),
}

HEALTHY: dict[str, Case] = {
    "ldm": Case(
        "LDM", "ldm", stage_one(300, learning_rate=5e-3) | stage_three(300, learning_rate=2e-3) | VOLUMES, stages=ALL
    ),
    "ldm-noisy": Case("LDM, noisy targets", "ldm", stage_one(300, learning_rate=5e-3) | NOISY | VOLUMES),
    "vq-ldm": Case(
        "VQ-LDM, codes moved by their gradient",
        "vq-ldm",
        stage_one(300, learning_rate=5e-3) | stage_three(300, learning_rate=2e-3) | VOLUMES,
        stages=ALL,
    ),
    "vq-ldm-ema": Case(
        "VQ-LDM, codes moved by averages",
        "vq-ldm",
        stage_one(300, learning_rate=5e-3) | VOLUMES | {"model__autoencoder__quantizer__kind": "ema"},
    ),
    "seed-ldm": Case(
        "`seed-ldm` in small: all terms, an adversary from step 50",
        "seed-ldm",
        stage_one(300, adversarial_start=50, adversarial_ramp=20, learning_rate=2e-3)
        | stage_three(100, crop_probability=1.0)
        | VOLUMES,
        stages=ALL,
    ),
    "seed-vq-ldm": Case(
        "`seed-vq-ldm` in small",
        "seed-vq-ldm",
        stage_one(300, kmeans_after=20, learning_rate=2e-3) | stage_three(100, crop_probability=1.0) | VOLUMES,
        stages=ALL,
    ),
    "options": Case(
        "LDM, power averages, batches in two parts, recomputed blocks, min-SNR weights",
        "ldm",
        stage_one(200, learning_rate=5e-3, **PARTS)
        | stage_three(200, learning_rate=2e-3, loss_weighting="min_snr", **PARTS)
        | VOLUMES,
        stages=ALL,
    ),
}
CASES = BROKEN | HEALTHY
