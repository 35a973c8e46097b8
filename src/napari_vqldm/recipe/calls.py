"""A record as the call of one public function: what the script prints, the commands say and `reproduce` runs."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from typing import Any

from napari_vqldm.config import CameraConfig, SimulationConfig, validate
from napari_vqldm.errors import RecipeError
from napari_vqldm.intensity import IntensityScale
from napari_vqldm.recipe.tree import Node
from napari_vqldm.tiles import MAX_VOXELS

SIMULATION_NAMES = ("standard", "sparse", "hard", "spindle", "interphase")
_SAMPLING = ("steps", "sampler", "guidance_scale")


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a public function of the package.

    Attributes
    ----------
    function : str
        Its name.
    has_model : bool
        Whether the first argument is the model of the request.
    positional : tuple
        Arguments after the model that stand in the place of inputs: two seeds.
    options : mapping
        Arguments by keyword; those that equal the default are left out.
    pick : int or None
        Which of the results; None where there is one.
    part : str or None
        Attribute of the result that is meant; None: the result itself.
    """

    function: str
    has_model: bool = False
    positional: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    pick: int | None = None
    part: str | None = None


def call_of(node: Node) -> Call:
    """Return the call that computes what a record describes from its inputs.

    Raises
    ------
    RecipeError
        If the record lacks something, or the verb is not known.
    """
    if node.verb not in _CALLS:
        raise RecipeError(f"{node.title} cannot be computed again: save it to a file first")
    try:
        return _CALLS[node.verb](node.request)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise RecipeError(
            f"the record of {node.title} is damaged or of another version: it lacks or misstates {error}"
        ) from None


def _simulate(request: Mapping[str, Any]) -> Call:
    # Records from before "part" speak of both images alike; an input of another verb is nearly always the noisy one.
    part = request.get("part", "noisy")
    options: dict[str, Any] = {"seed": int(request["seed"])}
    if request["index"]:
        options["start"] = int(request["index"])
    options["config"] = name_simulation(request["config"])
    if part == "clean":
        options["noisy"] = False
    elif request.get("camera") is not None:
        options["camera"] = _camera(request)
    return Call("simulate", options=options, pick=0, part=part)


def _generate(request: Mapping[str, Any]) -> Call:
    index = int(request["index"])
    batch = request.get("batch") or {"start": index, "size": 1}
    start, size = int(batch["start"]), int(batch["size"])
    options: dict[str, Any] = {"count": size} if size > 1 else {}
    options |= {"shape": tuple(request["shape"]), "seed": int(request["seed"]), **_sampling(request)}
    if size > 1:
        options["batch"] = size
    if start:
        options["start"] = start
    return Call("generate", has_model=True, options=options, pick=index - start)


def _interpolate(request: Mapping[str, Any]) -> Call:
    options: dict[str, Any] = {"t": float(request["t"]), "kind": str(request["kind"])}
    if not request["snap"]:
        options["snap"] = False
    if "seeds" not in request:
        return Call("interpolate", has_model=True, options=options | _max_voxels(request))
    a, b = (int(seed) for seed in request["seeds"])
    # Records from before "condition" hold the mixture alone: what was asked of both ends cannot be told from it.
    sampling = _sampling({**request, "condition": request.get("condition")})
    return Call("interpolate", has_model=True, positional=(a, b), options=options | sampling)


def _blend(request: Mapping[str, Any]) -> Call:
    return replace(_interpolate(request), function="blend")


def _encode(request: Mapping[str, Any]) -> Call:
    return Call("encode", has_model=True, options=_intensity(request) | _max_voxels(request))


def _decode(request: Mapping[str, Any]) -> Call:
    return Call("decode", has_model=True, options=_max_voxels(request))


def _crop(request: Mapping[str, Any]) -> Call:
    z, y, x = ((int(start), int(stop)) for start, stop in request["box"])
    return Call("crop", options={"box": (z, y, x)})


def _record(request: Mapping[str, Any]) -> Call:
    options: dict[str, Any] = {"camera": _camera(request)}
    if request.get("seed") is not None:
        options["seed"] = int(request["seed"])
    return Call("record", options=options)


def _residual(request: Mapping[str, Any]) -> Call:
    return Call("residual")


def _uncertainty(request: Mapping[str, Any]) -> Call:
    options: dict[str, Any] = {"draws": int(request["draws"]), "seed": int(request["seed"])}
    options["kind"] = str(request["kind"])
    if request["statistic"] != "standard_deviation":
        options["statistic"] = str(request["statistic"])
    return Call("uncertainty", has_model=True, options=options | _intensity(request) | _max_voxels(request))


_CALLS = {
    "simulate": _simulate,
    "generate": _generate,
    "interpolate": _interpolate,
    "blend": _blend,
    "encode": _encode,
    "decode": _decode,
    "crop": _crop,
    "record": _record,
    "residual": _residual,
    "uncertainty": _uncertainty,
}


def reconstruct_call(node: Node) -> Call | None:
    """Return the one call that stands for a decoding of an encoding; None where the two differ in what they used."""
    if node.verb != "decode" or not node.inputs or node.inputs[0].node.verb != "encode":
        return None
    latent = node.inputs[0].node
    encoding, decoding = call_of(latent), call_of(node)
    same_model = node.request["weights_sha256"] == latent.request.get("weights_sha256")
    same_tiles = encoding.options.get("max_voxels") == decoding.options.get("max_voxels")
    if not (same_model and same_tiles and node.device == latent.device and node.threads == latent.threads):
        return None
    return Call("reconstruct", has_model=True, options=encoding.options)


def name_simulation(config: Mapping[str, Any]) -> SimulationConfig | str:
    """Return the name of the tier or preset that a configuration is, or the configuration itself."""
    found = validate(SimulationConfig, dict(config), "the recorded simulation")
    return next((name for name in SIMULATION_NAMES if named_simulation(name) == found), found)


@cache
def named_simulation(name: str) -> SimulationConfig:
    """Return a tier or preset from its data, without the simulator, which brings torch."""
    folder = resources.files("napari_vqldm") / "simulate" / "data"
    path = next(path for ending in ("json", "toml") if (path := folder / f"{name}.{ending}").is_file())
    text = path.read_text(encoding="utf-8")
    if path.name.endswith(".toml"):
        return validate(SimulationConfig, tomllib.loads(text), f"preset {name}")
    return SimulationConfig.model_validate_json(text)


def _sampling(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that `generate` and `interpolate` share."""
    options: dict[str, Any] = {name: request[name] for name in _SAMPLING}
    # Records from before "condition" hold the drawn values, which fix the volume as well.
    condition = request["condition"] if "condition" in request else request.get("conditions")
    if condition:
        options["condition"] = dict(condition)
    if request.get("camera") is not None:
        options["camera"] = _camera(request)
    if request.get("precision", "fp32") != "fp32":
        options["precision"] = str(request["precision"])
    return options


def _camera(request: Mapping[str, Any]) -> CameraConfig:
    return validate(CameraConfig, dict(request["camera"]), "the recorded camera")


def _intensity(request: Mapping[str, Any]) -> dict[str, IntensityScale]:
    """Return the given background and brightness; nothing where they were estimated from the stack."""
    if request.get("is_intensity_estimated", False):
        return {}
    scale = request["intensity"]
    return {"intensity": IntensityScale(float(scale["background"]), float(scale["scale"]))}


def _max_voxels(request: Mapping[str, Any]) -> dict[str, int]:
    number = int(request.get("max_voxels") or MAX_VOXELS)
    return {} if number == MAX_VOXELS else {"max_voxels": number}
