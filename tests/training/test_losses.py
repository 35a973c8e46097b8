"""Terms of the autoencoder's loss: each weight matters, each formula is the one it claims to be."""

from __future__ import annotations

import builtins
from itertools import permutations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from monai.losses import PatchAdversarialLoss, PerceptualLoss
from safetensors.torch import save_file
from torch import Tensor

from napari_vqldm.config import QuantizerConfig
from napari_vqldm.errors import ConfigError
from napari_vqldm.models.build import make_autoencoder
from napari_vqldm.training.config import AutoencoderStage
from napari_vqldm.training.losses import AutoencoderTask, make_critics
from napari_vqldm.training.losses.adversarial import (
    AdversarialKind,
    adaptive_weight,
    discriminator_loss,
    feature_matching,
    generator_loss,
    strength,
)
from napari_vqldm.training.losses.perceptual import GradientPerceptual, make_perceptual

CROP = (4, 8, 8)
ALL_ON: dict[str, Any] = {
    "kl_weight": 0.1,
    "perceptual_weight": 0.1,
    "adversarial_weight": 0.1,
    "adversarial_ramp": 0,
    "feature_matching_weight": 0.1,
    "discriminator_channels": 4,
    "discriminator_layers": 2,
}
STAGE_WEIGHTS = [name for name in AutoencoderStage.model_fields if name.endswith("_weight")]
QUANTIZER_WEIGHTS = [name for name in QuantizerConfig.model_fields if name.endswith("_weight")]


def same(tensor: Tensor) -> Tensor:
    """Mean over one process."""
    return tensor


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def task_and_terms(tiny: SimpleNamespace, family: str, **changes: Any) -> tuple[AutoencoderTask, dict[str, Tensor]]:
    """One forward pass of a new network with every term on; names of the quantizer start with "quantizer__"."""
    stage = {f"autoencoder__{k}": v for k, v in (ALL_ON | changes).items() if not k.startswith("quantizer__")}
    model = {f"model__autoencoder__{k}": v for k, v in changes.items() if k.startswith("quantizer__")}
    config = tiny.config(family, **stage, **model)
    torch.manual_seed(0)
    task = AutoencoderTask(make_autoencoder(config.model.autoencoder), config.autoencoder)
    critics = make_critics(config.autoencoder, CROP, 0, torch.device("cpu"), same)
    volumes, target = draw(2, 1, *CROP), draw(2, 1, *CROP, seed=1)
    latent = task.network.encode(volumes).mean.shape
    return task, task(volumes, target, draw(*latent, seed=2), 1.0, True, critics, 0)


def gradients(tiny: SimpleNamespace, family: str, **changes: Any) -> dict[str, Tensor]:
    """Gradients of the loss by parameter."""
    task, terms = task_and_terms(tiny, family, **changes)
    terms["loss"].backward()
    return {name: p.grad for name, p in task.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", [*STAGE_WEIGHTS, *(f"quantizer__{name}" for name in QUANTIZER_WEIGHTS)])
def test_each_weight_changes_the_gradients(name: str, tiny: SimpleNamespace) -> None:
    family = "vq-ldm" if name.startswith("quantizer__") else "ldm"
    without, with_it = (gradients(tiny, family, **{name: value}) for value in (0.0, 1.0))
    assert any(not torch.equal(without[p], with_it[p]) for p in with_it), name


@pytest.mark.parametrize("family, own", [("ldm", {"kl"}), ("vq-ldm", {"codebook", "commitment"})])
def test_the_loss_is_the_weighted_sum_of_its_terms(family: str, own: set[str], tiny: SimpleNamespace) -> None:
    task, terms = task_and_terms(tiny, family, adversarial_ramp=4, adaptive_weight=True)
    config = task.config
    weights: dict[str, Any] = {
        "l1": config.l1_weight,
        "mse": config.mse_weight,
        "kl": config.kl_weight,
        "codebook": 1.0,
        "commitment": 0.25,
        "perceptual": config.perceptual_weight,
        "adversarial": 0.25 * config.adversarial_weight * terms["adversarial_weight"],  # first of four steps
        "feature_matching": 0.25 * config.feature_matching_weight,
    }
    parts = {name: weight * terms[name] for name, weight in weights.items() if name in terms}
    assert parts.keys() == {"l1", "mse", "perceptual", "adversarial", "feature_matching"} | own
    assert all(part != 0 for part in parts.values())
    torch.testing.assert_close(terms["loss"], torch.stack(list(parts.values())).sum())


def test_statistics_of_the_latent(tiny: SimpleNamespace) -> None:
    _, terms = task_and_terms(tiny, "ldm")
    assert terms["kl_channels"].shape == (2,) and not terms["kl_channels"].requires_grad
    torch.testing.assert_close(terms["kl_channels"].mean(), terms["kl"].detach())
    torch.testing.assert_close(terms["latent_std"], terms["latent"].std(correction=0))
    assert "kl_channels" not in task_and_terms(tiny, "vq-ldm")[1]


@pytest.mark.parametrize("family", ["ldm", "vq-ldm"])
def test_double_precision_stays_double(family: str, tiny: SimpleNamespace) -> None:
    config = tiny.config(family, **{f"autoencoder__{k}": v for k, v in ALL_ON.items()})
    task = AutoencoderTask(make_autoencoder(config.model.autoencoder), config.autoencoder).double()
    critics = make_critics(config.autoencoder, CROP, 0, torch.device("cpu"), same)
    volumes = draw(2, 1, *CROP).double()
    terms = task(volumes, -volumes, None, 1.0, True, critics, 0)
    assert {n: t.dtype for n, t in terms.items() if n != "code_indices"} == {
        n: torch.float64 for n in terms if n != "code_indices"
    }


# ------------------------------------------------------------------------------------------------ adversarial


def test_losses_by_hand() -> None:
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 1.0])
    assert generator_loss(fake, "least_squares") == (16.0 + 0.0) / 2
    assert generator_loss(fake, "hinge") == 1.0
    assert discriminator_loss(real, fake, "least_squares") == 0.5 * ((1.0 + 0.25) / 2 + (9.0 + 1.0) / 2)
    assert discriminator_loss(real, fake, "hinge") == 0.5 * ((0.0 + 0.5) / 2 + (0.0 + 2.0) / 2)


