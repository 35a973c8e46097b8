"""Turn an exception into what the dock shows: what went wrong, what to do, and a report to send.

Our own errors are written as "what is wrong: what to do"; others that users meet often have a text here.
"""

from __future__ import annotations

import concurrent.futures
import errno
import logging
import platform
import re
import sys
import traceback
from dataclasses import dataclass
from importlib import metadata

from napari_vqldm import __version__
from napari_vqldm.errors import (
    CheckpointError,
    ConditionError,
    ConfigError,
    FileError,
    ShapeError,
    VolumeError,
    VqldmError,
)
from napari_vqldm.memory import is_out_of_memory

LOG = logging.getLogger("napari_vqldm")

TORCH_FIRST = 'python -c "import torch, napari; napari.Viewer(); napari.run()"'
"""Starts napari after PyTorch: on Windows some builds of PyTorch cannot be loaded once Qt is."""

_IMPERATIVES = (
    "add|ask|change|check|choose|click|compare|convert|copy|crop|cut|decode|encode|enlarge|evaluate|export|free|generate|"
    "give|increase|install|keep|leave|load|lower|make|move|open|pad|pass|pip|put|raise|record|reduce|reinstall|remove|"
    "rename|repair|resample|restore|run|save|select|set|split|start|take|train|try|update|upgrade|use|write"
)
_REMEDY = re.compile(rf"[:;,]\s+(?:or )?(?P<remedy>(?:{_IMPERATIVES})\b.*)$")
_CHOICES = re.compile(r":\s+(?P<remedy>expected (?!.*\bgot\b).*)$")
_DEFAULT_REMEDIES: tuple[tuple[type[VqldmError], str], ...] = (
    (CheckpointError, "Choose another model on the Model tab."),
    (ConditionError, "Choose a value inside the trained range of the model."),
    (ConfigError, "Change the value and try again."),
    (FileError, "Check the file and its folder, then try again."),
    (ShapeError, "Choose another layer, region or size."),
    (VolumeError, "Choose another layer or region."),
)
_EXTRAS = {"zarr": "zarr", "ome_zarr": "zarr", "skan": "metrics", "microssim": "metrics", "bioio": "formats"}
_VERSIONS = ("napari", "torch", "numpy", "qtpy", "PySide6", "PyQt6", "magicgui", "superqt", "npe2")
_OPEN_ISSUE = "Copy the report and open an issue."
_MISSING_DLL = (126, 1114)  # Windows: module not found; its initialization failed


@dataclass(frozen=True)
class Failure:
    """A failed job, or a failed reaction to one, in words.

    Attributes
    ----------
    cause : str
        What went wrong, one line.
    remedy : str
        What to do about it; may be empty.
    report : str
        Versions, title of the job, full message and traceback: what an issue needs.
    is_cancelled : bool
        Whether the work stopped itself because it was told to; nothing to show then.
    """

    cause: str
    remedy: str
    report: str
    is_cancelled: bool = False


def failure_of(error: BaseException, title: str = "") -> Failure:
    """Describe an exception for the user and write its traceback to the log ``napari_vqldm``.

    Parameters
    ----------
    error : BaseException
        Anything that work or a callback raised.
    title : str
        What was being done, for report and log.

    Returns
    -------
    Failure
        Holds text alone: no reference to the exception or its frames.
    """
    if isinstance(error, KeyboardInterrupt | GeneratorExit | concurrent.futures.CancelledError):
        return Failure("Cancelled", "", "", is_cancelled=True)
    try:
        cause, remedy = _explain(error)
    except Exception:  # noqa: BLE001 - an error whose text raises: the thread that asks must go on
        cause, remedy = f"Unexpected error: {type(error).__name__}", _OPEN_ISSUE
    # Errors of ours are answers to a request; the others may be bugs and belong on the console.
    level = logging.INFO if isinstance(error, VqldmError) else logging.ERROR
    # As text: a log handler that keeps its records would keep the tensors of the traceback with exc_info.
    text = "".join(traceback.format_exception(error)).rstrip()
    LOG.log(level, "%s: %s\n%s", title or "napari-vqldm", cause, text)
    return Failure(cause, remedy, _report(text, title))


def split_message(message: str) -> tuple[str, str]:
    """Split "what is wrong: what to do" into its halves.

    Parameters
    ----------
    message : str
        One line, as our errors are written.

    Returns
    -------
    tuple of str
        Cause and remedy; the remedy is empty when the message tells none.
    """
    found = _REMEDY.search(message) or _CHOICES.search(message)
    if found is None:
        return message, ""
    remedy = found["remedy"]
    return message[: found.start()], remedy[0].upper() + remedy[1:]


def _explain(error: BaseException) -> tuple[str, str]:
    """Return cause and remedy."""
    message = " ".join(str(error).split())
    if isinstance(error, VqldmError):
        cause, remedy = split_message(message)
        return cause, remedy or next((text for kind, text in _DEFAULT_REMEDIES if isinstance(error, kind)), "")
    if is_out_of_memory(error):
        return (
            "Memory ran out",
            "Choose a smaller region or fewer volumes at once, set the precision to bf16, close other programs, "
            'or press "Free memory"; then try again.',
        )
    if _is_torch_after_qt(error, message):
        return (
            "PyTorch could not be loaded: on Windows some of its builds fail when Qt was loaded first "
            f"({message[:120]})",
            f"Close napari and start it from the command line of its environment with {TORCH_FIRST}",
        )
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.split(".")[0]
        wanted = f"napari-vqldm[{_EXTRAS[package]}]" if package in _EXTRAS else package
        return f"The package {package} is missing", f"pip install '{wanted}', then restart napari."
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "The disk is full", "Free some space or choose another folder, then try again."
    first_line = (str(error).strip().splitlines() or ["no message"])[0]
    return f"Unexpected error: {type(error).__name__}: {first_line}", _OPEN_ISSUE


def _is_torch_after_qt(error: BaseException, message: str) -> bool:
    """Tell whether PyTorch's libraries could not be loaded because of what is loaded already."""
    if not isinstance(error, OSError | ImportError):
        return False
    code = getattr(error, "winerror", None)
    is_missing_dll = code in _MISSING_DLL or any(f"WinError {number}" in message for number in _MISSING_DLL)
    is_failed_import = isinstance(error, ImportError) and "DLL load failed" in message
    is_of_torch = any(word in message.lower() for word in ("torch", "c10.dll", "shm.dll", "fbgemm"))
    return (is_missing_dll or is_failed_import) and is_of_torch


def _report(traceback_text: str, title: str) -> str:
    """Write what an issue needs; paths appear only where the traceback has them."""
    versions = [f"{name} {version}" for name in _VERSIONS if (version := _installed(name))]
    if (torch := sys.modules.get("torch")) is not None:  # with its build: metadata does not tell CPU from CUDA
        versions = [f"torch {torch.__version__}" if text.startswith("torch ") else text for text in versions]
    if (qtpy := sys.modules.get("qtpy")) is not None:
        versions.append(f"Qt {getattr(qtpy, 'QT_VERSION', '?')} ({getattr(qtpy, 'API_NAME', '?')})")
    lines = [
        f"napari-vqldm {__version__}",
        f"Python {platform.python_version()} on {platform.platform()}",
        ", ".join(versions),
        *([f"While: {title}"] if title else []),
        "",
        traceback_text,
    ]
    return "\n".join(lines)


def _installed(name: str) -> str | None:
    """Version of an installed package, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
