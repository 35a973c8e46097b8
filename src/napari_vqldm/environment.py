"""On what a volume was computed: machine, device, threads and builds; and in which of them two computations differ.

The same request on the same machine, build, device and number of threads gives the same bits. Each single difference
has its own message, since each has its own remedy or none.
"""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from napari_vqldm import __version__

Value = str | int | None
_PACKAGES = {"numpy": "NumPy", "scipy": "SciPy", "monai": "MONAI"}


@dataclass(frozen=True)
class Difference:
    """One way in which two computations differ.

    Attributes
    ----------
    field : str
        Key of the environment, e.g. ``"threads"``.
    recorded, current : str, int or None
        Its value then and now; None where it is not known.
    message : str
        One plain sentence.
    """

    field: str
    recorded: Value
    current: Value
    message: str


def describe_environment(device: str) -> dict[str, Value]:
    """Describe what decides about the last bits of a computation, apart from the versions of packages.

    Call it on the thread that computes: PyTorch counts threads per thread. Everything else is found once per process.

    Parameters
    ----------
    device : str
        Where the networks are: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.

    Returns
    -------
    dict
        JSON-compatible: ``system``, ``machine``, ``processor``, ``torch`` (version and commit), ``cpu_capability`` (the
        widest vector instructions that PyTorch uses), ``device``, ``device_name``, ``threads``, ``cuda``, ``cudnn``.
        The last two and ``device_name`` are None on the CPU.
    """
    import torch

    return {**_fixed(device), "threads": torch.get_num_threads()}


def environment_of(provenance: Mapping[str, Any]) -> dict[str, Value]:
    """Return what a record says of the machine and of all versions, in one flat mapping for `compare_environments`.

    Empty for a record of ours from before the machine was recorded, except for its versions.
    """
    found: dict[str, Value] = {}
    packages = provenance.get("packages")
    for name in _PACKAGES:
        if isinstance(packages, Mapping) and isinstance(packages.get(name), str):
            found[name] = packages[name]
    if isinstance(version := provenance.get("version"), str):
        found["napari-vqldm"] = version
    environment = provenance.get("environment")
    return {**found, **environment} if isinstance(environment, Mapping) else found


def current_environment(device: str) -> dict[str, Value]:
    """Return what `environment_of` will say of a record that is made now, on this thread."""
    from importlib import metadata

    versions: dict[str, Value] = {"napari-vqldm": __version__}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return {**versions, **describe_environment(device)}


def compare_environments(recorded: Mapping[str, Value], current: Mapping[str, Value]) -> list[Difference]:
    """Say in what two computations differ, what matters most first; empty when they should give the same bits.

    Parameters
    ----------
    recorded, current : mapping
        From `environment_of` and `current_environment`. The keys of `describe_environment` alone do, too: versions of
        packages are compared where both sides hold them.

    Returns
    -------
    list of Difference
        One per field. What follows from another device (its name, its libraries) is not told besides.
    """
    if not any(field in recorded for field in _MESSAGES if field not in (*_PACKAGES, "napari-vqldm")):
        text = "the record does not say on which machine it was computed: an older version of napari-vqldm wrote it"
        missing = [Difference("environment", None, _text(current.get("processor")), text)]
        return missing + [d for field in ("napari-vqldm", *_PACKAGES) if (d := _compare(field, recorded, current))]
    fields = list(_MESSAGES)
    if _kind(recorded.get("device")) != _kind(current.get("device")):
        fields = [field for field in fields if field not in ("device_name", "cuda", "cudnn")]
    elif recorded.get("device_name") == current.get("device_name") is not None:
        fields.remove("device")  # cuda:0 and cuda:1 of one type compute alike
    return [difference for field in fields if (difference := _compare(field, recorded, current))]


_MESSAGES: dict[str, str] = {
    "device": "computed on the device {recorded}, now {current}: choose that device",
    "device_name": "computed on another graphics card ({recorded}), now {current}",
    "processor": "computed on another processor ({recorded}), now {current}",
    "machine": "computed on another kind of machine ({recorded}), now {current}",
    "system": "computed on another operating system ({recorded}), now {current}",
    "torch": "computed with another build of PyTorch ({recorded}), now {current}",
    "cpu_capability": "computed with other vector instructions ({recorded}), now {current}",
    "threads": "computed with {recorded} threads, now {current}: set the number of threads to {recorded}",
    "cuda": "computed with CUDA {recorded}, now {current}",
    "cudnn": "computed with cuDNN {recorded}, now {current}",
    "napari-vqldm": "computed by napari-vqldm {recorded}, now {current}",
    **{name: f"computed with {label} {{recorded}}, now {{current}}" for name, label in _PACKAGES.items()},
}
_LABELS = {
    "device": "the device",
    "device_name": "the graphics card",
    "processor": "the processor",
    "machine": "the kind of machine",
    "system": "the operating system",
    "torch": "the build of PyTorch",
    "cpu_capability": "the vector instructions",
    "threads": "the number of threads",
    "cuda": "the version of CUDA",
    "cudnn": "the version of cuDNN",
    "napari-vqldm": "the version of napari-vqldm",
    **{name: f"the version of {label}" for name, label in _PACKAGES.items()},
}


def _compare(field: str, recorded: Mapping[str, Value], current: Mapping[str, Value]) -> Difference | None:
    """Compare one field; one that only the current side knows is a difference of its own kind."""
    before, now = recorded.get(field), current.get(field)
    if before == now or field not in current:
        return None
    if before is None:
        return Difference(field, None, now, f"the record does not say {_LABELS[field]}, now {now}")
    shown = "unknown" if now is None else now
    return Difference(field, before, now, _MESSAGES[field].format(recorded=before, current=shown))


def _kind(device: Value) -> str:
    """``cuda`` of ``cuda:1``."""
    return str(device).partition(":")[0]


def _text(value: Value) -> str | None:
    return None if value is None else str(value)


@cache
def _fixed(device: str) -> dict[str, Value]:
    """What does not change while the process runs."""
    import torch

    chosen = torch.device(device)
    is_cuda = chosen.type == "cuda"
    name: str | None = None
    if is_cuda:
        index = torch.cuda.current_device() if chosen.index is None else chosen.index
        device, name = f"cuda:{index}", torch.cuda.get_device_name(index)
    elif chosen.type != "cpu":
        name = _processor()
    cudnn = torch.backends.cudnn.version() if is_cuda else None
    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "processor": _processor(),
        "torch": f"{torch.__version__} {torch.version.git_version or ''}".strip(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "device": device,
        "device_name": name,
        "cuda": torch.version.cuda if is_cuda else None,
        "cudnn": None if cudnn is None else str(cudnn),
    }


@cache
def _processor() -> str:
    """Model name of the processor, as its owner knows it."""
    system = platform.system()
    name = ""
    if system == "Linux":
        name = _linux_processor()
    elif system == "Darwin":
        name = _mac_processor()
    return name or platform.processor() or platform.machine() or "unknown"


def _linux_processor(path: Path = Path("/proc/cpuinfo")) -> str:
    """First model name in ``/proc/cpuinfo``; empty where it has none, as on many ARM boards."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "")


def _mac_processor() -> str:
    """What macOS calls the chip."""
    try:
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
