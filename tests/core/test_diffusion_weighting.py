"""min-SNR weights: the same error of the clean latent whatever is predicted; and the loss of the denoiser."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor, nn

from napari_vqldm.config import DiffusionConfig
from napari_vqldm.diffusion import Process, make_process
from napari_vqldm.training.config import DenoiserStage
from napari_vqldm.training.losses import DenoiserTask

PROCESSES = {
    "flow": make_process(DiffusionConfig()),
    "epsilon": make_process(DiffusionConfig(objective="epsilon", sampler="ddim")),
    "v": make_process(DiffusionConfig(objective="v", sampler="ddim")),
}
TIMES = torch.tensor([0.001, 0.05, 0.2, 0.31, 0.5, 0.8, 0.99], dtype=torch.float64)


class Guess(nn.Module):
    """A denoiser that answers from a table."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor | None, drop: Tensor | None = None) -> Tensor:
        return self.answer


def draw(count: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(3, count, 2, 3, 3, 3, dtype=dtype, generator=torch.Generator().manual_seed(0))


def signal_to_noise(process: Process, t: Tensor) -> Tensor:
    """(alpha / sigma)^2 of each time, from the levels that the samplers walk on."""
    levels = torch.tensor([process.levels(float(value)) for value in t], dtype=torch.float64)
    return (levels[:, 0] / levels[:, 1]).square()


@pytest.mark.parametrize("gamma", [0.5, 5.0, 1e6])
@pytest.mark.parametrize("objective", PROCESSES)
def test_a_weighted_error_is_the_capped_error_of_the_clean_latent(objective: str, gamma: float) -> None:
    process = PROCESSES[objective]
    x_0, eps, prediction = draw(len(TIMES))
    x_t = process.noisy(x_0, eps, TIMES)
    error = (prediction - process.target(x_0, eps, TIMES)).square().flatten(1).mean(dim=1)
    clean_error = (process.to_clean(x_t, prediction, TIMES) - x_0).square().flatten(1).mean(dim=1)
    snr = signal_to_noise(process, TIMES)
    assert snr.min() < gamma
    torch.testing.assert_close(
        process.min_snr_weight(TIMES, gamma) * error, snr.clamp(max=gamma) * clean_error, rtol=1e-9, atol=0
    )


def test_the_weights_are_those_of_the_paper() -> None:
    snr = signal_to_noise(PROCESSES["v"], TIMES)
    capped = snr.clamp(max=5.0)
    torch.testing.assert_close(PROCESSES["epsilon"].min_snr_weight(TIMES, 5.0), capped / snr)
    torch.testing.assert_close(PROCESSES["v"].min_snr_weight(TIMES, 5.0), capped / (snr + 1))
    flow = ((1 - TIMES) / TIMES).square()
    torch.testing.assert_close(PROCESSES["flow"].min_snr_weight(TIMES, 5.0), flow.clamp(max=5.0) * TIMES.square())


@pytest.mark.parametrize("objective", PROCESSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_are_finite_at_both_ends(objective: str, dtype: torch.dtype) -> None:
    weight = PROCESSES[objective].min_snr_weight(torch.tensor([0.0, 1.0], dtype=dtype), 5.0)
    assert torch.isfinite(weight).all() and (weight >= 0).all()


@pytest.mark.parametrize("objective", PROCESSES)
def test_the_loss_without_a_weight_is_the_plain_mean(objective: str) -> None:
    process = PROCESSES[objective]
    x_0, eps, prediction = draw(len(TIMES), torch.float32)
    t = TIMES.float()
    expected = F.mse_loss(prediction, process.target(x_0, eps, t))
    for config in (DenoiserStage(), DenoiserStage(loss_weighting="none", min_snr_gamma=0.1)):
        loss = DenoiserTask(Guess(prediction), process, config)(x_0, eps, t, None, None)["loss"]  # type: ignore[arg-type]
        assert torch.equal(loss, expected)


@pytest.mark.parametrize("objective", PROCESSES)
def test_the_weighted_loss_is_the_mean_of_capped_clean_errors(objective: str) -> None:
    process = PROCESSES[objective]
    x_0, eps, prediction = draw(len(TIMES))
    task = DenoiserTask(Guess(prediction), process, DenoiserStage(loss_weighting="min_snr", min_snr_gamma=2.0))  # type: ignore[arg-type]
    loss = task(x_0, eps, TIMES, None, None)["loss"]
    clean = process.to_clean(process.noisy(x_0, eps, TIMES), prediction, TIMES)
    errors = (clean - x_0).square().flatten(1).mean(dim=1)
    assert loss.dtype == torch.float64
    torch.testing.assert_close(loss, (signal_to_noise(process, TIMES).clamp(max=2.0) * errors).mean())


@pytest.mark.parametrize("weighting", ["none", "min_snr"])
def test_a_half_precision_prediction_is_compared_in_single(weighting: str) -> None:
    process = PROCESSES["flow"]
    x_0, eps, prediction = draw(len(TIMES), torch.float32)
    config = DenoiserStage.model_validate({"loss_weighting": weighting})
    losses = [
        DenoiserTask(Guess(answer), process, config)(x_0, eps, TIMES.float(), None, None)["loss"]  # type: ignore[arg-type]
        for answer in (prediction.bfloat16(), prediction.bfloat16().float())
    ]
    assert losses[0].dtype == torch.float32 and torch.equal(*losses)


@pytest.mark.parametrize("values", [{"loss_weighting": "snr"}, {"min_snr_gamma": 0.0}, {"min_snr_gamma": -1.0}])
def test_impossible_weights_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        DenoiserStage.model_validate(values)
