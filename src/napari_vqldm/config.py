"""Frozen, validated configuration of the whole model; that of its parts is beside it and reached from here.

No torch here: the card of a checkpoint is read and checked with these models alone.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import model_validator

from napari_vqldm.config_base import (
    MAX_WINDOW,
    ORGANISATIONS,
    VOXEL_SIZE_RANGE_UM,
    Config,
    Family,
    Float3,
    Fraction,
    Int3,
    Organisation,
    Positive,
    PositiveInt,
    Range,
    check_voxel_size,
    read_toml,
    to_json,
    validate,
)
from napari_vqldm.config_diffusion import SAMPLERS_OF, DiffusionConfig
from napari_vqldm.config_networks import (
    DEFAULT_NETWORKS,
    AnyAutoencoderConfig,
    AnyDenoiserConfig,
    AutoencoderConfig,
    ConditionConfig,
    DenoiserConfig,
    MonaiKLConfig,
    MonaiUNetConfig,
    MonaiVQConfig,
    QuantizerConfig,
)
from napari_vqldm.config_simulation import (
    BuckleConfig,
    BundleConfig,
    CameraConfig,
    CellConfig,
    HazeConfig,
    IlluminationConfig,
    LabellingConfig,
    OpticsConfig,
    SimulationConfig,
    SpindleConfig,
)

__all__ = [
    "MAX_WINDOW",
    "ORGANISATIONS",
    "SAMPLERS_OF",
    "VOXEL_SIZE_RANGE_UM",
    "AnyAutoencoderConfig",
    "AnyDenoiserConfig",
    "AutoencoderConfig",
    "BuckleConfig",
    "BundleConfig",
    "CameraConfig",
    "CellConfig",
    "ConditionConfig",
    "Config",
    "DenoiserConfig",
    "DiffusionConfig",
    "Family",
    "Float3",
    "Fraction",
    "HazeConfig",
    "IlluminationConfig",
    "Int3",
    "LabellingConfig",
    "ModelConfig",
    "MonaiKLConfig",
    "MonaiUNetConfig",
    "MonaiVQConfig",
    "OpticsConfig",
    "Organisation",
    "Positive",
    "PositiveInt",
    "QuantizerConfig",
    "Range",
    "SimulationConfig",
    "SpindleConfig",
    "read_toml",
    "to_json",
    "validate",
]


class ModelConfig(Config):
    """Everything that is needed to build the networks of one checkpoint and to call them rightly."""

    family: Family
    name: str = "unnamed"
    autoencoder: AnyAutoencoderConfig = AutoencoderConfig()
    denoiser: AnyDenoiserConfig | None = DenoiserConfig()
    diffusion: DiffusionConfig = DiffusionConfig()
    window: Int3 = (32, 128, 128)  # trained window, voxels
    # Trained (low, high), each (z, y, x).
    voxel_size_range_um: tuple[Float3, Float3] = ((0.2, 0.1, 0.1), (0.2, 0.1, 0.1))
    target: Literal["clean", "input"] = "clean"  # what stage 1 learned to return
    simulation: SimulationConfig | None = None  # what the model was trained on; None for user folders

    @model_validator(mode="before")
    @classmethod
    def _name_the_networks(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        parts = {
            part: {"network": network, **values[part]}
            for part, network in DEFAULT_NETWORKS.items()
            if isinstance(values.get(part), dict)
        }
        return {**values, **parts}

    @model_validator(mode="after")
    def _family_fits(self) -> Self:
        if (self.family == "vq-ldm") != (self.autoencoder.quantizer is not None):
            raise ValueError(f"family {self.family!r}: a vq-ldm needs [autoencoder.quantizer], an ldm has none")
        factor = self.autoencoder.downsampling_factor
        if any(n % f for n, f in zip(self.window, factor, strict=True)):
            raise ValueError(f"window {self.window} is not a multiple of the downsampling factor {factor}")
        if not all(2 <= n <= MAX_WINDOW for n in self.window):
            raise ValueError(f"window: expected 2 to {MAX_WINDOW} voxels per axis, got {self.window}")
        low, high = self.voxel_size_range_um
        for size in (low, high):
            check_voxel_size("voxel_size_range_um", size)
        if any(a > b for a, b in zip(low, high, strict=True)):
            raise ValueError(f"voxel_size_range_um: expected low <= high per axis, got {low} and {high}")
        return self
