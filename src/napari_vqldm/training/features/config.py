"""Configuration of a training of the extractor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from napari_vqldm.config_base import Config, Float3, Fraction, Int3, Positive, PositiveInt, Range, read_toml, validate
from napari_vqldm.config_simulation import SimulationConfig

WINDOW: Int3 = (32, 128, 128)
VOXEL_SIZE_UM: Float3 = (0.2, 0.1, 0.1)


def wide_simulation() -> SimulationConfig:
    """Return wider ranges than any model is trained on: what a model does wrong must lie inside them.

    Laterally 16 voxels larger than the window, so that two shifted crops show mostly the same scene.
    """
    return SimulationConfig(
        shape=(WINDOW[0], WINDOW[1] + 16, WINDOW[2] + 16),
        voxel_size_um=VOXEL_SIZE_UM,
        length_density_um_per_um3=(0.05, 1.5),
        persistence_length_um=(3.0, 80.0),
        mean_contour_length_um=(3.0, 25.0),
        psf_width_factor=(0.8, 1.6),
        brightness_cv=0.2,
        photons=(15.0, 1000.0),
        background=(0.0, 0.6),
    )


class AugmentConfig(Config):
    """What is drawn afresh at every use of a volume; shared by both views of it."""

    noise_free: Fraction = 0.2  # share of pairs without camera noise
    gain_share: Fraction = 0.5  # share of pairs whose intensities are scaled
    gain: Range = (0.5, 2.0)  # log-uniform
    blur_share: Fraction = 0.3  # each of: before the camera, after it
    blur_um: Range = (0.0, 0.25)  # standard deviation
    scramble_share: Fraction = 0.15
    haze_share: Fraction = 0.3
    haze: Range = (0.0, 0.6)  # filament units


class LossConfig(Config):
    """Weights of the terms."""

    regression: Positive = 1.0
    organisation: Annotated[float, Field(ge=0.0)] = 0.3
    invariance: Annotated[float, Field(ge=0.0)] = 1.0
    variance: Annotated[float, Field(ge=0.0)] = 1.0
    covariance: Annotated[float, Field(ge=0.0)] = 0.05
    maps: Annotated[float, Field(ge=0.0)] = 1.0  # length and curvature of filament, cell by cell


class FeatureTrainConfig(Config):
    """One run: simulate until ``simulate_share`` of the time is over, then train one network per seed."""

    # Weight and distribution of each part of the bank; all of one shape and voxel size.
    simulations: tuple[SimulationConfig, ...] = Field(default_factory=lambda: (wide_simulation(),))
    weights: tuple[Positive, ...] = (1.0,)
    simulation_seed: Annotated[int, Field(ge=0)] = 6_400_000_001  # of no model and no benchmark
    num_volumes: PositiveInt = 13_000  # at most
    num_validation: PositiveInt = 512
    chunk: PositiveInt = 8
    simulate_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.36
    window: Int3 = WINDOW
    seeds: tuple[int, ...] = (0, 1)
    seed_shares: tuple[Positive, ...] = (0.58, 0.42)  # of the time for training
    pairs: PositiveInt = 64  # volumes per step; the network sees two views of each
    learning_rate: Positive = 1.5e-3
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.02
    warmup_share: Fraction = 0.05
    average_decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.99  # of the running mean of weights that is kept
    bf16: bool = True  # on a GPU
    augment: AugmentConfig = AugmentConfig()
    loss: LossConfig = LossConfig()

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if len(self.weights) != len(self.simulations) or not self.simulations:
            raise ValueError(f"expected one weight per simulation, got {len(self.weights)} and {len(self.simulations)}")
        if len({(s.shape, s.voxel_size_um) for s in self.simulations}) != 1:
            raise ValueError("simulations: expected one shape and one voxel size for all of them")
        if any(n < w for n, w in zip(self.simulations[0].shape, self.window, strict=True)):
            raise ValueError(f"simulations: expected volumes of at least {self.window}")
        if self.window[1] != self.window[2]:
            raise ValueError(f"window: expected equal sizes in y and x, which are turned, got {self.window}")
        if len(self.seeds) != len(self.seed_shares) or not self.seeds:
            raise ValueError(f"expected one share per seed, got {len(self.seed_shares)} and {len(self.seeds)}")
        return self

    @property
    def voxel_size_um(self) -> Float3:
        """Voxel size (z, y, x) of every volume."""
        return self.simulations[0].voxel_size_um


def tiny_config() -> FeatureTrainConfig:
    """Return a rehearsal that needs seconds on a CPU and learns next to nothing."""
    window = (16, 32, 32)
    small = wide_simulation().model_copy(update={"shape": (16, 40, 40)})
    return FeatureTrainConfig(
        simulations=(small,), num_volumes=64, num_validation=16, chunk=4, window=window, pairs=4, simulate_share=0.4
    )


def load_feature_config(path: Path | None, tiny: bool = False) -> FeatureTrainConfig:
    """Read a TOML file over the defaults; ``[[simulations]]`` entries are read over the wide ranges.

    Raises
    ------
    ConfigError
        If the file cannot be read, a key is unknown or a value is out of range.
    """
    base = tiny_config() if tiny else FeatureTrainConfig()
    if path is None:
        return base
    values: dict[str, Any] = read_toml(path)
    simulations = values.pop("simulations", None)
    merged = base.model_dump() | values
    if simulations is not None:
        start = base.simulations[0].model_dump()
        merged["simulations"] = [start | entry for entry in simulations]
        merged["weights"] = values.get("weights", [1.0] * len(simulations))
    return validate(FeatureTrainConfig, merged, str(path))
