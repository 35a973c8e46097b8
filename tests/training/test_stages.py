"""What the stages hand to each other: cache, statistics, weights, numbers."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from napari_vqldm.card import read_header
from napari_vqldm.checkpoint import load_checkpoint
from napari_vqldm.coding import encode_block
from napari_vqldm.errors import ConfigError, TrainingError
from napari_vqldm.latent import LatentSpace
from napari_vqldm.models.autoencoder import Autoencoder
from napari_vqldm.models.condition import encode_condition
from napari_vqldm.training.averages import MovingAverage
from napari_vqldm.training.bank import VolumeBank
from napari_vqldm.training.config import StageConfig
from napari_vqldm.training.data import SimulatedSource
from napari_vqldm.training.draws import Key
from napari_vqldm.training.folder import keep_metrics, read_metrics
from napari_vqldm.training.gates import reconstruct_all
from napari_vqldm.training.loop import to_channels_last
from napari_vqldm.training.losses import AutoencoderTask
from napari_vqldm.training.lr_schedule import learning_rate
from napari_vqldm.training.resume import load_state, optimizer_tensors, restore_optimizer
from napari_vqldm.training.stages.latents import LatentCache
from napari_vqldm.training.stages.latents import _encode as encode_for_cache
from napari_vqldm.training.warm_start import warm_start

FAMILIES = ("ldm", "vq-ldm")


def cache_of(run: Path) -> LatentCache:
    """Latent cache of a finished tiny run."""
    return LatentCache(run / "cache/latents", 4)


@pytest.mark.parametrize("family", FAMILIES)
def test_statistics_cover_the_whole_cache(family: str, finished: dict[str, Path]) -> None:
    cache, model = cache_of(finished[family]), load_checkpoint(finished[family] / "checkpoint.safetensors")
    assert len(cache) == 12  # 6 volumes, 2 variants
    entries = [cache.entry("train", i) for i in range(len(cache))]
    if family == "vq-ldm":
        codebook = model.space.quantizer.codebook.numpy()
        raw = np.concatenate([codebook[e.astype(int)].reshape(-1, codebook.shape[1]) for e in entries])
        mean, scale = raw.mean(axis=0), raw.std(axis=0)
    else:
        mu = np.stack([e[0] for e in entries]).astype(np.float64)
        sigma = np.stack([e[1] for e in entries]).astype(np.float64)
        mean = mu.mean(axis=(0, 2, 3, 4))
        scale = np.sqrt(mu.var(axis=(0, 2, 3, 4)) + (sigma**2).mean(axis=(0, 2, 3, 4)))  # law of total variance
    np.testing.assert_allclose(model.space.mean, mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(model.space.scale, scale, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_cache_holds_what_the_stored_model_encodes(
    family: str, finished: dict[str, Path], bank_cache: Path
) -> None:
    """The weights of the checkpoint, read back, give the cached latents of a held-out volume: nothing was lost."""
    model = load_checkpoint(finished[family] / "checkpoint.safetensors")
    simulation = model.config.simulation
    assert simulation is not None
    bank = VolumeBank(next(bank_cache.glob("bank-*")), 6, 2)
    source = SimulatedSource(bank, "held_out", simulation, "clean")
    pair = source.finish(
        [source.crop(Key(0, "held_out", 0, 1), (8, 16, 16), 1, False, (1.0, 1.0))], torch.device("cpu")
    )
    latent = model.space.encode(pair.input)
    entry = cache_of(finished[family]).entry("held_out", 1)
    if family == "vq-ldm":
        np.testing.assert_array_equal(model.space.code_indices(latent)[0].numpy(), entry)
    else:
        raw = model.space.denormalize(latent)[0].numpy()
        np.testing.assert_allclose(raw, entry[0].astype(np.float32), rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_stage_2_the_gate_and_reconstruct_encode_in_one_way(
    family: str, tiny: SimpleNamespace, finished: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    space = load_checkpoint(finished[family] / "checkpoint.safetensors").space
    volume = torch.rand(1, 1, 8, 16, 16, generator=torch.Generator().manual_seed(0))
    run = SimpleNamespace(config=tiny.config(family, precision="bf16-mixed"), device=torch.device("cpu"))
    with torch.no_grad():
        coded = encode_block(space, volume).latent
        expected = space.decode(coded)[0, 0].numpy()
    cached = encode_for_cache(run, space.autoencoder, volume)  # type: ignore[arg-type]
    if family == "vq-ldm":
        np.testing.assert_array_equal(cached, space.code_indices(coded).numpy())
    else:
        np.testing.assert_allclose(cached[:, 0], space.denormalize(coded).numpy(), rtol=1e-3, atol=1e-4)  # float16
    np.testing.assert_allclose(reconstruct_all(space.autoencoder, [volume])[0], expected, rtol=1e-5, atol=1e-5)
    calls = []
    code = LatentSpace.code
    monkeypatch.setattr(LatentSpace, "code", lambda *a: calls.append(1) or code(*a))
    encode_block(space, volume)
    encode_for_cache(run, space.autoencoder, volume)  # type: ignore[arg-type]
    reconstruct_all(space.autoencoder, [volume])
    assert len(calls) == 3


def test_half_precision_in_stage_2_must_be_asked_for(finished: dict[str, Path], tiny: SimpleNamespace) -> None:
    autoencoder = load_checkpoint(finished["ldm"] / "checkpoint.safetensors").space.autoencoder
    volume = torch.rand(1, 1, 8, 16, 16, generator=torch.Generator().manual_seed(0))
    exact, half = (
        encode_for_cache(SimpleNamespace(config=config, device=torch.device("cpu")), autoencoder, volume)  # type: ignore[arg-type]
        for config in (tiny.config(precision="bf16-mixed"), tiny.config(latents__precision="bf16-mixed"))
    )
    assert not np.array_equal(exact, half)
    spread = exact[:, 1].astype(np.float32)  # of the posterior
    assert np.abs(exact[:, 0].astype(np.float32) - half[:, 0].astype(np.float32)).max() < 0.1 * spread.min()


def test_conditions_belong_to_the_volume_of_each_entry(finished: dict[str, Path], bank_cache: Path) -> None:
    cache, model = cache_of(finished["ldm"]), load_checkpoint(finished["ldm"] / "checkpoint.safetensors")
    bank = VolumeBank(next(bank_cache.glob("bank-*")), 6, 2)
    assert model.config.denoiser is not None and model.config.denoiser.condition is not None
    for entry in (0, 5, 11):
        expected = encode_condition(model.config.denoiser.condition, bank.parameters["train"][entry // 2]["condition"])
        np.testing.assert_array_equal(cache.condition("train", entry), expected.numpy())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_checkpoint_tells_its_story(family: str, finished: dict[str, Path]) -> None:
    header = read_header(finished[family] / "checkpoint.safetensors")
    assert header.training.steps == {"autoencoder": 7, "denoiser": 7}
    assert header.training.num_volumes == 6
    assert len(header.training.curve["autoencoder/loss"]) == 7
    assert header.training.curve["denoiser/held_out_loss"][-1][0] == 7
    assert header.card.name == "tiny" and "6 simulated volumes" in header.card.data
    stage_1 = read_header(finished[family] / "autoencoder.safetensors")
    assert stage_1.config.denoiser is None and stage_1.latent == header.latent
    for name in (
        "config.json",
        "run.json",
        "metrics.jsonl",
        "pictures/autoencoder-000007.png",
        "pictures/denoiser-000007.png",
    ):
        assert (finished[family] / name).stat().st_size > 0


def test_the_codebook_starts_from_encoder_vectors(finished: dict[str, Path]) -> None:
    lines = [
        x for x in read_metrics(finished["vq-ldm"] / "metrics.jsonl") if x["stage"] == "autoencoder" and "loss" in x
    ]
    assert ["codebook" in x for x in lines] == [False] * 2 + [True] * 5  # kmeans_after = 2
    state = load_state(finished["vq-ldm"] / "state/autoencoder.safetensors")
    assert state is not None and set(state.part("extra")) == {"steps_unused", "ema_count", "ema_sum"}


def test_a_vq_ldm_starts_from_an_ldm(finished: dict[str, Path], tiny: SimpleNamespace) -> None:
    network = Autoencoder(tiny.config("vq-ldm").model.autoencoder)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    result = warm_start(network, "autoencoder", str(finished["ldm"]))
    source = load_checkpoint(finished["ldm"] / "checkpoint.safetensors").space.autoencoder.state_dict()
    for name, tensor in network.state_dict().items():
        if name in result.used:
            assert torch.equal(tensor, source[name])
        elif name in result.cut:  # the rows of the posterior mean
            assert torch.equal(tensor, source[name][: len(tensor)])
        else:
            assert name.startswith("quantizer.") and torch.equal(tensor, before[name])
    assert len(result.cut) == 2 and result.left == ("quantizer.codebook",)
    assert "cut to fit" in str(result)


def test_a_run_can_start_from_a_checkpoint(
    tmp_path: Path, bank_cache: Path, finished: dict[str, Path], tiny: SimpleNamespace
) -> None:
    source = str(finished["ldm"] / "checkpoint.safetensors")
    config = tiny.config(autoencoder__init_from=source, autoencoder__learning_rate=1e-12, autoencoder__steps=2)
    tiny.run(config, tmp_path / "run", stages=["autoencoder"], cache=bank_cache)
    state, old = load_state(tmp_path / "run/state/autoencoder.safetensors"), load_checkpoint(Path(source))
    assert state is not None
    for name, tensor in old.space.autoencoder.state_dict().items():
        torch.testing.assert_close(state.part("average")[f"network.{name}"], tensor, rtol=0, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_autoencoder_can_be_taken_as_it_is(
    family: str, tmp_path: Path, bank_cache: Path, finished: dict[str, Path], tiny: SimpleNamespace
) -> None:
    source = finished[family]
    config = tiny.config(family, autoencoder__steps=0, autoencoder__init_from=str(source), denoiser__steps=2, seed=3)
    tiny.run(config, tmp_path / "run", stages=["autoencoder", "latents"], cache=bank_cache)
    checkpoint = tiny.run(config, tmp_path / "run", stages=["denoiser"], cache=bank_cache)
    old, new = load_checkpoint(source / "checkpoint.safetensors"), load_checkpoint(checkpoint)
    tiny.assert_same_bits(new.space.autoencoder.state_dict(), old.space.autoencoder.state_dict())
    assert not torch.equal(new.space.mean, old.space.mean)  # other volumes were encoded
    assert new.header.training.steps == {"autoencoder": 7, "denoiser": 2}
    assert new.header.training.minutes["autoencoder"] == old.header.training.minutes["autoencoder"]
    curves = {name for name in old.header.training.curve if name.startswith("autoencoder/")}
    assert curves and all(new.header.training.curve[name] == old.header.training.curve[name] for name in curves)
    with pytest.raises(ConfigError, match="name it in init_from"):
        tiny.config(autoencoder__steps=0)
    other = finished[next(f for f in FAMILIES if f != family)]
    misfit = tiny.config(family, autoencoder__steps=0, autoencoder__init_from=str(other))
    with pytest.raises(ConfigError, match=r"does not fit as it is \(encoder"):
        tiny.run(misfit, tmp_path / "misfit", cache=bank_cache)


@pytest.mark.parametrize(
    "source, words", [("nowhere", "does not exist"), ("folder", "neither a checkpoint nor a state")]
)
def test_a_wrong_start_is_refused(source: str, words: str, tmp_path: Path, tiny: SimpleNamespace) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match=words):
        warm_start(Autoencoder(tiny.config().model.autoencoder), "autoencoder", str(tmp_path / source))


def test_a_loss_that_is_no_number_stops_the_run(
    tmp_path: Path, bank_cache: Path, tiny: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = AutoencoderTask.forward

    def broken(self: AutoencoderTask, *args: object) -> dict[str, torch.Tensor]:
        out = forward(self, *args)  # type: ignore[arg-type]
        return {**out, "loss": out["loss"] * float("nan")}

    monkeypatch.setattr(AutoencoderTask, "forward", broken)
    with pytest.raises(TrainingError, match=r"no number at step 1.*learning_rate"):
        tiny.run(tiny.config(), tmp_path / "run", cache=bank_cache)


def test_other_weights_are_encoded_again(
    tmp_path: Path, bank_cache: Path, finished: dict[str, Path], tiny: SimpleNamespace
) -> None:
    shutil.copytree(finished["ldm"], tmp_path / "run")
    config = tiny.config(seed=1)
    tiny.run(config, tmp_path / "run", stages=["autoencoder"], fresh=True, cache=bank_cache)
    shutil.copytree(finished["ldm"] / "cache/latents", tmp_path / "run/cache/latents")  # latents of the old weights
    tiny.run(config, tmp_path / "run", stages=["latents"], cache=bank_cache)
    old, new = cache_of(finished["ldm"]), cache_of(tmp_path / "run")
    assert old.record["autoencoder"] != new.record["autoencoder"] and old.record["mean"] != new.record["mean"]
    assert not np.array_equal(old.entry("train", 0), new.entry("train", 0))


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_learning_rate_warms_up_and_ends_low(schedule: str) -> None:
    config = StageConfig(steps=100, learning_rate=1.0, warmup_steps=10, lr_schedule=schedule, final_lr_fraction=0.1)  # type: ignore[arg-type]
    rates = [learning_rate(config, step) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert max(rates) == pytest.approx(1.0) and rates[-1] == pytest.approx(0.1, abs=0.05)
    assert all(a >= b for a, b in pairwise(rates[10:]))
    if schedule == "constant":
        assert rates[50] == 1.0


def test_averaged_weights_follow_the_formula() -> None:
    layer = nn.Linear(1, 1, bias=False)
    average = MovingAverage(layer, 0.5)
    expected = None
    for n in range(6):
        value = float(n)
        with torch.no_grad():
            layer.weight.fill_(value)
        average.update_parameters(layer)
        decay = min(0.5, (1 + n) / (10 + n))
        expected = value if expected is None else decay * expected + (1 - decay) * value
        assert float(average.module.weight.detach()) == pytest.approx(expected)


def test_a_restored_optimizer_goes_on_bit_by_bit() -> None:
    def network() -> nn.Module:
        torch.manual_seed(0)
        module = nn.Sequential(nn.Conv3d(2, 3, 3), nn.Conv3d(3, 2, 3))
        to_channels_last(module)
        return module

    def step(module: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
        x = torch.randn(1, 2, 7, 7, 7, generator=torch.Generator().manual_seed(seed))
        module(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    whole, part = network(), network()
    optimizer_whole, optimizer_part = (torch.optim.AdamW(m.parameters(), lr=0.1) for m in (whole, part))
    for seed in range(3):
        step(whole, optimizer_whole, seed)
        step(part, optimizer_part, seed)
    fresh = network()
    fresh.load_state_dict(part.state_dict())
    optimizer_fresh = torch.optim.AdamW(fresh.parameters(), lr=0.1)
    saved = {name: tensor.clone().contiguous() for name, tensor in optimizer_tensors(optimizer_part, part).items()}
    restore_optimizer(optimizer_fresh, fresh, saved)
    for (_, a), (_, b) in zip(optimizer_part.state.items(), optimizer_fresh.state.items(), strict=True):
        assert a["exp_avg"].stride() == b["exp_avg"].stride()
    for seed in range(3, 6):
        step(whole, optimizer_whole, seed)
        step(fresh, optimizer_fresh, seed)
    for a, b in zip(whole.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(a, b)


def test_half_a_line_of_metrics_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(
        '{"stage": "denoiser", "step": 1}\n{"stage": "denoiser", "step": 2}\n{"stage": "den', encoding="utf-8"
    )
    assert [line["step"] for line in read_metrics(path)] == [1, 2]
    keep_metrics(path, lambda line: line["step"] <= 1)
    assert path.read_text(encoding="utf-8") == '{"stage": "denoiser", "step": 1}\n'
