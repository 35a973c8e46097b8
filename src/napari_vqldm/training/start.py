"""Start a training as a process of its own, and stop it: whoever started it may leave, the training goes on.

It is the command ``python -m napari_vqldm.training``, detached from the terminal and the process group of its parent,
with its output in the run folder. Nothing here loads torch.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_vqldm.errors import ConfigError, FileError, TrainingError
from napari_vqldm.training.config import find_config, load_train_config, parse_setting
from napari_vqldm.training.folder import RunFolder, is_left_over
from napari_vqldm.training.run_state import process_of, works_there

LOG_END_BYTES = 4096
MISSING = "training needs lightning-fabric: install it with pip install 'napari-vqldm[train]'"


@dataclass(frozen=True)
class TrainingEnd:
    """How a started training left: its exit code (0 done or stopped and saved) and the last line that it wrote."""

    exit_code: int
    last_line: str


class StartedTraining:
    """A training that this program started.

    Attributes
    ----------
    folder : Path
        Run folder.
    log : Path
        What it writes to its terminal.
    pid : int
        Number of the process.
    """

    def __init__(self, process: subprocess.Popen[bytes], folder: RunFolder) -> None:
        self._process = process
        self.folder, self.log, self.pid = folder.path, folder.log, process.pid
        # Waits, so that a finished training does not stay in the list of processes for as long as this program runs.
        self._waiter = threading.Thread(target=process.wait, name="napari-vqldm training", daemon=True)
        self._waiter.start()

    def wait(self, timeout_s: float | None = None) -> TrainingEnd | None:
        """Wait for the end; None when it did not come in time."""
        self._waiter.join(timeout_s)
        return self.end()

    @property
    def is_alive(self) -> bool:
        """True while it is there; answers at once, whatever the file system does."""
        return self._waiter.is_alive()

    def end(self) -> TrainingEnd | None:
        """Return how it left; None while it is there. Reads its log."""
        if self.is_alive:
            return None
        return TrainingEnd(int(self._process.returncode), last_line(self.log))

    def stop(self) -> None:
        """Ask it to save and leave; one that has nothing to save yet just leaves."""
        if self.is_alive:
            _ask_to_stop(self.pid)


def can_train() -> bool:
    """Tell whether what trainings need besides this package is installed."""
    return importlib.util.find_spec("lightning_fabric") is not None


def start_training(config: str | Path, out: str | Path, overrides: Sequence[str] = ()) -> StartedTraining:
    """Start a training, or one that was stopped again, in the background.

    Parameters
    ----------
    config : str or Path
        Name of a preset, or a TOML file.
    out : str or Path
        Run folder. ``train.log`` in it gets what the training writes to its terminal.
    overrides : sequence of str
        ``KEY=VALUE`` as after ``--set``, such as ``autoencoder.batch_size=8``.

    Returns
    -------
    StartedTraining
        It ends with its run, not with this program.

    Raises
    ------
    TrainingError
        If training is not installed, or a process works in this folder.
    ConfigError
        If the configuration is wrong, or the folder holds something else than a run.
    FileError
        If the folder or the process cannot be made.
    """
    if not can_train():
        raise TrainingError(MISSING)
    path = find_config(config).absolute()
    load_train_config(path, [parse_setting(text) for text in overrides])
    folder = RunFolder(Path(out).absolute(), Path(out).absolute() / "cache")
    _check_folder(folder)
    command = [sys.executable, "-m", "napari_vqldm.training", str(path), "--out", str(folder.path)]
    for text in overrides:
        command += ["--set", text]
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        with folder.log.open("ab") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **_detached())
    except OSError as error:
        reason = error.strerror or str(error)
        raise FileError(f"{folder.path}: cannot start a training there: {reason}: choose another folder") from None
    return StartedTraining(process, folder)


def stop_training(path: str | Path) -> None:
    """Ask the training that works in a run folder to save and leave, whoever started it.

    Raises
    ------
    TrainingError
        If no process works there, or it cannot be asked from here.
    """
    folder = RunFolder(Path(path), Path(path) / "cache")
    process = process_of(folder)
    if process is None or (process.is_here and not process.is_alive):
        raise TrainingError(f"{folder.path}: no training works there, nothing is stopped")
    if not process.is_here:
        raise TrainingError(
            f"{folder.path}: the training runs on {process.host}: stop it there with kill -TERM {process.pid}"
        )
    _ask_to_stop(process.pid)


def last_line(log: Path) -> str:
    """Return the last line of a log that is not empty; "" when there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_END_BYTES))
            lines = file.read().decode("utf-8", errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _check_folder(folder: RunFolder) -> None:
    """Refuse before anything is written; the training itself checks the configuration of an older run."""
    path = folder.path
    try:
        if path.exists() and not path.is_dir():
            raise ConfigError(f"{path}: is a file, expected a run folder: choose another one")
        entries = list(path.iterdir()) if path.exists() else []
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror}: choose another folder") from None
    if not folder.config.is_file() and not all(is_left_over(entry) for entry in entries):
        raise ConfigError(f"{path}: exists, is not empty and is no run folder: choose another one")
    process = process_of(folder)
    if process is not None and (not process.is_here or process.is_alive):
        raise works_there(folder.path, process.pid, process.host)


def _ask_to_stop(pid: int) -> None:
    """Send the signal that a training answers by saving."""
    try:
        if sys.platform == "win32":
            os.kill(pid, signal.CTRL_BREAK_EVENT)
        else:
            os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        pass  # it left by itself
    except OSError as error:
        raise TrainingError(
            f"process {pid} cannot be stopped from here: {error.strerror}: stop it with the means of your system"
        ) from None


def _detached() -> dict[str, Any]:
    """Return what keeps signals and the end of this program away from a process."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}
