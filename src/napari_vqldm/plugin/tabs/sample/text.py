"""Script and command for a request that was not run yet; a finished volume is copied from its record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from napari_vqldm.plugin.inference.devices import default_threads
from napari_vqldm.plugin.state.model import ModelState
from napari_vqldm.recipe import Call, call_words, join_commands

_AUTO = '"cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"'


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
    """Return the command that generates what is asked for into the folder ``generated``; see `request_script`."""
    options = {name: value for name, value in request.items() if value is not None}
    if model.precision != "fp32":
        options["precision"] = model.precision
    call = Call("generate", has_model=True, options=options)
    threads = model.threads or default_threads()
    return join_commands([call_words(call, model=model.name, device=model.device, threads=threads, out="generated")])
