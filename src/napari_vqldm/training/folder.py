"""The run folder: where everything of a run lies, and the rule that its configuration never changes silently."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_vqldm.config import validate
from napari_vqldm.errors import ConfigError, FileError
from napari_vqldm.files import atomic_path
from napari_vqldm.training.config import STAGES, StageName, TrainConfig

# A change below one of these keys touches this stage and the later ones; any other key touches all of them.
STAGE_OF_KEY: tuple[tuple[str, StageName], ...] = (
    ("denoiser.", "denoiser"),
    ("model.denoiser", "denoiser"),
    ("model.diffusion.", "denoiser"),
    ("latents.", "latents"),
)
REPLACE_AGAIN_S = (0.05, 0.2, 1.0) if os.name == "nt" else ()  # there, a file that is just being read stays
WITHOUT_EFFECT = frozenset({"data.workers"})  # keys that say how to compute, not what


def replace_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file through a temporary one; its folder is made when missing. See `napari_vqldm.files.atomic_path`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{path.parent}: cannot create the folder: {error.strerror}") from None
    for wait_s in (*REPLACE_AGAIN_S, None):
        try:
            with atomic_path(path, force=True) as temporary:
                write(temporary)
            return
        except FileError:
            if wait_s is None:
                raise
            time.sleep(wait_s)


def save_array(path: Path, data: npt.NDArray[Any]) -> None:
    """Write an array as ``.npy`` atomically."""

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.save(file, data)

    replace_atomically(path, write)


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files of a killed run."""
    for path in folder.rglob(".*.part"):
        path.unlink(missing_ok=True)


