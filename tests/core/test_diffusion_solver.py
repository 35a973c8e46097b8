"""Deterministic samplers on every process: known solutions, order of convergence."""

import pytest
import torch

from napari_vqldm.config import DiffusionConfig
from napari_vqldm.diffusion import make_process, run_sampler

FLOW = make_process(DiffusionConfig())
EPSILON = make_process(DiffusionConfig(objective="epsilon", sampler="ddim"))
VELOCITY = make_process(DiffusionConfig(objective="v", sampler="ddim"))


def gaussian(process, mean, sd):
    """Best prediction on the path of ``process`` when the data are N(mean, sd^2)."""

    def denoise(x_t, t):
        alpha, sigma = process.levels(float(t[0]))
        variance = alpha**2 * sd**2 + sigma**2
        clean = mean + alpha * sd**2 / variance * (x_t - alpha * mean)
        eps = sigma / variance * (x_t - alpha * mean)
        return process.target(clean, eps, t)  # linear in both, so that their means give its mean

    return denoise


def gaussian_end(process, noise, mean, sd):
    """Where the probability flow carries ``noise``: the same quantile of N(mean, sd^2)."""
    alpha, sigma = process.levels(process.sampling_times(1)[0])
    return mean + sd * (noise - alpha * mean) / (alpha**2 * sd**2 + sigma**2) ** 0.5


@pytest.mark.parametrize(
    ("objective", "first_order", "settings"),
    [
        ("flow", "euler", {}),
        ("flow", "euler", {"time_shift": 2.0}),
        ("epsilon", "ddim", {"beta_start": 1e-6}),  # nothing to lose between step 0 and the clean end
        ("v", "ddim", {"beta_start": 1e-6}),
        ("v", "ddim", {"beta_start": 1e-4, "beta_end": 0.02, "schedule": "linear_beta"}),
    ],
)
def test_two_steps_back_make_a_sampler_of_second_order(objective, first_order, settings):
    process = make_process(DiffusionConfig(objective=objective, sampler=first_order, **settings))
    noise = torch.linspace(-2, 2, 27, dtype=torch.float64).view(1, 1, 3, 3, 3)
    exact = gaussian_end(process, noise, 0.3, 1.5)

    def error(sampler, steps):
        *_, last = run_sampler(sampler, gaussian(process, 0.3, 1.5), process, noise, steps)
        assert last.t == 0.0
        torch.testing.assert_close(last.latent, last.clean_estimate)  # nothing is left of the noise
        return (last.latent - exact).abs().max().item()

    assert error("dpmpp_2m", 80) / error("dpmpp_2m", 160) > 3
    assert error("dpmpp_2m", 20) / error("dpmpp_2m", 160) > 3**3
    assert 1.5 < error(first_order, 80) / error(first_order, 160) < 2.5
    assert error("dpmpp_2m", 80) < 0.3 * error(first_order, 80)


def test_one_step_is_the_clean_estimate_at_full_noise():
    noise = torch.randn(1, 2, 2, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for process in (FLOW, EPSILON, VELOCITY):
        (only,) = run_sampler("dpmpp_2m", gaussian(process, 1.0, 0.5), process, noise, 1)
        t = torch.tensor(process.sampling_times(1)[:1])
        expected = process.to_clean(noise, gaussian(process, 1.0, 0.5)(noise, t), t)
        assert torch.equal(only.latent, expected)


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp_2m"])
def test_epsilon_and_v_are_two_names_of_one_walk(sampler):
    noise = torch.randn(2, 2, 3, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def nonlinear(process):
        def denoise(x_t, t):
            alpha, sigma = process.levels(float(t[0]))
            clean = torch.tanh(2 * x_t + 0.3) * 1.5
            return process.target(clean, (x_t - alpha * clean) / sigma, t)

        return denoise

    walks = [run_sampler(sampler, nonlinear(p), p, noise, 25) for p in (EPSILON, VELOCITY)]
    for a, b in zip(*walks, strict=True):
        torch.testing.assert_close(a.latent, b.latent, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(a.clean_estimate, b.clean_estimate, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("process", [FLOW, EPSILON, VELOCITY])
@pytest.mark.parametrize("sampler", ["ddim", "dpmpp_2m"])
def test_few_steps_solve_a_point_mass_exactly(sampler, process):
    # for data at one point the clean estimate is right from the start, whatever the grid
    if process is FLOW and sampler == "ddim":
        sampler = "euler"
    noise = torch.randn(1, 1, 2, 2, 2, generator=torch.Generator().manual_seed(0))
    for steps in (1, 2, 3, 7, 50):
        walked = list(run_sampler(sampler, gaussian(process, 1.7, 0.0), process, noise, steps))
        assert torch.allclose(walked[-1].latent, torch.full_like(noise, 1.7), atol=1e-3)
        assert [s.t for s in walked] == sorted((s.t for s in walked), reverse=True)
        for step in walked[:-1]:  # on the straight way from the noise to the point
            alpha, sigma = process.levels(step.t)
            start_alpha, start_sigma = process.levels(process.sampling_times(1)[0])
            expected = alpha * 1.7 + sigma * (noise - start_alpha * 1.7) / start_sigma
            assert torch.allclose(step.latent, expected, atol=1e-3)
