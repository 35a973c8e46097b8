"""What a watcher is: it looks at numbers of a training, names a trouble with its remedy, and changes nothing."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

State = dict[str, Any]  # JSON-able


@dataclass(frozen=True)
class Trouble:
    """What a watcher found: ``message`` is "what: remedy", ``value`` the number that tells it."""

    watcher: str
    message: str
    value: float

    @property
    def short(self) -> str:
        """Text for the progress line, without the remedy."""
        return f"! {self.watcher}: {self.message.split(': ')[0]}"

    def note(self) -> dict[str, Any]:
        """Return the line of metrics.jsonl."""
        value = round(self.value, 8) if math.isfinite(self.value) else None
        return {"watcher": self.watcher, "message": self.message, "value": value}


class Watcher(Protocol):
    """One kind of trouble."""

    @property
    def name(self) -> str:
        """Name in metrics.jsonl."""
        ...

    def observe(self, step: int, terms: Mapping[str, Tensor]) -> None:
        """Take in the terms of a step (steps done, this one included); waits for no device."""
        ...

    def report(self, step: int, numbers: Mapping[str, float]) -> Trouble | None:
        """Return the trouble that is there now. ``numbers``: what is logged or checked at this step."""
        ...

    def state(self) -> State:
        """Return what a resumed run needs to go on watching."""
        ...

    def load(self, state: State) -> None:
        """Take back `state`."""
        ...


class Window:
    """Means of terms over the steps since the last `take`; tensors stay on their device until they are asked for."""

    def __init__(self) -> None:
        self.count = 0
        self._sums: dict[str, list[float]] = {}
        self._waiting: list[dict[str, Tensor]] = []

    def add(self, terms: Mapping[str, Tensor]) -> None:
        """Keep the terms of one step: numbers or vectors, always the same names."""
        self._waiting.append({name: tensor.detach() for name, tensor in terms.items()})
        self.count += 1

    def take(self) -> dict[str, list[float]]:
        """Return the mean of each entry, and begin anew."""
        self._fold()
        means = {name: [value / self.count for value in values] for name, values in self._sums.items()}
        self.load({"count": 0, "sums": {}})
        return means

    def state(self) -> State:
        """Return counts and sums."""
        self._fold()
        return {"count": self.count, "sums": {name: list(sums) for name, sums in self._sums.items()}}

    def load(self, state: State) -> None:
        """Take back `state`."""
        self.count = int(state["count"])
        self._sums = {str(name): [float(v) for v in values] for name, values in state["sums"].items()}
        self._waiting = []

    def _fold(self) -> None:
        """Add what waits to the sums, one step after the other, so that the moment of folding changes no digit."""
        for name in self._waiting[0] if self._waiting else ():
            rows = torch.stack([terms[name].flatten() for terms in self._waiting]).double().cpu().tolist()
            sums = self._sums.setdefault(name, [0.0] * len(rows[0]))
            for row in rows:
                for i, value in enumerate(row):
                    sums[i] += value
        self._waiting = []


class MeanWatcher(ABC):
    """Base of watchers that look at means of the terms in ``wanted``; ``memory`` is what they remember.

    Between two reports that judge something, the verdict stands.
    """

    name = ""
    wanted: tuple[str, ...] = ()

    def __init__(self, least: int = 1) -> None:
        self.least = least
        self.window = Window()
        self.memory: State = {}
        self.trouble: Trouble | None = None

    def observe(self, step: int, terms: Mapping[str, Tensor]) -> None:
        """Keep the wanted terms of a step that has all of them."""
        found = self.pick(step, terms)
        if len(found) == len(self.wanted):
            self.window.add(found)

    def pick(self, step: int, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the terms to average; none: the step does not count."""
        return {name: terms[name].detach().float().mean() for name in self.wanted if name in terms}

    @abstractmethod
    def report(self, step: int, numbers: Mapping[str, float]) -> Trouble | None:
        """Return the trouble that there is now; see `Watcher.report`."""

    def state(self) -> State:
        """Return window, memory and verdict."""
        return {"window": self.window.state(), "memory": dict(self.memory), "trouble": _as_record(self.trouble)}

    def load(self, state: State) -> None:
        """Take back `state`."""
        self.window.load(state["window"])
        self.memory = dict(state["memory"])
        self.trouble = Trouble(*state["trouble"]) if state["trouble"] else None


class WindowWatcher(MeanWatcher):
    """Base of watchers that judge whenever a window of at least ``least`` steps is full."""

    def report(self, step: int, numbers: Mapping[str, float]) -> Trouble | None:
        """Judge a full window."""
        if self.window.count >= self.least:
            self.trouble = self.judge(step, self.window.take())
        return self.trouble

    @abstractmethod
    def judge(self, step: int, means: dict[str, list[float]]) -> Trouble | None:
        """Return the trouble that the means of a window show."""


class Watch:
    """All watchers of a stage: who says what for the first time, and what is the matter now."""

    def __init__(self, watchers: Sequence[Watcher]) -> None:
        self.watchers = list(watchers)
        self.active: list[Trouble] = []

    def observe(self, step: int, terms: Mapping[str, Tensor]) -> None:
        """Show the terms of a step to all watchers."""
        for watcher in self.watchers:
            watcher.observe(step, terms)

    def report(self, step: int, numbers: Mapping[str, float]) -> tuple[list[Trouble], list[Trouble]]:
        """Return the troubles that are there now, and those among them that were not there at the last report."""
        before = {trouble.watcher for trouble in self.active}
        self.active = [t for t in (watcher.report(step, numbers) for watcher in self.watchers) if t is not None]
        return self.active, [trouble for trouble in self.active if trouble.watcher not in before]

    @property
    def text(self) -> str:
        """Text for the progress line; empty while all is well."""
        return "  ".join(trouble.short for trouble in self.active)

    def state(self) -> State:
        """Return the state of every watcher by name, and what was said."""
        return {
            "watchers": {watcher.name: watcher.state() for watcher in self.watchers},
            "active": [_as_record(trouble) for trouble in self.active],
        }

    def load(self, state: State) -> None:
        """Take back `state`; watchers that it does not know begin anew."""
        for watcher in self.watchers:
            if watcher.name in state["watchers"]:
                watcher.load(state["watchers"][watcher.name])
        self.active = [Trouble(*record) for record in state["active"]]


def _as_record(trouble: Trouble | None) -> list[Any] | None:
    """Return a trouble for JSON."""
    return None if trouble is None else [trouble.watcher, trouble.message, trouble.value]