def of_monai(loss: PatchAdversarialLoss, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Loss of the discriminator and of the generator."""
    parts = [loss(logits, logits is real, for_discriminator=True) for logits in (real, fake)]
    generator = loss(fake, True, for_discriminator=False)
    assert isinstance(generator, Tensor)
    return 0.5 * (parts[0] + parts[1]), generator


def test_least_squares_equals_monai_without_activation() -> None:
    real, fake = draw(2, 1, 2, 3, 3), draw(2, 1, 2, 3, 3, seed=1)
    plain = of_monai(PatchAdversarialLoss(criterion="least_squares", no_activation_leastsq=True), real, fake)
    ours = discriminator_loss(real, fake, "least_squares"), generator_loss(fake, "least_squares")
    torch.testing.assert_close(ours, plain)


@pytest.mark.parametrize("kind", ["least_squares", "hinge"])
def test_the_activation_is_all_that_differs_from_monai(kind: AdversarialKind) -> None:
    real, fake = 2 * draw(2, 1, 2, 3, 3), 2 * draw(2, 1, 2, 3, 3, seed=1)
    discriminator, generator = of_monai(PatchAdversarialLoss(criterion=kind), real, fake)
    activated = [torch.tanh(x) if kind == "hinge" else F.leaky_relu(x, 0.05) for x in (real, fake)]
    torch.testing.assert_close(discriminator_loss(activated[0], activated[1], kind), discriminator)
    # MONAI's hinge for the generator is 1 - D wherever D < 1, and so behind a tanh everywhere: ours plus a constant.
    shift = 1.0 if kind == "hinge" else 0.0
    torch.testing.assert_close(generator_loss(activated[1], kind) + shift, generator)
    assert not torch.isclose(discriminator_loss(real, fake, kind), discriminator, rtol=1e-2)


def test_feature_matching_is_a_mean_of_l1_toward_constants() -> None:
    fake, real = (
        [draw(1, 2, 3, 3, 3, seed=s).requires_grad_(), draw(1, 4, 2, 2, 2, seed=s + 1).requires_grad_()] for s in (0, 5)
    )
    loss = feature_matching(fake, real)
    expected = sum((f - r).abs().mean() for f, r in zip(fake, real, strict=True)) / 2
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert all(f.grad is not None and f.grad.abs().sum() > 0 for f in fake) and all(r.grad is None for r in real)


@pytest.mark.parametrize("scale, expected", [(4.0, 0.5), (1e-9, 10.0), (0.0, 10.0), (1e9, 0.0)])
def test_the_adaptive_weight_is_the_ratio_of_gradients_within_bounds(scale: float, expected: float) -> None:
    last = torch.tensor([[1.0, 2.0]], requires_grad=True)
    fidelity = (last * torch.tensor([[0.0, 2.0]])).sum()
    weight = adaptive_weight(fidelity, scale * last[0, 0], last, 10.0, same)
    assert float(weight) == pytest.approx(expected, abs=1e-6) and not weight.requires_grad
    assert last.grad is None
    fidelity.backward()  # the graph is still there


def test_the_adaptive_weight_averages_gradients_not_norms() -> None:
    last = torch.tensor([1.0, 1.0], requires_grad=True)
    other = torch.tensor([[0.0, -3.0], [0.0, 1.0]])  # gradients of a second process

    weight = adaptive_weight(3 * last[0], last[1] * 1.0, last, 100.0, lambda g: (g + other) / 2)
    assert float(weight) == pytest.approx(((9 + 9) ** 0.5 / 2) / 1.0, rel=1e-5)


def test_the_discriminator_comes_in_linearly() -> None:
    assert [strength(step, 3, 4) for step in range(9)] == [0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1]
    assert [strength(step, 1, 0) for step in range(3)] == [0, 1, 1]


# ------------------------------------------------------------------------------------------------- perceptual


def test_edges_of_a_ramp_by_hand() -> None:
    """Error x along the last axis: first difference 1 there, 0 elsewhere; second differences 0; pooled: 2."""
    ramp = torch.arange(8.0).expand(1, 1, 8, 8, 8)
    assert GradientPerceptual(1)(ramp, 0 * ramp) == pytest.approx(1 / 3)
    assert GradientPerceptual(2)(ramp, 0 * ramp) == pytest.approx((1 / 3 + 2 / 3) / 2)
    square = ramp.square()  # first differences 1, 3, .., 13, second ones 2
    assert GradientPerceptual(1)(square, 0 * ramp) == pytest.approx((7 + 2) / 3)


def test_edges_see_blur_and_no_offset_and_treat_axes_alike() -> None:
    target = (draw(1, 1, 8, 8, 8) > 1).float()
    blurred = F.avg_pool3d(target, 3, stride=1, padding=1)
    loss = GradientPerceptual(3)
    assert loss(target, target) == 0
    assert loss(target + 0.5, target) < 1e-6 < loss(blurred, target)
    for order in permutations((2, 3, 4)):
        turned = loss(blurred.permute(0, 1, *order), target.permute(0, 1, *order))
        torch.testing.assert_close(turned, loss(blurred, target))


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 16, 16), (3, 5, 7)])
def test_thin_axes_are_kept(shape: tuple[int, int, int]) -> None:
    reconstruction = draw(2, 1, *shape).requires_grad_()
    loss = GradientPerceptual(5)(reconstruction, torch.zeros(2, 1, *shape))
    loss.backward()
    assert reconstruction.grad is not None and reconstruction.grad.isfinite().all()
    assert loss > 0


def test_more_scales_see_coarser_errors() -> None:
    coarse = F.interpolate(draw(1, 1, 4, 4, 4), scale_factor=4, mode="trilinear")
    fine = draw(1, 1, 16, 16, 16, seed=1)
    one, three = GradientPerceptual(1), GradientPerceptual(3)
    share = [three(x, 0 * x) / one(x, 0 * x) for x in (coarse, fine)]
    assert share[0] > 1 > share[1]


def test_the_resnet_needs_a_file_and_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stage(path: Path | None, weight: float = 1.0) -> AutoencoderStage:
        return AutoencoderStage(
            perceptual="monai", perceptual_weight=weight, perceptual_weights=None if path is None else str(path)
        )

    assert make_perceptual(stage(None, 0.0)) is None
    for path in (None, tmp_path / "missing.safetensors"):
        with pytest.raises(ConfigError, match=r"expected a \.safetensors file"):
            make_perceptual(stage(path))
    save_file({"a": torch.zeros(1)}, tmp_path / "some.safetensors")
    real_import = builtins.__import__

    def without_torchvision(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "torchvision":
            raise ImportError("No module named 'torchvision'")
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_torchvision)
    with pytest.raises(ConfigError, match="needs torchvision"):
        make_perceptual(stage(tmp_path / "some.safetensors"))


def test_the_resnet_equals_monai_and_draws_nothing(tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    torch.manual_seed(1)
    reference = PerceptualLoss(3, network_type="resnet50", is_fake_3d=True, pretrained=False, fake_3d_ratio=1.0)
    network = reference.perceptual_function.get_submodule("model")
    path = tmp_path / "resnet50.safetensors"
    weights = {k: v.contiguous() for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    save_file({**weights, "fc.bias": torch.zeros(1000)}, path)
    state = torch.random.get_rng_state()
    config = AutoencoderStage(perceptual="monai", perceptual_weight=1.0, perceptual_weights=str(path))
    loss = make_perceptual(config)
    assert loss is not None and not any(p.requires_grad for p in loss.parameters())
    reconstruction, target = torch.rand(1, 1, 3, 16, 16).requires_grad_(), torch.rand(1, 1, 3, 16, 16)
    torch.random.set_rng_state(state)
    found = loss.train()(reconstruction, target)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.testing.assert_close(found, reference(reconstruction, target))
    found.backward()
    assert reconstruction.grad is not None and reconstruction.grad.abs().sum() > 0
    save_file({"conv1.weight": weights["conv1.weight"], "layer9.weight": torch.zeros(1)}, path)
    with pytest.raises(ConfigError, match="1 unknown names"):
        make_perceptual(config)
    path.write_bytes(b"\x80\x04pickle")
    with pytest.raises(ConfigError, match="expected a ResNet-50"):
        make_perceptual(config)
