"""Real trainings, broken on purpose: the right watcher speaks and names the key; a healthy training hears nothing."""

from __future__ import annotations

import importlib
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from napari_vqldm.training.bank import bank_for, build_bank
from napari_vqldm.training.config import TrainConfig
from napari_vqldm.training.data import SimulatedSource
from napari_vqldm.training.folder import RunFolder, read_metrics
from napari_vqldm.training.noise_ceiling import noise_ceiling_db
from napari_vqldm.training.progress import RunLog
from napari_vqldm.training.resume import load_state
from napari_vqldm.training.stages.autoencoder import AutoencoderTraining
from napari_vqldm.training.stages.denoiser import DenoiserTraining
from napari_vqldm.training.watchers import AdversarialInstability, PosteriorCollapse, ScaleDrift, watchers_for

with pytest.MonkeyPatch.context() as _patch:
    _patch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    campaign = importlib.import_module("broken_runs")
CASES = campaign.CASES
QUICK = ("kl-weight", "learning-rate", "bad-batch", "other-scale", "constant")


class Crash(Exception):
    """Stands for a process that dies."""


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
def test_the_right_watcher_speaks_and_no_other(name: str, tmp_path: Path, bank_cache: Path) -> None:
    case = CASES[name]
    assert campaign.complaints(case, campaign.run_case(case, tmp_path / "run", bank_cache)) == []


def test_every_watcher_has_a_broken_run() -> None:
    watched = {case.watcher for case in campaign.BROKEN.values()} - {""}
    assert watched == set(campaign.WATCHERS)
    in_use = {w.name for case in CASES.values() for stage in case.stages for w in watchers_for(stage, case.config())}
    assert in_use | {"not_a_number"} == watched
    assert not any(case.watcher or case.also or case.stops for case in campaign.HEALTHY.values())


@pytest.mark.parametrize(
    "reports, lines, error",
    [
        ([], [], ""),  # nobody speaks
        (["overfit"], ["autoencoder step 9: ! overfit: x: y"], ""),  # the wrong one
        (["scale_drift", "posterior_collapse"], [": ! posterior_collapse: kl_weight", ": ! scale_drift: y"], ""),
        (["posterior_collapse"], [": ! posterior_collapse: what: do better"], ""),  # no key
        (["posterior_collapse"], [], ""),  # nothing on the console
        (["posterior_collapse"], [": ! posterior_collapse: autoencoder.kl_weight"], "stopped"),
        (["posterior_collapse", "overfit"], [": ! posterior_collapse: autoencoder.kl_weight", ": ! overfit: x"], ""),
    ],
)
def test_a_campaign_complains(reports: list[str], lines: list[str], error: str) -> None:
    found = tuple(campaign.Report("autoencoder", 9, name) for name in reports)
    assert campaign.complaints(CASES["kl-weight"], campaign.Outcome(found, tuple(lines), error))
    if reports:
        assert campaign.complaints(CASES["ldm"], campaign.Outcome(found, tuple(lines), error))


def test_the_page_shows_the_results() -> None:
    rows = json.loads(campaign.RESULTS.read_text(encoding="utf-8"))["runs"]
    assert list(rows) == list(CASES)
    assert [name for name, row in rows.items() if row["complaints"]] == []
    assert campaign.section(rows) in campaign.PAGE.read_text(encoding="utf-8")


def source_of(config: TrainConfig, cache: Path, folder: Path, part: str = "train") -> SimulatedSource:
    """Simulated volumes of a configuration."""
    simulation = config.model.simulation
    assert simulation is not None and config.data.kind == "simulated"
    bank = bank_for(RunFolder(folder, cache), simulation, config.seed, config.data.num_volumes, config.data.held_out)
    for _ in build_bank(bank, simulation, config.seed, "cpu", lambda: None, 1):
        pass
    return SimulatedSource(bank, part, simulation, config.model.target)


def test_the_ceiling_is_the_variance_of_the_noise(tmp_path: Path, bank_cache: Path, tiny: SimpleNamespace) -> None:
    """Poisson noise of (x + b) p q electrons and read noise, in units of p q, at known photons and background."""
    photons, background = 20.0, 0.3
    ranges = {"model__simulation__photons": [photons] * 2, "model__simulation__background": [background] * 2}
    config = tiny.config("ldm", model__target="input", **ranges)
    source = source_of(config, bank_cache, tmp_path)
    found = noise_ceiling_db(source, config.seed, config.model.window, (2.0, 2.0))
    camera = source.config.camera
    electrons = photons * camera.quantum_efficiency
    clean = [source.bank.volume("train", i).mean(dtype=float) for i in range(len(source))]
    signal = float(np.mean(clean)) + background
    variance = camera.excess_noise**2 * signal / electrons + (camera.read_noise_e / electrons) ** 2
    assert found == pytest.approx(-10 * math.log10(2.0**2 * variance), abs=0.2)
    assert found == noise_ceiling_db(source, config.seed, config.model.window, (2.0, 2.0))


