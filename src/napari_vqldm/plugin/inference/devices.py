"""Which devices and precisions work on this machine, tried rather than believed. PyTorch is imported by the functions.

Everything here runs on the inference thread: the first call of most of it brings PyTorch.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from napari_vqldm.errors import ConfigError
from napari_vqldm.memory import available_bytes

if TYPE_CHECKING:
    import torch

Precision = Literal["fp32", "bf16"]

_GPU_FILES = ("/dev/nvidiactl", "/dev/kfd")  # drivers of NVIDIA and AMD on Linux


@dataclass(frozen=True)
class DeviceInfo:
    """A device that PyTorch can compute on.

    Attributes
    ----------
    name : str
        What `choose_device` takes: ``cpu``, ``cuda:0``, ``mps``.
    label : str
        What the user reads.
    free_bytes : int or None
        Memory that nothing uses now; None when the system does not tell.
    """

    name: str
    label: str
    free_bytes: int | None


def default_threads() -> int:
    """Return how many CPU threads to use unless told: all of two cores, else one less, for the window.

    ``OMP_NUM_THREADS`` wins: whoever shares a machine sets it.
    """
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdecimal() and int(wanted) > 0:
        return int(wanted)
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return cores if cores <= 2 else cores - 1


def may_have_gpu() -> bool:
    """Tell from the system alone whether a GPU may be here that PyTorch computes on; no PyTorch is needed for this."""
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    return shutil.which("nvidia-smi") is not None or any(Path(name).exists() for name in _GPU_FILES)


def choose_device(wanted: str) -> tuple[str, str]:
    """Return the device to use and, when it is not the wanted one, a sentence that says why.

    Parameters
    ----------
    wanted : str
        ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``. ``auto`` takes the first of CUDA, MPS and CPU that works.

    Returns
    -------
    tuple of str
        Name of the device, and the sentence or an empty text.

    Raises
    ------
    ConfigError
        If there is no device of such a name anywhere.
    """
    import torch

    if wanted == "cpu":
        return "cpu", ""
    candidates = _found() if wanted == "auto" else [_parsed(wanted)]
    note = ""
    for name in candidates:
        missing = "" if wanted == "auto" else _missing(name)
        problem = missing or _try(torch.device(name), "fp32")
        if not problem:
            return name, note
        # The first problem is told: it is that of the device the user would expect.
        note = note or (problem if missing else f"{name} cannot run our networks ({problem}): using cpu")
    return "cpu", note


def choose_precision(device: str, wanted: Precision) -> tuple[Precision, str]:
    """Return the precision to use on a device and, when it is not the wanted one, a sentence that says why.

    Raises
    ------
    ConfigError
        If the precision is neither ``fp32`` nor ``bf16``.
    """
    import torch

    if wanted not in ("fp32", "bf16"):
        raise ConfigError(f"expected precision fp32 or bf16, got {wanted!r}")
    problem = _try(torch.device(device), wanted) if wanted == "bf16" else ""
    return ("fp32", f"bf16 does not work on {device} ({problem}): using fp32") if problem else (wanted, "")


def list_devices() -> tuple[DeviceInfo, ...]:
    """Return the devices of this machine, the CPU first."""
    import torch

    threads = torch.get_num_threads()
    labels = {"cpu": f"CPU, {threads} thread{'s' if threads > 1 else ''}"}
    for name in _found():
        labels[name] = (
            "Apple GPU (mps)" if name == "mps" else f"{torch.cuda.get_device_name(torch.device(name))} ({name})"
        )
    return tuple(DeviceInfo(name, label, available_bytes(name)) for name, label in labels.items())


def _found() -> list[str]:
    """Names of the GPUs that PyTorch reports, the preferred one first."""
    import torch

    names = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return [*names, "mps"] if torch.backends.mps.is_available() else names


def _parsed(wanted: str) -> str:
    """Return the full name of a device, such as ``cuda:0`` for ``cuda``."""
    import torch

    try:
        device = torch.device(wanted)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cuda", "mps", "cpu"):
        raise ConfigError(f"expected device auto, cpu, cuda, cuda:N or mps, got {wanted!r}")
    return f"cuda:{device.index or 0}" if device.type == "cuda" else device.type


def _missing(name: str) -> str:
    """Say that a device is not there; empty when it is."""
    if name == "cpu" or name in _found():
        return ""
    if name == "mps":
        return "mps is not available on this machine: using cpu"
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    why = "this PyTorch was built without CUDA" if torch.version.cuda is None else f"CUDA devices here: {count}"
    return f"{name} is not available on this machine ({why}): using cpu"


def _try(device: torch.device, precision: Precision) -> str:
    """Run the operations of our networks once, tiny; return what went wrong, empty when they work."""
    import torch
    import torch.nn.functional as F

    autocast = torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()
    try:
        with torch.no_grad(), autocast:
            volume = torch.linspace(-1, 1, 8 * 4**3, device=device).reshape(1, 8, 4, 4, 4)
            kernel = torch.full((8, 8, 3, 3, 3), 0.01, device=device)
            result = F.group_norm(F.conv3d(volume, kernel, padding=1), 2)
            is_finite = bool(torch.isfinite(result).all())
    except (RuntimeError, NotImplementedError, AssertionError, TypeError) as error:
        return " ".join(str(error).split())[:120] or type(error).__name__
    return "" if is_finite else "results are not finite"
