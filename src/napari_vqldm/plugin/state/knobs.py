"""How a field of a state is shown: label, help and range are written once, at the field. No Qt."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

_KEY = "knob"


@dataclasses.dataclass(frozen=True)
class Knob:
    """How one field of a state is shown.

    Attributes
    ----------
    label, tooltip : str
        In plain words.
    min, max, step : float or None
        Range and step of a number; None: free.
    choices : tuple
        Allowed values; empty for free values.
    unit : str
        Shown behind the number.
    nullable : str
        For fields that may be None: what None means, e.g. ``"model's default"``; empty for others.
    decimals : int or None
        Shown behind the point; by default as many as ``step`` has. More where ``min`` has more.
    start : float or None
        For numbers that may be None: what is shown first when the user wants one; by default the number in the range
        that is nearest to 0.
    """

    label: str
    tooltip: str
    min: float | None = None
    max: float | None = None
    step: float | None = None
    choices: tuple[Any, ...] = ()
    unit: str = ""
    nullable: str = ""
    decimals: int | None = None
    start: float | None = None


def knob(
    default: Any = dataclasses.MISSING,
    *,
    label: str,
    tooltip: str,
    min: float | None = None,
    max: float | None = None,
    step: float | None = None,
    choices: Sequence[Any] = (),
    unit: str = "",
    nullable: str = "",
    decimals: int | None = None,
    start: float | None = None,
    default_factory: Any = dataclasses.MISSING,
) -> Any:
    """Return a dataclass field that `make_form` can show; see `Knob` for the arguments."""
    shown = Knob(label, tooltip, min, max, step, tuple(choices), unit, nullable, decimals, start)
    if default_factory is not dataclasses.MISSING:
        return dataclasses.field(default_factory=default_factory, metadata={_KEY: shown})
    return dataclasses.field(default=default, metadata={_KEY: shown})


def knob_of(state: Any, name: str) -> Knob:
    """Return how a field of a state is shown.

    Raises
    ------
    KeyError
        If the state has no such field, or it was not made by `knob`.
    """
    fields = {field.name: field for field in dataclasses.fields(state)}
    return fields[name].metadata[_KEY]  # type: ignore[no-any-return]
