"""What the command line shows: results on stdout, messages and progress on stderr, one JSON object with --json."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from napari_vqldm.memory import SmallerTiles, with_smaller_tiles

PLAIN_WIDTH = 160  # columns where the stream is no terminal: tables in log files are not squeezed


class Step(Protocol):
    """What every stepwise twin yields; ``index`` counts from 0."""

    @property
    def index(self) -> int:
        """Number of this step, from 0."""
        ...

    @property
    def total(self) -> int:
        """How many steps there are, as far as known."""
        ...


S = TypeVar("S", bound=Step)
T = TypeVar("T")


class Reporter:
    """Speaks to the user of one command."""

    def __init__(self, as_json: bool = False) -> None:
        self.as_json = as_json
        self.out = _console(stderr=False)
        self.err = _console(stderr=True)

    def note(self, text: str) -> None:
        """Say one line on stderr."""
        self.err.print(escape(text), highlight=False, soft_wrap=True)

    def line(self, text: str) -> None:
        """Print one line of the result on stdout; silent with --json."""
        if not self.as_json:
            self.out.print(escape(text), highlight=False, soft_wrap=True)

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Print a table on stdout; silent with --json. Numbers are right-aligned."""
        if self.as_json:
            return
        listed = [[_cell(value) for value in row] for row in rows]
        table = Table(
            title=escape(title) or None,
            title_justify="left",
            box=None,
            pad_edge=False,
            padding=(0, 2, 0, 0),
            show_header=any(columns),
        )
        for index, name in enumerate(columns):
            numeric = bool(listed) and all(_is_number(row[index]) for row in listed)
            table.add_column(escape(name), justify="right" if numeric else "left", overflow="fold")
        for row in listed:
            table.add_row(*(escape(cell) for cell in row))
        self.out.print(table)

    def result(self, values: dict[str, Any]) -> None:
        """Print the one JSON object of the command on stdout, with --json only."""
        if self.as_json:
            sys.stdout.write(to_json_text(values) + "\n")
            sys.stdout.flush()

    def track(self, steps: Iterable[S], doing: str) -> Iterator[S]:
        """Pass steps through while a progress bar with the time left runs on stderr (terminals only)."""
        with self._progress() as progress:
            task = progress.add_task(escape(doing), total=None)
            for step in steps:
                progress.update(task, total=step.total, completed=step.index + 1)
                yield step

    def track_tiles(self, make_steps: Callable[[int], Iterator[S]], max_voxels: int, doing: str) -> Iterator[S]:
        """Do the same for work in tiles; when memory runs out it starts again in smaller ones and says so on stderr."""

        def steps() -> Iterator[S]:
            for step in with_smaller_tiles(make_steps, max_voxels):
                if isinstance(step, SmallerTiles):
                    self.note(step.text)
                else:
                    yield step

        return self.track(steps(), doing)

    def each(self, items: Sequence[T], doing: str) -> Iterator[T]:
        """Pass items through while a progress bar runs on stderr; it advances when an item is done."""
        with self._progress() as progress:
            task = progress.add_task(escape(doing), total=len(items))
            for item in items:
                yield item
                progress.advance(task)

    def _progress(self) -> Progress:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        return Progress(*columns, console=self.err, transient=True, disable=not self.err.is_terminal)


def print_error(text: str) -> None:
    """Print one error line on stderr."""
    _console(stderr=True).print(
        f"[bold red]error:[/] {escape(' '.join(text.split()))}", highlight=False, soft_wrap=True
    )


def to_json_text(values: Any, indent: int | None = 2) -> str:
    """Serialize results: numpy numbers, arrays and paths become plain JSON, NaN and infinity become null."""
    return json.dumps(_plain(values), indent=indent, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):  # numpy array or number
        return _plain(value.tolist())
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None  # NaN compares false
    if value is None or isinstance(value, str | int | bool):
        return value
    return str(value) if isinstance(value, Path) else _plain(vars(value))


def _console(stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else PLAIN_WIDTH)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, tuple | list):
        return " ".join(_cell(item) for item in value)
    return str(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text == "-"
    return True
