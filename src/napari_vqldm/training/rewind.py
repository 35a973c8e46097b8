"""A way out of a loss that is no number: back to the last saved state, then on with a lower learning rate."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

CAREFUL_STEPS = 200  # beyond the step that failed
CAREFUL_RATE = 0.5


@dataclass(frozen=True)
class Rewind:
    """A training went back from step ``failed`` to step ``to``; up to step ``until`` it is careful."""

    failed: int
    to: int
    until: int

    @classmethod
    def after(cls, failed: int, to: int) -> Rewind:
        """Go back from ``failed`` to ``to``."""
        return cls(failed, to, failed + CAREFUL_STEPS)

    @classmethod
    def of(cls, record: dict[str, Any]) -> Rewind:
        """Read what `record` returned."""
        return cls(int(record["from"]), int(record["to"]), int(record["until"]))

    def record(self) -> dict[str, int]:
        """Return the steps for a state and for metrics.jsonl."""
        return {"from": self.failed, "to": self.to, "until": self.until}

    def note(self) -> dict[str, Any]:
        """Return the line of metrics.jsonl, of the form of a watcher's."""
        return {
            "step": self.to,
            "watcher": "not_a_number",
            "message": (
                f"the loss was no number at step {self.failed}, back to step {self.to}: half the learning rate until "
                f"step {self.until}; if it comes again, lower learning_rate or use precision = '32-true'"
            ),
            "value": float(self.failed),
            "rewind": self.record(),
        }

    @property
    def short(self) -> str:
        """Return what the progress line says while it is careful."""
        return f"! not_a_number: back from step {self.failed}, half the learning rate until {self.until}"

    def rate_factor(self, step: int) -> float:
        """Return the factor of the learning rate of ``step`` (steps done before it)."""
        return CAREFUL_RATE if self.to <= step < self.until else 1.0


@torch.no_grad()
def all_finite(modules: Iterable[nn.Module], others: Iterable[Tensor] = ()) -> bool:
    """Tell whether every weight, and every number of ``others``, is finite; waits for the device."""
    weights = [tensor for module in modules for tensor in module.state_dict().values()]
    tensors = [tensor for tensor in (*weights, *others) if tensor.is_floating_point()]
    return not tensors or bool(torch.stack([tensor.isfinite().all().to(tensors[0].device) for tensor in tensors]).all())
