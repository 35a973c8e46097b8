"""A record as lines for a terminal, with files between them, that give the same bits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any

from napari_vqldm.config import CameraConfig, SimulationConfig
from napari_vqldm.errors import RecipeError
from napari_vqldm.intensity import IntensityScale
from napari_vqldm.recipe.calls import SIMULATION_NAMES, Call, call_of, named_simulation, reconstruct_call
from napari_vqldm.recipe.shell import join_commands
from napari_vqldm.recipe.sources import Box, FileInput, find_file, find_model
from napari_vqldm.recipe.tree import LATENT_VERBS, Input, Node, read_recipe

_PROGRAM = "napari-vqldm"
_READ_CHOICES = ("reconstruct", "encode", "crop")  # verbs with --channel, --time and --voxel-size
_ENDINGS = (".ome.tif", ".ome.tiff", ".ome.zarr", ".safetensors")
_CAMERA_OPTIONS = {
    "photons": "--photons",
    "background": "--background",
    "read_noise_e": "--read-noise",
    "offset_adu": "--offset",
    "blur_um": "--blur",
}
_OPTIONS = {
    "count": "--count",
    "shape": "--shape",
    "seed": "--seed",
    "steps": "--steps",
    "sampler": "--sampler",
    "guidance_scale": "--guidance",
    "batch": "--batch",
    "start": "--start",
    "precision": "--precision",
    "max_voxels": "--max-voxels",
    "t": "--t",
    "kind": "--kind",
    "draws": "--draws",
    "statistic": "--statistic",
}
_VERBS = {"residual": "compare"}  # function to verb, where the names differ


def command_line(
    provenance: Mapping[str, Any],
    *,
    files: Mapping[str, FileInput] | None = None,
    models: Mapping[str, str] | None = None,
    out: str | None = None,
) -> str:
    """Write the commands that compute a volume again, one per line.

    Parameters
    ----------
    provenance, files, models
        As for `napari_vqldm.recipe.python_script`.
    out : str, optional
        File of the result; None: ``volume.ome.tif`` (``latent.safetensors``) in the working folder. Inputs that are
        computed on the way get files beside it.

    Returns
    -------
    str
        Lines for the shell of this computer, see `napari_vqldm.recipe.shell`.

    Raises
    ------
    RecipeError
        As for the script, and where a command has no option for what was asked, with the reason.
    """
    return join_commands(command_words(provenance, files=files, models=models, out=out))


def command_words(
    provenance: Mapping[str, Any],
    *,
    files: Mapping[str, FileInput] | None = None,
    models: Mapping[str, str] | None = None,
    out: str | None = None,
) -> list[list[str]]:
    """Return the commands of `command_line` as words, the one that writes the result last; parameters are its own."""
    root = read_recipe(provenance)
    out = out or ("latent.safetensors" if root.verb in LATENT_VERBS else "volume.ome.tif")
    writer = _Writer(files or {}, models or {}, out)
    writer.node(root, out)
    return writer.lines


def call_words(
    call: Call, inputs: Iterable[str] = (), *, model: str | None, device: str, threads: int | None, out: str
) -> list[str]:
    """Return the command that makes one call.

    Parameters
    ----------
    call : Call
        What is to be computed.
    inputs : iterable of str
        Words that name what the call takes: files, ends.
    model : str or None
        Name or path of the checkpoint; None where the call takes none.
    device : str
        Where to compute, for calls that ask for it.
    threads : int or None
        Of PyTorch; None leaves the choice to the program.
    out : str
        File, or folder, of the result.

    Raises
    ------
    RecipeError
        Where a command has no option for what was asked.
    """
    first = [] if threads is None else ["--threads", str(threads)]
    named = [] if model is None else ["--model", model]
    place = ["--device", device] if call.has_model or call.function == "simulate" else []
    verb = _VERBS.get(call.function, call.function)
    return [_PROGRAM, *first, verb, *inputs, *named, *_options(call), *place, "--out", out]


class _Writer:
    """Collects commands; an input that is needed twice is computed once."""

    def __init__(self, files: Mapping[str, FileInput], models: Mapping[str, str], out: str) -> None:
        self.files, self.models, self.out = files, models, out
        self.lines: list[list[str]] = []
        self.made: dict[object, str] = {}
        self.count = 0  # files between

    def node(self, node: Node, out: str) -> str:
        """Write what computes a record into ``out``."""
        if node.verb == "blend":
            raise RecipeError("the command line does not write a latent between two others: use the Python program")
        if node.verb == "interpolate" and node.inputs:
            ends = [self.node(taken.node, self.between("end", ".safetensors")) for taken in node.inputs]
            self.add(node, call_of(node), ["--a", ends[0], "--b", ends[1]], out)
            return out
        call, inputs = reconstruct_call(node), node.inputs
        if call is None:
            call = call_of(node)
        else:
            inputs = node.inputs[0].node.inputs
        words = [word for taken in inputs for word in self.input(taken, call.function)]
        if call.positional:
            words = ["--a", str(call.positional[0]), "--b", str(call.positional[1])]
        self.add(node, call, words, out)
        return out

    def add(self, node: Node, call: Call, inputs: list[str], out: str) -> None:
        """Write one command."""
        model = find_model(node.request, self.models) if call.has_model else None
        self.lines.append(call_words(call, inputs, model=model, device=node.device, threads=node.threads, out=out))

    def input(self, taken: Input, function: str) -> list[str]:
        """Write what makes the file of an input; return the words that name it to its verb."""
        file = find_file(taken, self.files)
        if file is None:
            key: object = taken.sha256 or id(taken.node)
            if key not in self.made:
                ending = ".safetensors" if taken.node.verb in LATENT_VERBS else ".ome.tif"
                self.made[key] = self.node(taken.node, self.between(taken.role, ending))
            return [self.made[key]]
        choices = list(_reading(file))
        if not choices or function in _READ_CHOICES:
            return [file.path, *choices]
        if file not in self.made:  # a verb without these options takes a copy of the part that is meant
            self.made[file] = self.between(taken.role, ".ome.tif")
            self.lines.append([_PROGRAM, "crop", file.path, *choices, "--out", self.made[file]])
        return [self.made[file]]

    def between(self, role: str, ending: str) -> str:
        """Return the name of a file between two commands, beside the result."""
        path = PurePath(self.out)
        name = path.name
        stem = next((name[: -len(known)] for known in _ENDINGS if name.lower().endswith(known)), path.stem)
        self.count += 1
        return str(path.with_name(f"{stem}-{self.count}-{role}{ending}"))


def _options(call: Call) -> Iterable[str]:
    """Yield the options of a call as words; refuse what a command cannot say."""
    if call.function == "simulate":
        yield from ("--part", call.part or "noisy")
    if call.function == "generate" and call.options.get("batch") and call.pick is not None:
        yield from ("--only", str(call.options.get("start", 0) + call.pick))
    for name, value in call.options.items():
        if name in _OPTIONS:
            yield _OPTIONS[name]
            yield from _words(value)
        elif name == "camera":
            yield from _camera(value)
        elif name == "condition":
            for condition, wanted in value.items():
                yield from ("--condition", f"{condition}={wanted}")
        elif name == "intensity" and isinstance(value, IntensityScale):
            yield from ("--intensity", repr(value.background), repr(value.scale))
        elif name == "config":
            yield from _simulation(value)
        elif name == "box":
            yield from ("--crop", _box(value))
        elif name == "snap":
            yield "--no-snap"
        elif name != "noisy":  # --part says it
            raise RecipeError(f"the command {call.function} has no option for {name} {value}: use the Python program")


def _words(value: object) -> list[str]:
    if isinstance(value, tuple | list):
        return [str(entry) for entry in value]
    return [repr(value) if isinstance(value, float) else str(value)]


def _camera(camera: CameraConfig) -> Iterable[str]:
    """Yield the options of a camera: at least one, so that it is one."""
    default, values = CameraConfig(), camera.model_dump()
    other = [name for name in values if name not in _CAMERA_OPTIONS and values[name] != getattr(default, name)]
    if other:
        raise RecipeError(
            f"the command line has no option for the camera's {other[0]} {values[other[0]]}: use the Python program"
        )
    for name, option in _CAMERA_OPTIONS.items():
        if name == "photons" or values[name] != getattr(default, name):
            yield from (option, repr(values[name]))


def _simulation(config: SimulationConfig | str) -> Iterable[str]:
    """Yield the options that make a configuration out of a tier or preset."""
    if isinstance(config, str):
        yield from ("--preset", config)
        return
    low, high = config.length_density_um_per_um3
    for name in SIMULATION_NAMES:
        base, words, changes = named_simulation(name), ["--preset", name], dict[str, Any]()
        if config.length_density_um_per_um3 != base.length_density_um_per_um3 and low == high:
            changes["length_density_um_per_um3"] = (low, low)
            words += ["--density", repr(low)]
        if config.shape != base.shape:
            changes["shape"] = config.shape
            words += ["--shape", *map(str, config.shape)]
        if config.voxel_size_um != base.voxel_size_um or config.voxel_size_jitter != base.voxel_size_jitter:
            changes |= {"voxel_size_um": config.voxel_size_um, "voxel_size_jitter": 0.0}
            words += ["--voxel-size", *map(repr, config.voxel_size_um)]
        if SimulationConfig.model_validate({**base.model_dump(), **changes}) == config:
            yield from words
            return
    raise RecipeError(
        "the command line has no options for this simulation, which is no tier or preset: use the Python program"
    )


def _reading(file: FileInput) -> Iterable[str]:
    """Yield the options that choose a volume in a file."""
    if file.channel is not None:
        yield from ("--channel", str(file.channel))
    if file.time is not None:
        yield from ("--time", str(file.time))
    if file.voxel_size_um is not None:
        yield from ("--voxel-size", *map(repr, file.voxel_size_um))
    if file.box is not None:
        yield from ("--crop", _box(file.box))


def _box(box: Box) -> str:
    return ",".join(f"{start}:{stop}" for start, stop in box)
