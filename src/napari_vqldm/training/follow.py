"""Follow a run by reading its folder: numbers, watchers, state, newest pictures and volumes. Nothing is written there.

The folder may lie on another computer, vanish, come back, or be replaced while it is read: what cannot be read is a
state with one plain line, never an error. A file system that hangs makes `RunFollower.poll` wait: call it from a thread
that nobody waits for.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_vqldm.errors import VqldmError
from napari_vqldm.training.config import STAGES
from napari_vqldm.training.folder import RunFolder, read_json
from napari_vqldm.training.run_state import RunState, state_of
from napari_vqldm.training.tail import Tail
from napari_vqldm.training.volumes import VolumeFile, list_volumes

MOST_STEPS = 2**53  # beyond, a step is no exact number on an axis
SPEED_LINES = 20  # logged lines that the speed is taken from
WITHOUT_CURVE = frozenset({"stage", "step", "seconds"})

Points = dict[str, dict[str, list[tuple[int, float]]]]  # stage, term, (step, value)


@dataclass(frozen=True)
class RunMessage:
    """What a watcher said at one step, with its remedy."""

    stage: str
    step: int
    watcher: str
    text: str


@dataclass(frozen=True)
class RunProgress:
    """Where a run is.

    Attributes
    ----------
    stage : str
        Stage under way; empty before the first.
    step, steps : int
        Steps done and steps of the stage; 0 when unknown.
    steps_per_s : float or None
        Of the last logged steps.
    seconds_left : float or None
        Of this stage at that speed.
    """

    stage: str = ""
    step: int = 0
    steps: int = 0
    steps_per_s: float | None = None
    seconds_left: float | None = None

    @property
    def text(self) -> str:
        """One plain line."""
        if not self.stage:
            return "preparing the data"
        if not self.step:
            return f"stage {self.stage}"
        parts = [f"stage {self.stage}, step {self.step}" + (f" of {self.steps}" if self.steps else "")]
        if self.steps_per_s:
            parts.append(f"{self.steps_per_s:.3g} steps/s")
        if self.seconds_left:
            minutes = round(self.seconds_left / 60)
            parts.append(f"{minutes // 60} h {minutes % 60:02d} min left" if minutes else "less than a minute left")
        return ", ".join(parts)


@dataclass(frozen=True)
class RunNews:
    """What is new since the last poll, and how things stand.

    Attributes
    ----------
    is_anew : bool
        True when the numbers were rewound or replaced: forget those of earlier polls.
    points : dict
        New numbers by stage and term, ``{"denoiser": {"loss": [(step, value), ...]}}``.
    messages : tuple of RunMessage
        New ones.
    state : RunState
        Running, stopped, finished and so on, in one line.
    progress : RunProgress
        Stage, step, speed, time left.
    name : str
        Of the run's configuration; empty when unknown.
    checkpoint : Path or None
        Newest one that can be opened.
    pictures : dict
        Newest picture of each stage.
    volumes : tuple of VolumeFile
        All files of volumes that are there, by stage and step.
    """

    is_anew: bool
    points: Points
    messages: tuple[RunMessage, ...]
    state: RunState
    progress: RunProgress
    name: str = ""
    checkpoint: Path | None = None
    pictures: Mapping[str, Path] = field(default_factory=dict)
    volumes: tuple[VolumeFile, ...] = ()


class RunFollower:
    """Looks at a run folder again and again; each look tells what is new.

    Parameters
    ----------
    path : str or Path
        Run folder; it need not be there yet.
    """

    def __init__(self, path: str | Path) -> None:
        self.folder = RunFolder(Path(path), Path(path) / "cache")
        self._tail = Tail(self.folder.metrics)
        self._last: tuple[str, int] = ("", 0)
        self._times: deque[tuple[int, float]] = deque(maxlen=SPEED_LINES)

    def poll(self) -> RunNews:
        """Look once; never raises for what the folder is like."""
        is_anew, points, messages = False, Points(), list[RunMessage]()
        try:
            if self.folder.path.is_dir():
                is_anew, lines = self._tail.read()
                if is_anew:
                    self._forget()
                for line in lines:
                    self._take(line, points, messages)
            config = _config(self.folder)
            files, pictures = list_volumes(self.folder.volumes), self._pictures()
            state = state_of(self.folder, config)
            progress = self._progress(config)
            checkpoint = next(
                (p for p in (self.folder.checkpoint, self.folder.autoencoder_checkpoint) if p.is_file()), None
            )
        except (OSError, RecursionError) as error:  # the second: JSON that no run writes
            reason = getattr(error, "strerror", None) or str(error)
            state = RunState("unreadable", f"{self.folder.path} cannot be read: {reason}; it is tried again")
            return RunNews(is_anew, points, tuple(messages), state, RunProgress())
        name = str(config.get("name", ""))
        return RunNews(is_anew, points, tuple(messages), state, progress, name, checkpoint, pictures, tuple(files))

    def _take(self, text: bytes, points: Points, messages: list[RunMessage]) -> None:
        """Sort one line of metrics.jsonl; what is not written by a run is skipped."""
        try:
            line = json.loads(text)
            stage, step = line["stage"], line["step"]
        except (ValueError, TypeError, KeyError, RecursionError):
            return
        if stage not in STAGES or not isinstance(step, int) or not 0 <= step < MOST_STEPS:
            return
        if "watcher" in line:
            messages.append(RunMessage(stage, step, str(line["watcher"]), str(line.get("message", ""))))
            return
        if "scores" in line:  # which average was kept: no curve
            return
        if stage != self._last[0]:
            self._times.clear()
        self._last = (stage, step)
        numbers = {term: number for term, value in line.items() if (number := _number(value)) is not None}
        if "seconds" in numbers:
            self._times.append((step, numbers["seconds"]))
        of_stage = points.setdefault(stage, {})
        for term, number in numbers.items():
            if term not in WITHOUT_CURVE:
                of_stage.setdefault(term, []).append((step, number))

    def _forget(self) -> None:
        self._last = ("", 0)
        self._times.clear()

    def _progress(self, config: Mapping[str, Any]) -> RunProgress:
        """Tell stage, step and speed from the lines so far and the results that are there."""
        stage, step = self._last
        settings = config.get(stage)
        steps = settings.get("steps", 0) if isinstance(settings, Mapping) else 0
        steps = steps if isinstance(steps, int) else 0
        if stage == "autoencoder" and steps and step >= steps:
            # The latents are encoded without a line in metrics.jsonl.
            return RunProgress("denoiser" if self.folder.result("latents").exists() else "latents")
        speed = None
        if len(self._times) > 1:
            (first, began), (last, now) = self._times[0], self._times[-1]
            speed = (last - first) / (now - began) if last > first and now > began else None
        left = max(0, steps - step) / speed if speed and steps else None
        return RunProgress(stage, step, steps, speed, left)

    def _pictures(self) -> dict[str, Path]:
        """Return the newest picture of each stage."""
        folder = self.folder.pictures
        names = sorted(path.name for path in folder.iterdir() if path.suffix == ".png") if folder.is_dir() else []
        return {stage: folder / name for name in names for stage in STAGES if name.startswith(f"{stage}-")}


@dataclass
class Trouble:
    """What a watcher keeps saying: from its first step to its last, in its latest words."""

    stage: str
    watcher: str
    first: int
    last: int
    text: str

    @property
    def line(self) -> str:
        """One plain line."""
        steps = f"step {self.first}" if self.first == self.last else f"steps {self.first} to {self.last}"
        return f"{self.stage}, {steps}: {self.watcher}: {self.text}"


class RunHistory:
    """All that was told of a run so far.

    Attributes
    ----------
    curves : dict
        Stage, term, list of (step, value).
    troubles : list of Trouble
        One of each watcher and stage, in the order of their first word.
    """

    def __init__(self) -> None:
        self.curves: Points = {}
        self.troubles: list[Trouble] = []

    def add(self, news: RunNews) -> bool:
        """Take in what is new; returns whether curves or troubles changed."""
        if news.is_anew:
            self.curves, self.troubles = {}, []
        for stage, terms in news.points.items():
            for term, points in terms.items():
                self.curves.setdefault(stage, {}).setdefault(term, []).extend(points)
        for message in news.messages:
            self._say(message)
        return bool(news.is_anew or news.points or news.messages)

    def _say(self, message: RunMessage) -> None:
        for trouble in self.troubles:
            if (trouble.stage, trouble.watcher) == (message.stage, message.watcher):
                trouble.last, trouble.text = message.step, message.text
                return
        self.troubles.append(Trouble(message.stage, message.watcher, message.step, message.step, message.text))


def _number(value: Any) -> float | None:
    """Return a number of metrics.jsonl; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _config(folder: RunFolder) -> Mapping[str, Any]:
    """Return the configuration as it lies there; empty when there is none or it is foreign."""
    try:
        content = read_json(folder.config)
    except VqldmError:
        return {}
    return content if isinstance(content, Mapping) else {}
