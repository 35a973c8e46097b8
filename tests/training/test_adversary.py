"""The discriminator beside the autoencoder: its own state, its own step, and nothing of it in the averaged weights."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from napari_vqldm.errors import ConfigError, TrainingError
from napari_vqldm.training.config import AutoencoderStage
from napari_vqldm.training.data import Pair
from napari_vqldm.training.draws import Key
from napari_vqldm.training.folder import read_metrics
from napari_vqldm.training.losses.discriminator import Discriminator, check_crop, new_discriminator
from napari_vqldm.training.progress import RunLog
from napari_vqldm.training.resume import load_state
from napari_vqldm.training.stages.autoencoder import AutoencoderBatch, AutoencoderTraining

FAMILIES = ("ldm", "vq-ldm")
ALL_ON: dict[str, Any] = {
    "autoencoder__perceptual_weight": 0.1,
    "autoencoder__adversarial_weight": 0.1,
    "autoencoder__adversarial_start": 2,
    "autoencoder__adversarial_ramp": 2,
    "autoencoder__adaptive_weight": True,
    "autoencoder__feature_matching_weight": 0.1,
    "autoencoder__discriminator_channels": 4,
    "autoencoder__discriminator_layers": 2,
}
CROP = (4, 8, 8)


class Crash(Exception):
    """Stands for a process that dies between two steps."""


def small(**changes: Any) -> AutoencoderStage:
    """Settings of a small discriminator."""
    values = {"discriminator_channels": 4, "discriminator_layers": 2, "adversarial_weight": 1.0}
    return AutoencoderStage(**(values | changes))


def discriminator(seed: int = 0, **changes: Any) -> Discriminator:
    """A small discriminator on the CPU."""
    return Discriminator(small(**changes), seed, torch.device("cpu"), lambda tensor: tensor)


def pair_of(seed: int, shape: tuple[int, ...] = CROP) -> tuple[Tensor, Tensor]:
    """Two batches of volumes."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, 1, *shape, generator=generator), torch.rand(2, 1, *shape, generator=generator)


def step(opponent: Discriminator, seed: int) -> dict[str, Tensor]:
    """One step on a batch that depends on ``seed`` alone."""
    reconstruction, target = pair_of(seed)
    return opponent.step(reconstruction, target, lambda: torch.autocast("cpu", enabled=False))


@pytest.fixture(scope="module")
def fought(tmp_path_factory: pytest.TempPathFactory, bank_cache: Path, tiny: SimpleNamespace) -> dict[str, Path]:
    """Run folder of a tiny autoencoder with all terms on, of each family."""
    folders = {family: tmp_path_factory.mktemp("fought") / family for family in FAMILIES}
    for family, folder in folders.items():
        tiny.run(tiny.config(family, **ALL_ON), folder, stages=["autoencoder"], cache=bank_cache)
    return folders


def state_of(run: Path) -> dict[str, Tensor]:
    """Everything that is saved of the autoencoder stage."""
    state = load_state(run / "state/autoencoder.safetensors")
    assert state is not None
    return state.tensors


# ------------------------------------------------------------------------------------------ the network alone


