"""What a run says: progress bars on a terminal, plain lines elsewhere, metrics.jsonl and TensorBoard in the folder."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from napari_vqldm.config import Float3
from napari_vqldm.errors import FileError
from napari_vqldm.pictures import png_bytes
from napari_vqldm.training.folder import RunFolder, keep_metrics, read_metrics, replace_atomically
from napari_vqldm.training.volumes import save_volumes

PLAIN_LINE_EVERY_S = 15.0


class Bar:
    """Progress of one stage."""

    def __init__(self, console: Console, name: str, total: int, start: int, progress: Progress | None) -> None:
        self.console, self.name, self.total, self.start = console, name, total, start
        self.progress = progress
        self.task = progress.add_task(name, total=total, completed=start, text="") if progress is not None else None
        self.began = self.last_line = time.monotonic()
        self.finished = False
        self.text = ""

    def update(self, done: int, text: str = "") -> None:
        """Show that ``done`` of the total are finished; without ``text`` the last one stays."""
        self.text = text or self.text
        if self.progress is not None and self.task is not None:
            self.progress.update(self.task, completed=done, text=self.text)
            return
        now = time.monotonic()
        finished = done >= self.total and not self.finished
        if not finished and (now - self.last_line < PLAIN_LINE_EVERY_S or self.finished):
            return
        self.last_line, self.finished = now, done >= self.total
        seconds = (now - self.began) / max(1, done - self.start) * (self.total - done)
        left = f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02d}:{int(seconds) % 60:02d}"
        self.console.print(
            f"{self.name} {done}/{self.total}  {self.text}  ETA {left}", markup=False, highlight=False, soft_wrap=True
        )


class RunLog:
    """The only place that a run writes messages and numbers to. Inactive on all but the first process."""

    def __init__(self, folder: RunFolder, console: Console | None = None, active: bool = True) -> None:
        self.folder, self.active = folder, active
        self.console = Console(quiet=True) if not active else console or Console()
        self._board: Any = None

    def say(self, text: str) -> None:
        """Write one line for the user."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def bar(self, name: str, total: int, start: int = 0) -> Iterator[Bar]:
        """Show a bar while the block runs."""
        if not (self.active and self.console.is_terminal):
            yield Bar(self.console, name, total, start, None)
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
        )
        with Progress(*columns, console=self.console) as progress:
            yield Bar(self.console, name, total, start, progress)

    def forget_after(self, stage: str, step: int, notes: Sequence[Mapping[str, Any]] = ()) -> None:
        """Drop the metrics of a stage beyond ``step``, which are computed again; lines of ``notes`` are always there.

        A note has a key "rewind"; notes that are not among ``notes`` are dropped as well.
        """
        if not self.active:
            return
        wanted = [{"stage": stage, **note} for note in notes]
        known = [line for line in read_metrics(self.folder.metrics) if line in wanted]
        keep_metrics(
            self.folder.metrics,
            lambda line: line["stage"] != stage or line in wanted or (line["step"] <= step and "rewind" not in line),
        )
        for note in wanted:
            if note not in known:
                self._append(note)

    def write(self, stage: str, step: int, terms: Mapping[str, float], **extra: float) -> None:
        """Append one line to metrics.jsonl and to TensorBoard."""
        if not self.active:
            return
        self._append({"stage": stage, "step": step, **{k: round(v, 8) for k, v in {**terms, **extra}.items()}})
        board = self._tensorboard()
        if board is not None:
            for name, value in {**terms, **extra}.items():
                board.add_scalar(f"{stage}/{name}", value, step)

    def note(self, stage: str, step: int, content: Mapping[str, Any]) -> None:
        """Append one line that holds more than numbers to metrics.jsonl alone."""
        if self.active:
            self._append({"stage": stage, "step": step, **content})

    def picture(self, stage: str, step: int, image: npt.NDArray[np.uint8]) -> None:
        """Write pictures/STAGE-STEP.png."""
        if not self.active:
            return
        data = png_bytes(image)
        path = self.folder.pictures / f"{stage}-{step:06d}.png"
        replace_atomically(path, lambda temporary: temporary.write_bytes(data))

    def volumes(
        self, stage: str, step: int, groups: Mapping[str, Sequence[npt.NDArray[Any]]], voxel_size_um: Float3
    ) -> None:
        """Write volumes/STAGE-STEP.npz; see `napari_vqldm.training.volumes.save_volumes`."""
        if self.active:
            save_volumes(self.folder.volumes, stage, step, groups, voxel_size_um)

    def close(self) -> None:
        """Flush TensorBoard."""
        if self._board:
            self._board.close()

    def _append(self, line: Mapping[str, Any]) -> None:
        """Append a line to metrics.jsonl."""
        try:
            with self.folder.metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise FileError(f"{self.folder.metrics}: cannot write: {error.strerror}") from None

    def _tensorboard(self) -> Any:
        """Return the writer, made at first use; False when TensorBoard is not installed."""
        if self._board is None:
            self._board = False
            if importlib.util.find_spec("tensorboard") is not None:
                from torch.utils.tensorboard import SummaryWriter

                self._board = SummaryWriter(str(self.folder.path / "tensorboard"))
        return self._board or None