def test_a_clean_target_has_no_ceiling(tmp_path: Path, bank_cache: Path, tiny: SimpleNamespace) -> None:
    config = tiny.config("ldm")
    assert noise_ceiling_db(source_of(config, bank_cache, tmp_path), 0, config.model.window, (1.0, 1.0)) is None


def test_a_reconstruction_that_breaks_with_the_adversary_is_seen_at_once() -> None:
    """Compared with the last window before it; what was better still, before that, does not count."""
    for before, expected in ((0.1, True), (0.3, False)):
        watcher, found = AdversarialInstability(), []
        for step in range(1, 101):
            terms = {"l1": torch.tensor(0.05 if step <= 20 else before if step <= 40 else 0.3)}
            watcher.observe(step, terms if step <= 40 else terms | {"adversarial": torch.tensor(0.5)})
            if step % 20 == 0:
                found.append(watcher.report(step, {}) is not None)
        assert found == [False, False, expected, expected, expected]


def test_steps_without_codes_are_no_measure_for_later_ones() -> None:
    watcher = AdversarialInstability(after=40)
    for step in range(1, 101):
        terms = {"l1": torch.tensor(0.1 if step <= 40 else 0.3), "adversarial": torch.tensor(0.5)}
        watcher.observe(step, terms)
        assert watcher.report(step, {}) is None


def test_the_remedy_of_a_codebook_is_no_kl_weight(tiny: SimpleNamespace) -> None:
    for family, key in (("ldm", "autoencoder.kl_weight"), ("vq-ldm", "quantizer.commitment_weight")):
        watcher = next(w for w in watchers_for("autoencoder", tiny.config(family)) if isinstance(w, ScaleDrift))
        for step in range(1, 21):
            watcher.observe(step, {"latent_std": torch.tensor(100.0)})
        trouble = watcher.report(20, {})
        assert trouble is not None and key in trouble.message
        assert ("kl_weight" in trouble.message) == (family == "ldm")


@pytest.mark.slow
@pytest.mark.parametrize("stage, training", [("autoencoder", AutoencoderTraining), ("denoiser", DenoiserTraining)])
def test_a_seed_preset_resumes_after_a_rewind(
    stage: str,
    training: type,
    tmp_path: Path,
    bank_cache: Path,
    tiny: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Step 7 fails, the run goes back to 6, dies at 8 (adversary at work, nothing saved since) and is started again."""
    losses, left = training.losses, [7]  # type: ignore[attr-defined]

    def fail_once(self: Any, task: nn.Module, batch: Any, step: int) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = losses(self, task, batch, step)
        if left == [step]:
            left.clear()
            terms["loss"] = terms["loss"] * math.nan
        return terms

    config, folders = tiny.shrunk("seed-ldm"), [tmp_path / "whole", tmp_path / "resumed"]
    monkeypatch.setattr(training, "losses", fail_once)
    stages = ["autoencoder"] if stage == "autoencoder" else ["autoencoder", "latents", "denoiser"]
    tiny.run(config, folders[0], stages=stages, cache=bank_cache)
    left.append(7)
    with monkeypatch.context() as patch:
        write = RunLog.write

        def write_or_die(self: RunLog, name: str, step: int, *args: Any, **extra: Any) -> None:
            write(self, name, step, *args, **extra)
            if (name, step, left) == (stage, 8, []):
                raise Crash

        patch.setattr(RunLog, "write", write_or_die)
        with pytest.raises(Crash):
            tiny.run(config, folders[1], stages=stages, cache=bank_cache)
    tiny.run(config, folders[1], stages=stages, cache=bank_cache)
    one, two = (load_state(folder / f"state/{stage}.safetensors") for folder in folders)
    assert one is not None and two is not None
    assert one.record["rewinds"] == two.record["rewinds"] == [{"from": 8, "to": 6, "until": 208}]
    assert one.record["watch"] == two.record["watch"]
    tiny.assert_same_bits(one.tensors, two.tensors)
    notes = [[line for line in read_metrics(f / "metrics.jsonl") if "rewind" in line] for f in folders]
    assert notes[0] == notes[1] and len(notes[0]) == 1


def test_a_posterior_may_be_silent_while_the_encoder_starts(tiny: SimpleNamespace) -> None:
    """Without a KL warm-up too: a tenth of the training."""
    config = tiny.config("ldm", autoencoder__steps=400, autoencoder__kl_warmup_steps=0)
    watcher = next(w for w in watchers_for("autoencoder", config) if isinstance(w, PosteriorCollapse))
    found = []
    for step in range(1, 401):
        watcher.observe(step, {"kl_channels": torch.full((2,), 0.001 if step <= 40 else 0.5)})
        found.append(watcher.report(step, {}))
    assert found == [None] * 400