def write_json(path: Path, content: object) -> None:
    """Write JSON atomically."""
    text = json.dumps(content, indent=1, sort_keys=True) + "\n"
    replace_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def read_json(path: Path) -> Any:
    """Read JSON; None when the file does not exist."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise FileError(f"{path}: cannot read: {error}") from None


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run."""

    path: Path
    cache: Path  # simulated volumes; may be shared by several runs

    @property
    def config(self) -> Path:
        """Return the configuration of the run, JSON."""
        return self.path / "config.json"

    @property
    def metrics(self) -> Path:
        """Return the numbers of all stages, one JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def pictures(self) -> Path:
        """Return the folder of PNG files."""
        return self.path / "pictures"

    @property
    def checkpoint(self) -> Path:
        """Return the result of the run."""
        return self.path / "checkpoint.safetensors"

    @property
    def autoencoder_checkpoint(self) -> Path:
        """Return the result of the first two stages: it reconstructs but does not generate."""
        return self.path / "autoencoder.safetensors"

    @property
    def stopped(self) -> Path:
        """Return the file that is there while the run is stopped by a signal, saved and not finished."""
        return self.path / "stopped.json"

    @property
    def running(self) -> Path:
        """Return the file that says which process works here; one that was killed leaves it."""
        return self.path / "running.json"

    @property
    def failed(self) -> Path:
        """Return the file with the error that ended the last start."""
        return self.path / "failed.json"

    @property
    def log(self) -> Path:
        """Return what a run that was started in the background writes to its terminal."""
        return self.path / "train.log"

    @property
    def volumes(self) -> Path:
        """Return the folder of small volumes beside the pictures."""
        return self.path / "volumes"

    @property
    def latents(self) -> Path:
        """Return the folder of encoded volumes."""
        return self.path / "cache" / "latents"

    def state(self, stage: StageName) -> Path:
        """State of a stage that is under way or done."""
        return self.path / "state" / f"{stage}.safetensors"

    def result(self, stage: StageName) -> Path:
        """What a finished stage reports."""
        return self.path / "results" / f"{stage}.json"

    def clear(self, stages: Sequence[StageName]) -> None:
        """Forget these stages and all later ones."""
        first = min(STAGES.index(stage) for stage in stages)
        for stage in STAGES[first:]:
            self.state(stage).unlink(missing_ok=True)
            self.result(stage).unlink(missing_ok=True)
            for picture in (*self.pictures.glob(f"{stage}-*.png"), *self.volumes.glob(f"{stage}-*.npz")):
                picture.unlink()
        self.checkpoint.unlink(missing_ok=True)
        if first == 0:
            shutil.rmtree(self.path / "tensorboard", ignore_errors=True)
            # Other volumes may be wanted now.
            for name in ("bank.json", "stacks.json"):
                (self.path / "cache" / name).unlink(missing_ok=True)
        if first <= STAGES.index("latents"):
            shutil.rmtree(self.latents, ignore_errors=True)
            self.autoencoder_checkpoint.unlink(missing_ok=True)
        keep_metrics(self.metrics, lambda line: line["stage"] in STAGES[:first])


@dataclass(frozen=True)
class Source:
    """Where a configuration came from: a file or preset, and what was changed in it on the command line."""

    path: Path | None
    changes: Sequence[Mapping[str, Any]] = ()


def is_left_over(path: Path) -> bool:
    """Whether a folder with nothing else is a run's: it has no configuration yet, was killed then, or was removed.

    A training whose folder is removed writes its last numbers and its error into a new one; numbers alone were kept by
    somebody.
    """
    if path.name == "metrics.jsonl":
        return path.with_name("failed.json").is_file()
    return path.name in ("cache", "train.log", "failed.json") or path.match(".config.json.*.part")


def open_run(
    folder: RunFolder, config: TrainConfig, source: Source | None, stages: Sequence[StageName], fresh: bool
) -> None:
    """Create or reopen a run folder.

    Raises
    ------
    ConfigError
        If the folder belongs to a run with another configuration and ``fresh`` does not cover what changed.
    """
    if folder.path.exists() and not folder.path.is_dir():
        raise ConfigError(f"{folder.path}: is a file, expected a run folder: give another --out")
    new = config.model_dump(mode="json")
    old = _with_defaults(read_json(folder.config))
    if old is None and folder.path.exists() and not all(is_left_over(path) for path in folder.path.iterdir()):
        raise ConfigError(f"{folder.path}: exists, is not empty and is no run folder: give another --out")
    if old is not None:
        changed = sorted(differing_keys(old, new))
        if fresh:
            first = min(STAGES.index(stage) for stage in stages)
            for key in changed:
                needed = stage_of_key(key)
                if STAGES.index(needed) < first:
                    raise ConfigError(
                        f"{folder.path}: {_difference(key, old, new)}, which touches stage {needed!r}: "
                        f"use --fresh --stage {needed}, or --fresh alone"
                    )
            folder.clear(stages)
        elif changed:
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            raise ConfigError(
                f"{folder.path}: {_difference(changed[0], old, new)}{more}: restore the configuration, "
                "give another --out, or start again with --fresh"
            )
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{folder.path}: cannot create the run folder: {error.strerror}") from None
    if old is None:
        folder.metrics.unlink(missing_ok=True)  # of a run that is gone
    write_json(folder.config, new)
    folder.stopped.unlink(missing_ok=True)
    folder.failed.unlink(missing_ok=True)
    source = source or Source(None)
    if source.path is not None:
        text = source.path.read_bytes()
        replace_atomically(folder.path / "config.toml", lambda temporary: temporary.write_bytes(text))
    changes = folder.path / "changes.json"
    if source.changes:
        write_json(changes, list(source.changes))
    else:
        changes.unlink(missing_ok=True)


def _with_defaults(values: dict[str, Any] | None) -> dict[str, Any] | None:
    """Fill in keys that are younger than the run, so that a new option is no change."""
    if values is None:
        return None
    try:
        return validate(TrainConfig, values).model_dump(mode="json")
    except ConfigError:
        return values


def _difference(key: str, old: dict[str, Any], new: dict[str, Any]) -> str:
    was, now = dict(_flatten(old)).get(key), dict(_flatten(new)).get(key)
    return f"the run was started with {key} = {json.dumps(was)}, now it is {json.dumps(now)}"


def stage_of_key(key: str) -> StageName:
    """Return the first stage whose result depends on a configuration key."""
    return next((stage for prefix, stage in STAGE_OF_KEY if key.startswith(prefix)), "autoencoder")


def differing_keys(old: dict[str, Any], new: dict[str, Any]) -> set[str]:
    """Return the dotted keys whose values differ in a way that changes a result."""
    a, b = dict(_flatten(old)), dict(_flatten(new))
    missing, keys = object(), a.keys() | b.keys()
    return {key for key in keys - WITHOUT_EFFECT if a.get(key, missing) != b.get(key, missing)}


def _flatten(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def keep_metrics(path: Path, wanted: Callable[[dict[str, Any]], bool]) -> None:
    """Keep the lines of metrics.jsonl that ``wanted`` accepts; a half line of a killed run is dropped."""
    if path.exists():
        kept = [json.dumps(line) for line in read_metrics(path) if wanted(line)]
        text = "".join(line + "\n" for line in kept)
        replace_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the lines of metrics.jsonl; a half line at its end is ignored."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return lines


def git_hash() -> str:
    """Return the commit of the source tree, with "+" when it has changes; empty outside of a repository."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        try:
            done = subprocess.run(
                ["git", "-C", str(here), *words], capture_output=True, text=True, timeout=10, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return ""
        return done.stdout.strip()

    if not git("ls-files", "--", Path(__file__).name):  # installed somewhere inside another project
        return ""
    commit = git("rev-parse", "HEAD")
    return commit + ("+" if commit and git("status", "--porcelain", "--untracked-files=no") else "")
