"""Configuration of a training run: one TOML file, validated, with every default written into the run folder."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from napari_vqldm.config import (
    Config,
    Float3,
    Int3,
    ModelConfig,
    Positive,
    PositiveInt,
    SimulationConfig,
    read_toml,
    validate,
)
from napari_vqldm.errors import ConfigError
from napari_vqldm.training.config_stages import (
    AutoencoderStage,
    DenoiserStage,
    LatentsStage,
    NonNegative,
    NonNegativeInt,
    StageConfig,
    TrainingPrecision,
)

__all__ = [
    "STAGES",
    "AutoencoderStage",
    "DenoiserStage",
    "FolderData",
    "LatentsStage",
    "SimulatedData",
    "StageConfig",
    "StageName",
    "TrainConfig",
    "find_config",
    "load_train_config",
    "merged",
    "parse_setting",
    "parse_train_config",
    "preset_paths",
]

StageName = Literal["autoencoder", "latents", "denoiser"]
STAGES: tuple[StageName, ...] = ("autoencoder", "latents", "denoiser")


class SimulatedData(Config):
    """Volumes drawn from ``model.simulation`` once per run; photon noise is drawn afresh at every use."""

    kind: Literal["simulated"] = "simulated"
    num_volumes: PositiveInt = 1500
    held_out: Annotated[int, Field(ge=2)] = 16  # volumes of the quality gate, never trained on
    workers: PositiveInt | None = None  # processes that simulate side by side; None: 1, beside a GPU by its cores
    gain_range: tuple[Positive, Positive] = (1.0, 1.0)  # stage 1: input and target times a log-uniform factor


class FolderData(Config):
    """Stacks of a user. A stack is either trained on or held out, never both."""

    kind: Literal["folder"]
    folder: str
    clean_folder: str | None = None  # same file names; needed for model.target = "clean"
    voxel_size_um: Float3 | None = None  # common voxel size (z, y, x); default: median of the stacks
    stack_voxel_size_um: Float3 | None = None  # for files that do not state their voxel size
    channel: int | str | None = None
    time: int | None = None
    held_out_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    min_signal: NonNegative = 0.3  # a crop is empty when its 99th percentile is below, filament units
    gain_range: tuple[Positive, Positive] = (1.0, 1.0)


class TrainConfig(Config):
    """One run from data to checkpoint."""

    name: str
    description: str = ""
    seed: NonNegativeInt = 0
    gate: Literal["full", "smoke", "record"] = "full"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    devices: PositiveInt = 1
    precision: TrainingPrecision = "32-true"
    threads: PositiveInt | None = None  # CPU threads; None: what torch takes
    model: ModelConfig
    data: Annotated[SimulatedData | FolderData, Field(discriminator="kind")] = SimulatedData()
    autoencoder: AutoencoderStage = AutoencoderStage()
    latents: LatentsStage = LatentsStage()
    denoiser: DenoiserStage = DenoiserStage()

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        model, factor = self.model, self.model.autoencoder.downsampling_factor
        if isinstance(self.data, FolderData):
            if model.simulation is not None:
                raise ValueError("data.kind = 'folder' and [model.simulation] exclude each other: remove one")
            if model.denoiser is not None and model.denoiser.condition is not None:
                raise ValueError(
                    "data.kind = 'folder': nothing is known about the stacks, the denoiser cannot be conditioned: "
                    "set [model.denoiser] without [model.denoiser.condition]"
                )
            if model.target == "clean" and self.data.clean_folder is None:
                raise ValueError(
                    "model.target = 'clean' needs data.clean_folder; without truth use model.target = 'input'"
                )
        elif model.simulation is None:
            raise ValueError("data.kind = 'simulated' needs [model.simulation]")
        elif any(n < w for n, w in zip(model.simulation.shape, model.window, strict=True)):
            raise ValueError(
                f"model.simulation.shape {model.simulation.shape} is smaller than model.window {model.window}"
            )
        if self.autoencoder.steps == 0 and self.autoencoder.init_from is None:
            raise ValueError("autoencoder.steps = 0 takes a trained autoencoder as it is: name it in init_from")
        stage = self.autoencoder
        if stage.steps and model.autoencoder.quantizer is not None and stage.kmeans_after >= stage.steps:
            raise ValueError(
                f"autoencoder.kmeans_after: expected fewer than autoencoder.steps = {stage.steps}, "
                f"got {stage.kmeans_after}: the codebook would never start"
            )
        low, high = self.data.gain_range
        if low > high:
            raise ValueError(f"data.gain_range: expected low <= high, got {self.data.gain_range}")
        _check_crop("autoencoder.crop", self.autoencoder.crop, factor, model.window)
        if model.denoiser is not None:
            multiple = model.denoiser.multiple
            latent = self.latent_shape
            if any(n % m for n, m in zip(latent, multiple, strict=True)):
                raise ValueError(
                    f"model.window: its latent {latent} is not a multiple of {multiple}, which the denoiser needs"
                )
            _check_crop("denoiser.crop", self.denoiser.crop, multiple, latent)
        return self

    @property
    def latent_shape(self) -> Int3:
        """Latent voxels (z, y, x) of the trained window."""
        z, y, x = (n // f for n, f in zip(self.model.window, self.model.autoencoder.downsampling_factor, strict=True))
        return z, y, x


def _check_crop(name: str, crop: Int3 | None, multiple: Int3, limit: Int3) -> None:
    if crop is None:
        return
    if any(n < 1 or n % m or n > top for n, m, top in zip(crop, multiple, limit, strict=True)):
        raise ValueError(f"{name}: expected multiples of {multiple} up to {limit}, got {crop}")


def preset_paths() -> dict[str, Path]:
    """Return the presets of the package, name to TOML file."""
    folder = Path(str(resources.files("napari_vqldm.training"))) / "presets"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def find_config(name_or_path: str | Path) -> Path:
    """Return the TOML file of a preset name or path.

    Raises
    ------
    ConfigError
        If it is neither; the message names the presets.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    presets = preset_paths()
    if str(name_or_path) in presets:
        return presets[str(name_or_path)]
    raise ConfigError(f"{name_or_path}: no such file or preset; presets: {', '.join(presets)}")


