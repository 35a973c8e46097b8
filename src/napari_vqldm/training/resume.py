"""State of a stage on disk: one safetensors file with JSON in its header, replaced in one step.

A run killed at any moment finds either the old or the new state, never a half one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from napari_vqldm.errors import TrainingError
from napari_vqldm.training.folder import replace_atomically

FORMAT = 1


@dataclass(frozen=True)
class StageState:
    """What a stage needs to go on: tensors by name, and a JSON record with at least ``step``."""

    tensors: dict[str, Tensor]
    record: dict[str, Any]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors below ``prefix.``, without it."""
        start = prefix + "."
        return {name[len(start) :]: tensor for name, tensor in self.tensors.items() if name.startswith(start)}


def save_state(path: Path, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Write a state; on return it has reached the disk."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps({"format": FORMAT, **record}, sort_keys=True)
    data = save(plain, metadata={"state": text})
    replace_atomically(path, lambda temporary: temporary.write_bytes(data))


def load_state(path: Path) -> StageState | None:
    """Read a state; None when there is none.

    Raises
    ------
    TrainingError
        If the file is not a state of this engine.
    """
    if not path.exists():
        return None
    with _opened(path) as (file, record):
        return StageState({name: file.get_tensor(name) for name in file.keys()}, record)  # noqa: SIM118 - not a mapping


def load_record(path: Path) -> dict[str, Any] | None:
    """Read the record of a state without its tensors; None when there is no state."""
    if not path.exists():
        return None
    with _opened(path) as (_, record):
        return record


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Open a state and read its record."""
    try:
        with safe_open(str(path), framework="pt") as file:
            record = json.loads((file.metadata() or {})["state"])
            if record.get("format") != FORMAT:
                raise TrainingError(
                    f"{path}: expected state format {FORMAT}, got {record.get('format')}: start again with --fresh"
                )
            yield file, record
    except (SafetensorError, OSError, KeyError, json.JSONDecodeError) as error:
        raise TrainingError(f"{path}: not a training state ({error}): start again with --fresh") from None


def optimizer_tensors(optimizer: torch.optim.Optimizer, module: nn.Module) -> dict[str, Tensor]:
    """Return the optimizer's memory as {"parameter name|quantity": tensor}."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in module.named_parameters()}
    return {
        f"{names[parameter]}|{quantity}": value
        for parameter, memory in optimizer.state.items()
        for quantity, value in memory.items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Give back what `optimizer_tensors` returned, in the memory layout of the parameters (rounding depends on it)."""
    parameters = dict(module.named_parameters())
    for key, value in tensors.items():
        name, quantity = key.rsplit("|", 1)
        parameter = parameters[name]
        if value.shape == parameter.shape:
            memory = torch.empty_like(parameter, dtype=value.dtype, memory_format=torch.preserve_format).copy_(value)
        else:  # the step counter
            memory = value.clone().to(parameter.device if optimizer.defaults.get("fused") else "cpu")
        optimizer.state[parameter][quantity] = memory


def restore_module(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors into a module, keeping the memory layout of its parameters."""
    module.load_state_dict(dict(tensors))
