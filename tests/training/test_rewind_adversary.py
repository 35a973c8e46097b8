"""A discriminator that turns into no number is noticed like any loss, on every step, and never saved."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from napari_vqldm.errors import TrainingError
from napari_vqldm.training.folder import read_metrics
from napari_vqldm.training.losses.discriminator import Discriminator
from napari_vqldm.training.resume import load_state

ADVERSARY: dict[str, Any] = {
    "autoencoder__steps": 12,
    "autoencoder__save_every": 3,
    "autoencoder__crop": [8, 16, 16],
    "autoencoder__adversarial_weight": 0.5,
    "autoencoder__feature_matching_weight": 0.1,
    "autoencoder__discriminator_channels": 4,
    "autoencoder__discriminator_layers": 1,
}


def poison(monkeypatch: pytest.MonkeyPatch, at: int, times: int = 1) -> list[float]:
    """Let the ``at``-th discriminator step (and ``times`` in all) end in weights that are no numbers."""
    step, calls, rates = Discriminator.step, [0, times], list[float]()

    def poisoned(self: Discriminator, *args: Any, **options: Any) -> dict[str, Tensor]:
        calls[0] += 1
        numbers = step(self, *args, **options)
        rates.append(self.optimizer.param_groups[0]["lr"])
        if calls[0] >= at and calls[1]:
            calls[1] -= 1
            with torch.no_grad():
                for parameter in self.network.parameters():
                    parameter.fill_(float("nan"))
            numbers["discriminator_loss"] = torch.tensor(float("nan"))
        return numbers

    monkeypatch.setattr(Discriminator, "step", poisoned)
    return rates


@pytest.mark.parametrize("log_every", [1, 100], ids=["a step that is logged", "a step that is not"])
@pytest.mark.parametrize("at", [6, 7], ids=["when saving", "between saves"])
def test_the_run_goes_back_once_and_finishes(
    at: int, log_every: int, tmp_path: Path, bank_cache: Path, tiny: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = poison(monkeypatch, at)
    config = tiny.config(**ADVERSARY, autoencoder__log_every=log_every)
    tiny.run(config, tmp_path / "run", stages=["autoencoder"], cache=bank_cache)
    state = load_state(tmp_path / "run/state/autoencoder.safetensors")
    assert state is not None and state.record["step"] == 12
    assert all(tensor.isfinite().all() for tensor in state.tensors.values() if tensor.is_floating_point())
    (rewind,) = state.record["rewinds"]
    assert rewind["from"] == at and rewind["to"] == (3 if at == 6 else 6)
    assert set(rates[:at]) == {config.autoencoder.discriminator_learning_rate}
    assert set(rates[at:]) == {config.autoencoder.discriminator_learning_rate / 2}  # careful, too
    lines = read_metrics(tmp_path / "run/metrics.jsonl")
    assert [line["rewind"] for line in lines if line.get("watcher") == "not_a_number"] == [rewind]


def test_a_second_time_ends_the_run_and_says_so_in_the_metrics(
    tmp_path: Path, bank_cache: Path, tiny: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, 7, times=2)
    with pytest.raises(TrainingError, match="no number at step 7 again"):
        tiny.run(tiny.config(**ADVERSARY), tmp_path / "run", stages=["autoencoder"], cache=bank_cache)
    state = load_state(tmp_path / "run/state/autoencoder.safetensors")
    assert state is not None
    assert all(tensor.isfinite().all() for tensor in state.tensors.values() if tensor.is_floating_point())
    said = [x for x in read_metrics(tmp_path / "run/metrics.jsonl") if x.get("watcher") == "not_a_number"]
    assert len(said) == 2 and "again" in said[-1]["message"]
