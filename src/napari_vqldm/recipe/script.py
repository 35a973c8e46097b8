"""A record as a Python program that runs as it stands and gives the same bits."""

from __future__ import annotations

from collections.abc import Mapping
from pprint import pformat
from textwrap import indent
from typing import Any

from pydantic import BaseModel

from napari_vqldm.config import CameraConfig, SimulationConfig
from napari_vqldm.intensity import IntensityScale
from napari_vqldm.recipe.calls import call_of, reconstruct_call
from napari_vqldm.recipe.sources import FileInput, find_file, find_model
from napari_vqldm.recipe.tree import LATENT_VERBS, Input, Node, read_recipe

_WIDTH = 100  # columns up to which a call stays on one line


def python_script(
    provenance: Mapping[str, Any],
    *,
    files: Mapping[str, FileInput] | None = None,
    models: Mapping[str, str] | None = None,
    out: str | None = None,
) -> str:
    """Write the program that computes a volume again.

    Parameters
    ----------
    provenance : mapping
        Of the volume.
    files : mapping, optional
        Inputs that lie in files, by the fingerprint of their voxels (``source_sha256`` of the request; see
        `napari_vqldm.volume.hash_voxels`). Other inputs are computed, too.
    models : mapping, optional
        Checkpoint files by ``weights_sha256``. Bundled models need none.
    out : str, optional
        Also write the volume to this file.

    Returns
    -------
    str
        Ends with the variable ``volume`` (``latent`` for an encoding). Every number is exact.

    Raises
    ------
    RecipeError
        If the record is not ours, or an input or a model is neither known nor computable.
    """
    writer = _Writer(files or {}, models or {})
    name = writer.node(read_recipe(provenance), is_last=True)
    if out is not None:
        save = f"{name}.save({out!r})" if name == "latent" else f"nv.write_volume({out!r}, {name})"
        writer.lines.append(save)
    return writer.text()


class _Writer:
    """Collects statements; a volume or a model that is needed twice is made once."""

    def __init__(self, files: Mapping[str, FileInput], models: Mapping[str, str]) -> None:
        self.files, self.models = files, models
        self.lines: list[str] = []
        self.imports = {"import napari_vqldm as nv"}
        self.made: dict[object, str] = {}  # what it is to the variable that holds it
        self.taken: set[str] = set()
        self.threads: int | None = None

    def text(self) -> str:
        """Return the program."""
        plain = sorted(line for line in self.imports if line.startswith("import "))
        return "\n".join([*plain, *sorted(self.imports - set(plain)), "", *self.lines, ""])

    def node(self, node: Node, is_last: bool = False) -> str:
        """Write what computes a record; return its variable."""
        if (key := repr(_identity(node))) in self.made and not is_last:
            return self.made[key]
        call, inputs = reconstruct_call(node), node.inputs
        if call is None:
            call = call_of(node)
        else:
            inputs = node.inputs[0].node.inputs
        sources = [self.input(taken) for taken in inputs]
        model = [self.model(node)] if call.has_model else []
        self.set_threads(node.threads)
        arguments = [*model, *map(self.value, call.positional), *sources]
        arguments += [f"{name}={self.value(value)}" for name, value in call.options.items()]
        if call.function == "simulate" and node.device != "cpu":
            arguments.append(f"device={node.device!r}")
        name = self.name("latent" if node.verb in LATENT_VERBS else "volume" if is_last else _short(node), is_last)
        end = "" if call.pick is None else f"[{call.pick}]"
        end += "" if call.part is None else f".{call.part}"
        self.lines.append(_statement(name, f"nv.{call.function}", arguments, end))
        self.made[key] = name
        return name

    def input(self, taken: Input) -> str:
        """Write what reads or computes an input; return its variable."""
        file = find_file(taken, self.files)
        if file is None:
            return self.node(taken.node)
        if file in self.made:
            return self.made[file]
        choices = {"channel": file.channel, "time": file.time, "voxel_size_um": file.voxel_size_um}
        words = [repr(file.path), *(f"{name}={value!r}" for name, value in choices.items() if value is not None)]
        name = self.name(taken.role if taken.role != "end" else "source")
        self.lines.append(_statement(name, "nv.read_volume", words))
        if file.box is not None:
            self.lines.append(f"{name} = nv.crop({name}, {file.box!r})")
        self.made[file] = name
        return name

    def model(self, node: Node) -> str:
        """Write what loads the model of a request; return its variable."""
        path, device = find_model(node.request, self.models), node.device
        if (path, device) not in self.made:
            name = self.name("model")
            place = "" if device == "cpu" else f", device={device!r}"
            self.lines.append(f"{name} = nv.load({path!r}{place})")
            self.made[path, device] = name
        return self.made[path, device]

    def set_threads(self, threads: int | None) -> None:
        """Write the number of threads where it changes: sums of floats depend on it."""
        if threads is not None and threads != self.threads:
            self.imports.add("import torch")
            self.lines.append(f"torch.set_num_threads({threads})")
            self.threads = threads

    def value(self, value: object) -> str:
        """Return a value as Python text, with what it needs imported."""
        if isinstance(value, IntensityScale):
            self.imports.add("from napari_vqldm.intensity import IntensityScale")
            return f"IntensityScale({value.background!r}, {value.scale!r})"
        if isinstance(value, CameraConfig):
            self.imports.add("from napari_vqldm.config import CameraConfig")
            return self.named("camera", "CameraConfig", [f"{k}={v!r}" for k, v in _plain(value).items()])
        if isinstance(value, SimulationConfig):
            self.imports.add("from napari_vqldm.config import SimulationConfig")
            text = pformat(_plain(value), width=_WIDTH, sort_dicts=False)
            return self.named("simulation", "SimulationConfig.model_validate", [indent(text, "    ").strip()])
        return repr(value)

    def named(self, wanted: str, function: str, arguments: list[str]) -> str:
        """Write a configuration as a statement of its own; return its variable."""
        key = (function, *arguments)
        if key not in self.made:
            self.made[key] = self.name(wanted)
            self.lines.append(_statement(self.made[key], function, arguments))
        return self.made[key]

    def name(self, wanted: str, is_last: bool = False) -> str:
        """Return a variable that is free; the last one has its name whatever came before."""
        number, name = 2, wanted
        while name in self.taken and not is_last:
            name, number = f"{wanted}_{number}", number + 1
        self.taken.add(name)
        return name


def _identity(node: Node) -> tuple[object, ...]:
    """Return what makes two records the same computation: not when, and not by which versions."""
    skipped = ("name", "source", "reconstruction", "latent", "ends")
    request = sorted((key, value) for key, value in node.request.items() if key not in skipped)
    inputs = tuple((taken.sha256, _identity(taken.node)) for taken in node.inputs)
    return node.verb, request, node.device, node.threads, inputs


def _plain(config: BaseModel) -> dict[str, Any]:
    return config.model_dump(mode="json")


def _short(node: Node) -> str:
    names = {"generate": "generated", "simulate": "simulated", "crop": "part", "record": "recorded"}
    return names.get(node.verb, "reconstruction" if node.verb == "decode" else node.verb)


def _statement(name: str, function: str, arguments: list[str], end: str = "") -> str:
    """Write one assignment, one argument per line where it is long."""
    line = f"{name} = {function}({', '.join(arguments)}){end}"
    if len(line) <= _WIDTH and "\n" not in line:
        return line
    return "\n".join([f"{name} = {function}(", *(f"    {argument}," for argument in arguments), f"){end}"])
