"""Gates refuse what is no better than a trivial baseline; a collapse is noticed and explained."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from torch import Tensor

from napari_vqldm.card import read_header
from napari_vqldm.errors import TrainingError
from napari_vqldm.models.autoencoder import Autoencoder
from napari_vqldm.training.gates import Judged, enforce, gate_of, judge, watch_for_collapse


def judged(model: float, blank: float = 20.0, pooled: float = 25.0) -> Judged:
    """Numbers of an imaginary autoencoder."""
    rows = {"model": model, "noisy": float("inf"), "gaussian": 30.0, "pooled": pooled, "blank": blank}
    return Judged({name: (db, 0.5) for name, db in rows.items()}, (0.0, 0.5, 0.5))


@pytest.mark.parametrize(
    "gate, target, model, pooled, passed",
    [
        ("full", "clean", 25.0, 25.0, True),
        ("full", "clean", 24.99, 25.0, False),  # below pooled
        ("full", "clean", 23.0, 10.0, True),
        ("full", "clean", 22.99, 10.0, False),  # below blank + 3
        ("smoke", "clean", 22.0, 25.0, True),
        ("smoke", "clean", 21.99, 10.0, False),
        ("record", "clean", 24.99, 25.0, False),
        ("full", "input", 20.51, 25.0, True),
        ("full", "input", 20.5, 25.0, False),  # collapse: not above blank + 0.5
        ("smoke", "input", 20.5, 25.0, False),
        ("smoke", "input", 20.51, 25.0, True),
    ],
)
def test_gate(gate: str, target: str, model: float, pooled: float, passed: bool, tiny: SimpleNamespace) -> None:
    config = tiny.config(gate=gate, model__target=target)
    result, problem = gate_of(judged(model, pooled=pooled), config)
    assert result.passed is passed and result.kind == gate
    assert bool(problem) is not passed
    assert all(np.isfinite(value) for value in result.details.values())
    if passed:
        assert enforce(result, problem, config) == ""
    elif gate == "record":
        assert "recorded" in enforce(result, problem, config)
    else:
        with pytest.raises(TrainingError, match=r"dB\).*train longer"):
            enforce(result, problem, config)


def test_baselines_are_judged_with_the_model() -> None:
    rng = np.random.default_rng(0)
    clean = [rng.random((4, 16, 16)).astype(np.float32).cumsum(axis=2) for _ in range(2)]
    noisy = [c + rng.normal(0, 0.3, c.shape).astype(np.float32) for c in clean]
    result = judge(clean, noisy, clean, (2, 4, 4), (noisy, clean))
    assert result.psnr("model") == np.inf
    assert result.psnr("gaussian") >= result.psnr("noisy") > result.psnr("pooled") > result.psnr("blank")


@pytest.mark.parametrize("planted", ["constant", "faint"])
def test_a_planted_collapse_is_noticed(planted: str) -> None:
    rng = np.random.default_rng(0)
    targets = [rng.random((4, 16, 16)).astype(np.float32) for _ in range(3)]
    collapsed = [np.full_like(t, t.mean()) if planted == "constant" else 0.05 * t for t in targets]
    with pytest.raises(TrainingError, match=r"collapsed at step 7.*learning_rate"):
        watch_for_collapse(collapsed, targets, 7)
    assert watch_for_collapse(collapsed, targets, 7, patient=True)["held_out_contrast"] < 0.1
    good = [t + rng.normal(0, 0.05, t.shape) for t in targets]
    assert watch_for_collapse(good, targets, 7)["held_out_psnr_unit_range_db"] > 20


def plant_constant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every decoder return its mean: a network that has collapsed."""
    decode = Autoencoder.decode

    def constant(self: Autoencoder, latent: Tensor) -> Tensor:
        volumes = decode(self, latent)
        return 0.0 * volumes + volumes.mean()

    monkeypatch.setattr(Autoencoder, "decode", constant)


def test_a_run_stops_on_collapse(
    tmp_path: Path, bank_cache: Path, tiny: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant_constant(monkeypatch)
    config = tiny.config(autoencoder__collapse_grace=2)
    with pytest.raises(TrainingError, match="collapsed at step 4"):
        tiny.run(config, tmp_path / "run", cache=bank_cache)


def test_later_stages_refuse_a_failed_autoencoder(
    tmp_path: Path, bank_cache: Path, tiny: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant_constant(monkeypatch)
    config = tiny.config(gate="smoke", autoencoder__collapse_grace=100)
    assert tiny.run(config, tmp_path / "run", stages=["autoencoder"], cache=bank_cache) is None
    for stages in (["latents"], ["latents", "denoiser"], None):
        with pytest.raises(TrainingError, match="below blank"):
            tiny.run(config, tmp_path / "run", stages=stages, cache=bank_cache)
    assert not (tmp_path / "run/cache/latents").exists()
    assert not list((tmp_path / "run").glob("*.safetensors"))


def test_a_recorded_failure_is_written_into_the_checkpoint(finished: dict[str, Path]) -> None:
    card = read_header(finished["ldm"] / "checkpoint.safetensors").card
    assert card.gates["autoencoder"].kind == "record"
    assert not card.gates["autoencoder"].passed  # 7 steps teach nothing
    assert not card.fully_gated
    assert "psnr_unit_range_pooled_db" in card.gates["autoencoder"].details
