"""Script and command for a request that was not run yet; a finished volume is copied from its record."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from napari_vqldm.plugin.inference.devices import default_threads
from napari_vqldm.plugin.state.model import ModelState

_AUTO = '"cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"'
_OPTIONS = {
    "count": "--count",
    "shape": "--shape",
    "seed": "--seed",
    "steps": "--steps",
    "sampler": "--sampler",
    "guidance_scale": "--guidance",
    "batch": "--batch",
    "start": "--start",
}


def request_script(model: ModelState, request: Mapping[str, Any]) -> str:
    """Return the script that generates what is asked for, on the device and with the threads of the dock.

    Parameters
    ----------
    model : ModelState
        Which model, and how it computes.
    request : mapping
        From `SampleState.to_request`.
    """
    words = [f"{name}={value!r}" for name, value in request.items() if value is not None]
    if model.precision != "fp32":
        words.append(f"precision={model.precision!r}")
    device = _AUTO if model.device == "auto" else repr(model.device)
    lines = [
        "import torch",
        "",
        "import napari_vqldm as nv",
        "",
        f"torch.set_num_threads({model.threads or default_threads()})",
        f"device = {device}",
        f"model = nv.load({model.name!r}, device=device)",
        "volumes = nv.generate(",
        "    model,",
        *(f"    {word}," for word in words),
        ")",
        "for volume in volumes:",
        "    print(volume.name, volume.shape, volume.voxel_size_um)",
        "",
    ]
    return "\n".join(lines)


def request_command(model: ModelState, request: Mapping[str, Any]) -> str:
    """Return the command that generates what is asked for into the folder ``generated``, for a POSIX shell."""
    words = ["napari-vqldm", "--threads", str(model.threads or default_threads()), "generate", "--model", model.name]
    for name, option in _OPTIONS.items():
        value = request[name]
        if value is not None:
            words += [option, *(map(str, value) if isinstance(value, tuple) else [str(value)])]
    for name, value in (request["condition"] or {}).items():
        words += ["--condition", f"{name}={value}"]
    if model.precision != "fp32":
        words += ["--precision", model.precision]
    return shlex.join([*words, "--device", model.device, "--out", "generated"])
