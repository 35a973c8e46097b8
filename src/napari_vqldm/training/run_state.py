"""What a run folder says of its run: under way, stopped, failed, finished, or gone without a word."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from napari_vqldm.errors import TrainingError, VqldmError
from napari_vqldm.training.folder import RunFolder, read_json
from napari_vqldm.training.presence import RunProcess

SILENT_S = 600.0  # without a sign of life: of a process on another computer nothing else is known

StateName = Literal[
    "missing", "no run", "unreadable", "running", "silent", "died", "failed", "stopped", "finished", "ended"
]


@dataclass(frozen=True)
class RunState:
    """How a run stands.

    Attributes
    ----------
    name : str
        ``"missing"`` no such folder; ``"no run"`` a folder without a run; ``"unreadable"`` the file system refuses;
        ``"running"``; ``"silent"`` on another computer, without a sign of life for ten minutes; ``"died"`` killed, or
        its computer went down; ``"failed"`` by an error; ``"stopped"`` by a signal, saved; ``"finished"`` with its
        checkpoint; ``"ended"`` without one, as after single stages.
    text : str
        One plain line.
    is_here : bool
        Whether its process is alive on this computer, where it can be stopped.
    """

    name: StateName
    text: str
    is_here: bool = False


def state_of(folder: RunFolder, config: Mapping[str, Any]) -> RunState:
    """Tell how a run stands.

    Parameters
    ----------
    folder : RunFolder
        Of the run; nothing is written.
    config : mapping
        Content of ``config.json``; empty when there is none.

    Raises
    ------
    OSError
        If the file system does not let anybody look.
    """
    if not folder.path.is_dir():
        is_file = folder.path.exists()
        return RunState("missing", f"{folder.path} is {'a file, no run folder' if is_file else 'not there'}")
    process = process_of(folder)
    if process is not None:
        return _of_process(folder, process)
    failure = _record(folder.failed)
    if failure is not None:  # also where nothing else is left: somebody removed the folder under its training
        return RunState("failed", f"failed: {failure.get('message', 'no message')}")
    if not config:
        return RunState("no run", f"{folder.path} holds no run: config.json is not there or not readable")
    if _record(folder.stopped) is not None:
        return RunState("stopped", "stopped by a signal, saved: the same start goes on")
    has_denoiser = isinstance(config.get("model"), Mapping) and config["model"].get("denoiser") is not None
    if (folder.checkpoint if has_denoiser else folder.autoencoder_checkpoint).is_file():
        return RunState("finished", "finished: the checkpoint is there")
    return RunState("ended", "no process works here and there is no checkpoint yet: the same start goes on")


def process_of(folder: RunFolder) -> RunProcess | None:
    """Return the process that works in a run folder, or left it without a word; None where none says so."""
    return RunProcess.of(_record(folder.running))


def works_there(path: Path, pid: int, host: str) -> TrainingError:
    """Return the refusal of a second training in a folder."""
    return TrainingError(f"{path}: process {pid} on {host} works there: stop it first, or choose another folder")


def _of_process(folder: RunFolder, process: RunProcess) -> RunState:
    if process.is_here:
        if process.is_alive:
            return RunState("running", f"running, process {process.pid} on this computer", is_here=True)
        return RunState(
            "died",
            f"process {process.pid} is gone without a word: killed, out of memory, or the computer went down; "
            "the same start goes on from the last saved step",
        )
    silent_s = max(0.0, time.time() - _newest_sign(folder))
    if silent_s < SILENT_S:
        return RunState("running", f"running, process {process.pid} on {process.host}")
    return RunState(
        "silent",
        f"no sign of life for {silent_s / 60:.0f} min from process {process.pid} on {process.host}: "
        "it may be simulating or encoding, or be gone; look there",
    )


def _newest_sign(folder: RunFolder) -> float:
    """Return when the run last wrote anything that it writes often, seconds since 1970."""
    cache = folder.path / "cache"
    signs = [folder.metrics, folder.running, folder.log, folder.path / "state", cache]
    signs += cache.iterdir() if cache.is_dir() else ()  # simulated volumes and latents
    return max((path.stat().st_mtime for path in signs if path.exists()), default=0.0)


def _record(path: Path) -> Mapping[str, Any] | None:
    """Return a small JSON file; None when it is not there or foreign."""
    try:
        content = read_json(path)
    except VqldmError:
        return None
    return content if isinstance(content, Mapping) else None