def load_train_config(name_or_path: str | Path, changes: Sequence[Mapping[str, Any]] = ()) -> TrainConfig:
    """Read and validate a TOML file or preset.

    Parameters
    ----------
    name_or_path : str or Path
        Preset or file.
    changes : sequence of mapping
        Nested values that replace those of the file, in this order.

    Raises
    ------
    ConfigError
        Unknown preset, unreadable file, unknown key or impossible value: one line.
    """
    path = find_config(name_or_path)
    values = read_toml(path)
    for change in changes:
        values = merged(values, change)
    return parse_train_config(values, str(path))


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``values`` with those of ``changes`` in their places; tables are merged, everything else is replaced."""
    result = dict(values)
    for key, value in changes.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, Mapping) else value
    return result


def parse_setting(text: str) -> dict[str, Any]:
    """Read ``KEY=VALUE``, a line of TOML; a value that is no TOML is a string.

    Raises
    ------
    ConfigError
        If there is no key.
    """
    key, equals, value = (part.strip() for part in text.partition("="))
    for line in (f"{key} = {value}", f"{key} = {json.dumps(value)}"):
        try:
            if equals and value:
                return tomllib.loads(line)
        except tomllib.TOMLDecodeError:
            continue
    raise ConfigError(f"--set {text}: expected KEY=VALUE, such as autoencoder.batch_size=8 or data.folder=stacks")


def parse_train_config(values: dict[str, Any], source: str = "configuration") -> TrainConfig:
    """Validate the content of a TOML file; ``name`` defaults to the stem of ``source``, the data kind to simulated."""
    values = {"name": Path(source).stem, **values}
    if isinstance(values.get("data"), dict):
        values["data"] = {"kind": "simulated", **values["data"]}
    model = values.get("model")
    if isinstance(model, dict):
        values["model"] = _with_defaults({"name": values["name"], **model}, values.get("data", {"kind": "simulated"}))
    return validate(TrainConfig, values, source)


def _with_defaults(model: dict[str, Any], data: Any) -> dict[str, Any]:
    """Fill in what follows from the kind of data; values of a wrong type are left for the validation to refuse."""
    if not isinstance(data, dict):
        return model
    simulation, denoiser = model.get("simulation", {}), model.get("denoiser", {})
    if data["kind"] != "simulated":  # TOML has no null: a denoiser of stacks is unconditioned unless the file says so
        return model | ({"denoiser": {"condition": None, **denoiser}} if isinstance(denoiser, dict) else {})
    if not isinstance(model.get("window"), list):
        return {"simulation": SimulationConfig().model_dump()} | model
    # The simulated volumes are the trained window unless the file says otherwise.
    return model | ({"simulation": {"shape": model["window"], **simulation}} if isinstance(simulation, dict) else {})