@pytest.mark.parametrize("layers, crop", [(3, (8, 32, 32)), (3, (1, 16, 16)), (2, (4, 8, 8)), (1, (2, 4, 4))])
def test_thin_crops_pass_and_samples_do_not_mix(layers: int, crop: tuple[int, int, int]) -> None:
    config = small(discriminator_layers=layers)
    check_crop(config, crop)
    network = new_discriminator(config, 0)
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network.modules())
    assert sum(isinstance(m, nn.InstanceNorm3d) for m in network.modules()) == layers
    volumes, _ = pair_of(0, crop)
    logits = network(volumes)[-1]
    assert logits.shape == (2, 1, *(-(-n // 2**layers) for n in crop))
    torch.testing.assert_close(network(volumes[:1])[-1], logits[:1])
    assert logits.std() > 0


@pytest.mark.parametrize("crop", [(4, 8, 8), (8, 8, 16)])
def test_too_small_crops_are_refused(crop: tuple[int, int, int], tiny: SimpleNamespace) -> None:
    with pytest.raises(ConfigError, match="lower discriminator_layers or enlarge crop"):
        check_crop(small(discriminator_layers=3), crop)
    run = SimpleNamespace(config=tiny.config(**ALL_ON | {"autoencoder__discriminator_layers": 3}), device=None)
    with pytest.raises(ConfigError, match="at least 4 voxels"):
        AutoencoderTraining(run, None, None)  # type: ignore[arg-type]


def test_first_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    a = new_discriminator(small(), 5).state_dict()
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(4)
    b, c = (new_discriminator(small(), seed).state_dict() for seed in (5, 6))
    assert all(torch.equal(a[n], b[n]) for n in a) and not torch.equal(
        a["final_conv.conv.weight"], c["final_conv.conv.weight"]
    )


def test_gradients_pass_through_it_but_not_into_it() -> None:
    opponent = discriminator()
    volumes = pair_of(0)[0].requires_grad_()
    opponent.features(volumes)[-1].sum().backward()
    assert volumes.grad is not None and volumes.grad.abs().sum() > 0
    assert all(p.grad is None for p in opponent.network.parameters())
    step(opponent, 0)
    assert not any(p.requires_grad for p in opponent.network.parameters())


@pytest.mark.parametrize("kind", ["least_squares", "hinge"])
def test_it_learns_to_tell(kind: str) -> None:
    opponent = discriminator(adversarial=kind, discriminator_learning_rate=1e-2)
    reconstruction, target = torch.zeros(2, 1, *CROP), pair_of(0)[1]
    reconstruction[..., ::2] = 1.0
    for _ in range(30):
        said = opponent.step(reconstruction, target, lambda: torch.autocast("cpu", enabled=False))
    assert said["logits_real"] > said["logits_fake"] + 0.5


def test_its_gradients_are_averaged_and_clipped() -> None:
    """Averaging with a process that saw nothing halves them; a huge one is clipped to the configured norm."""
    whole, half = discriminator(), discriminator()
    half._mean_over_processes = lambda tensor: tensor / 2
    ratio = step(half, 0)["discriminator_gradient_norm"] / step(whole, 0)["discriminator_gradient_norm"]
    assert float(ratio) == pytest.approx(0.5)
    norms = []
    clipped = discriminator(gradient_clip=1e-3)
    clipped.optimizer.register_step_pre_hook(
        lambda optimizer, *_: norms.append(
            torch.stack([p.grad.norm() for g in optimizer.param_groups for p in g["params"]]).norm()
        )
    )
    step(clipped, 0)
    assert float(norms[0]) == pytest.approx(1e-3, rel=1e-2)


def test_a_restored_discriminator_goes_on_bit_by_bit() -> None:
    whole, part = discriminator(), discriminator()
    for seed in range(3):
        step(whole, seed)
        step(part, seed)
    saved = {name: tensor.clone().contiguous() for name, tensor in part.training_state().items()}
    fresh = discriminator(seed=9)
    fresh.load_training_state(saved)
    for seed in range(3, 6):
        step(whole, seed)
        step(fresh, seed)
    a, b = whole.training_state(), fresh.training_state()
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    fresh.load_training_state(discriminator().training_state())  # back to before the first step
    assert fresh.training_state().keys() == discriminator().training_state().keys()
    for wrong in ({}, discriminator(discriminator_channels=8).training_state()):
        with pytest.raises(TrainingError, match="no such discriminator"):
            fresh.load_training_state(wrong)


# ----------------------------------------------------------------------------------------------- in a training run


@pytest.mark.parametrize("family, own", [("ldm", {"kl"}), ("vq-ldm", {"codebook", "commitment"})])
def test_no_term_is_silently_zero(family: str, own: set[str], fought: dict[str, Path]) -> None:
    lines = [x for x in read_metrics(fought[family] / "metrics.jsonl") if "loss" in x]
    always = {"loss", "l1", "mse", "perceptual", "latent_std", "gradient_norm"}
    later = {
        *("adversarial", "feature_matching", "adversarial_weight", "discriminator_loss"),
        *("logits_real", "logits_fake", "discriminator_gradient_norm"),
    }
    assert len(lines) == 7
    for line in lines:
        expected = always | ((later | own) if line["step"] > 2 else set())  # adversarial_start = kmeans_after = 2
        assert expected <= line.keys() and (line["step"] > 2) == bool(later & line.keys())
        assert all(math.isfinite(line[name]) and line[name] != 0 for name in expected), line
        assert 0 <= line.get("adversarial_weight", 0) <= 100


@pytest.mark.parametrize("family", FAMILIES)
def test_it_changes_the_autoencoder_and_stays_out_of_its_weights(
    family: str, fought: dict[str, Path], finished: dict[str, Path]
) -> None:
    plain, with_it = state_of(finished[family]), state_of(fought[family])
    own = {name for name in with_it if name.startswith("extra.discriminator.")}
    assert with_it.keys() - own == plain.keys()
    assert {name.split(".")[2] for name in own} == {"network", "optimizer"}
    assert not torch.equal(with_it["model.network.decoder.0.weight"], plain["model.network.decoder.0.weight"])
    assert all(float(with_it[name]) == 5 for name in own if name.endswith("|step"))  # of seven, from the third on


@pytest.mark.parametrize("family", FAMILIES)
def test_a_resumed_run_ends_with_the_same_bits(
    family: str,
    tmp_path: Path,
    bank_cache: Path,
    fought: dict[str, Path],
    tiny: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, write = tiny.config(family, **ALL_ON), RunLog.write

    def write_or_die(self: RunLog, name: str, at: int, *args: object, **extra: float) -> None:
        write(self, name, at, *args, **extra)  # type: ignore[arg-type]
        if at == 5:
            raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(RunLog, "write", write_or_die)
        with pytest.raises(Crash):
            tiny.run(config, tmp_path / "run", stages=["autoencoder"], cache=bank_cache)
    assert float(state_of(tmp_path / "run")["extra.discriminator.optimizer.final_conv.conv.weight|step"]) == 2
    tiny.run(config, tmp_path / "run", stages=["autoencoder"], cache=bank_cache)
    tiny.assert_same_bits(state_of(tmp_path / "run"), state_of(fought[family]))


@pytest.mark.parametrize("is_made", [True, False])
def test_a_batch_is_cut_into_equal_parts(is_made: bool) -> None:
    keys = [Key(0, "autoencoder", 3, i) for i in range(6)]
    volumes = torch.arange(6.0).view(6, 1, 1, 1, 1)
    pair = Pair(volumes, -volumes, tuple(range(6))) if is_made else None
    batch = AutoencoderBatch(keys, list("abcdef"), pair, 2 * volumes if is_made else None)  # type: ignore[arg-type]
    split = AutoencoderTraining.split
    stage: Any = None
    assert split(stage, batch, 1) == [batch]
    parts = split(stage, batch, 3)
    assert ["".join(map(str, part.crops)) for part in parts] == ["ab", "cd", "ef"]
    assert [key for part in parts for key in part.keys] == keys
    for i, part in enumerate(parts):
        if not is_made:
            assert part == replace(batch, keys=part.keys, crops=part.crops)
            continue
        assert part.pair is not None and part.noise is not None
        assert part.pair.volumes == (2 * i, 2 * i + 1)
        assert torch.equal(part.pair.input, volumes[2 * i : 2 * i + 2]) and torch.equal(
            part.pair.target, -part.pair.input
        )
        assert torch.equal(part.noise, 2 * part.pair.input)
    with pytest.raises(ConfigError, match="a multiple of 4 parts, got 6"):
        split(stage, batch, 4)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("family", FAMILIES)
def test_two_processes_equal_one_with_twice_the_batch(
    family: str, tmp_path: Path, bank_cache: Path, fought: dict[str, Path], tiny: SimpleNamespace
) -> None:
    """Gradients of both networks, the adaptive weight and the start of the codebook are those of the whole batch."""
    values = tiny.values(family, **ALL_ON, devices=2, device="cpu", autoencoder__batch_size=1)
    toml, run = tiny.write_toml(tmp_path / "tiny.toml", values), tmp_path / "run"
    command = [sys.executable, "-m", "napari_vqldm.training", str(toml), "--out", str(run), "--cache", str(bank_cache)]
    subprocess.run([*command, "--stage", "autoencoder"], check=True)
    one, two = state_of(fought[family]), state_of(run)
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        if "|" not in name:
            torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=2e-5, msg=name)
    weights = [
        [x["adversarial_weight"] for x in read_metrics(folder / "metrics.jsonl") if "adversarial_weight" in x]
        for folder in (fought[family], run)
    ]
    assert weights[0] == pytest.approx(weights[1], rel=1e-3)
