"""Processes and samplers: conversions, known solutions, agreement with MONAI's schedulers."""

import pytest
import torch
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler

from napari_vqldm.config import DiffusionConfig
from napari_vqldm.diffusion import guided, make_process, run_sampler
from napari_vqldm.errors import ConfigError
from napari_vqldm.sampling import initial_noise

FLOW = make_process(DiffusionConfig())
EPSILON_CONFIG = DiffusionConfig(objective="epsilon", sampler="ddim")
EPSILON = make_process(EPSILON_CONFIG)


@pytest.mark.parametrize("process", [FLOW, EPSILON])
def test_clean_and_noise_are_recovered_from_the_target(process):
    generator = torch.Generator().manual_seed(0)
    x_0, eps = torch.randn(5, 2, 3, 3, 3, generator=generator), torch.randn(5, 2, 3, 3, 3, generator=generator)
    t = torch.tensor([0.001, 0.1, 0.5, 0.7, 0.9])
    x_t = process.noisy(x_0, eps, t)
    target = process.target(x_0, eps, t)
    assert torch.allclose(process.to_clean(x_t, target, t), x_0, atol=1e-4)
    assert torch.allclose(process.to_noise(x_t, target, t), eps, atol=1e-4)


def test_time_zero_is_data_and_one_is_noise_in_flow():
    x_0, eps = torch.randn(2, 1, 2, 2, 2), torch.randn(2, 1, 2, 2, 2)
    assert torch.equal(FLOW.noisy(x_0, eps, torch.zeros(2)), x_0)
    assert torch.equal(FLOW.noisy(x_0, eps, torch.ones(2)), eps)


@pytest.mark.parametrize("process", [FLOW, EPSILON, make_process(DiffusionConfig(time_sampling="uniform"))])
def test_training_times_are_in_range_and_seeded(process):
    draw = [process.sample_times(1000, torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(draw[0], draw[1])
    assert not torch.equal(draw[0], draw[2])
    assert draw[0].min() >= 0 and draw[0].max() <= 1
    assert abs(draw[0].mean() - 0.5) < 0.05


def test_a_time_shift_moves_training_times_and_steps_toward_the_noise_and_keeps_the_ends():
    plain, shifted = FLOW, make_process(DiffusionConfig(time_shift=4.0))
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    assert torch.equal(plain.shift(t), t)
    assert torch.allclose(shifted.shift(t)[[0, 5, 10]], torch.tensor([0.0, 0.8, 1.0], dtype=torch.float64))
    # on the logit axis the shift is an addition of log 4 (arXiv:2403.03206, Eq. 23)
    times = [process.sample_times(20_000, torch.Generator().manual_seed(0)) for process in (plain, shifted)]
    assert torch.allclose(times[1].logit() - times[0].logit(), torch.tensor(4.0).log(), atol=2e-3)
    noise = torch.zeros(1, 1, 2, 2, 2)
    visited = [step.t for step in run_sampler("euler", lambda x, t: x, shifted, noise, 10)]
    assert visited == pytest.approx(shifted.shift(t).flip(0)[1:].tolist())


@pytest.mark.parametrize(("sampler", "steps", "tolerance"), [("euler", 1000, 0.02), ("heun", 100, 0.005)])
def test_shifted_flow_samplers_carry_noise_to_the_same_gaussian(sampler, steps, tolerance):
    shifted = make_process(DiffusionConfig(time_shift=4.0))
    noise = torch.randn(4, 1, 16, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    *_, last = run_sampler(sampler, gaussian_velocity(3.0, 0.5), shifted, noise, steps)
    assert (last.latent - (3.0 + 0.5 * noise)).abs().max() < 0.5 * 5 * tolerance


def test_epsilon_refuses_a_time_shift():
    with pytest.raises(ValueError, match="time_shift"):
        DiffusionConfig(objective="epsilon", sampler="ddim", time_shift=2.0)


def gaussian_velocity(mean: float, sd: float):
    """Exact flow velocity when the data are N(mean, sd^2): E[eps - x_0 | x_t]."""

    def denoise(x_t, t):
        t = t.view(-1, 1, 1, 1, 1).to(x_t)
        variance = (1 - t) ** 2 * sd**2 + t**2
        residual = x_t - (1 - t) * mean
        return t / variance * residual - (mean + (1 - t) * sd**2 / variance * residual)

    return denoise


@pytest.mark.parametrize(("sampler", "steps", "tolerance"), [("euler", 400, 0.02), ("heun", 40, 0.005)])
def test_flow_samplers_carry_noise_to_a_gaussian(sampler, steps, tolerance):
    noise = torch.randn(4, 1, 16, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    *_, last = run_sampler(sampler, gaussian_velocity(3.0, 0.5), FLOW, noise, steps)
    # the probability flow of a Gaussian is affine: x_0 = mean + sd * noise
    assert (last.latent - (3.0 + 0.5 * noise)).abs().max() < 0.5 * 5 * tolerance
    assert last.index == last.total == steps
    assert last.t == 0.0


def test_the_stochastic_sampler_reaches_the_distribution_of_the_data():
    noise = torch.randn(8, 1, 16, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def draw(step):
        return torch.randn(noise.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(100 + step))

    for process in (FLOW, make_process(DiffusionConfig(time_shift=4.0))):
        *_, last = run_sampler("dpmpp_2m_sde", gaussian_velocity(3.0, 0.5), process, noise, 400, draw)
        assert last.latent.mean().item() == pytest.approx(3.0, abs=0.02)
        assert last.latent.std().item() == pytest.approx(0.5, rel=0.02)
        few = run_sampler("dpmpp_2m_sde", gaussian_velocity(3.0, 0.5), process, noise, 20, draw)
        assert [*few][-1].latent.std().item() == pytest.approx(0.5, rel=0.1)
        # fresh noise decides: little is left of the first one, and other draws lead elsewhere
        *_, other = run_sampler(
            "dpmpp_2m_sde", gaussian_velocity(3.0, 0.5), process, noise, 400, lambda i: draw(i + 7000)
        )
        for x in (noise, other.latent):
            pair = torch.stack([last.latent.flatten(), x.flatten()])
            assert abs(torch.corrcoef(pair)[0, 1].item()) < 0.2


def test_the_stochastic_sampler_walks_to_a_point_mass_and_needs_a_source_of_noise():
    noise = torch.randn(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))

    def to_seven(x_t, t):
        return (x_t - 7.0) / t.view(-1, 1, 1, 1, 1)

    def draw(step):
        return torch.randn(noise.shape, generator=torch.Generator().manual_seed(100 + step))

    *on_the_way, last = run_sampler("dpmpp_2m_sde", to_seven, FLOW, noise, 5, draw)
    assert (last.latent - 7.0).abs().max() < 1e-5
    for step in on_the_way:  # always on the path: 7 (1 - t) and noise of width t
        rest = (step.latent - 7.0 * (1 - step.t)) / step.t
        assert abs(rest.mean().item()) < 0.06 and rest.std().item() == pytest.approx(1.0, abs=0.05)
    with pytest.raises(ConfigError, match="pass draw"):
        next(run_sampler("dpmpp_2m_sde", to_seven, FLOW, noise, 5))


def test_heun_is_second_order():
    noise = torch.linspace(-2, 2, 27, dtype=torch.float64).view(1, 1, 3, 3, 3)
    exact = 3.0 + 0.5 * noise

    def error(steps):
        *_, last = run_sampler("heun", gaussian_velocity(3.0, 0.5), FLOW, noise, steps)
        return (last.latent - exact).abs().max().item()

    assert error(20) / error(40) > 2.5  # the last Euler step costs a little of the factor 4


@pytest.mark.parametrize(("sampler", "scheduler"), [("ddim", DDIMScheduler), ("ddpm", DDPMScheduler)])
def test_trajectories_equal_those_of_monai(sampler, scheduler, monkeypatch):
    steps = 1000  # with fewer, MONAI 1.6.1 steps off its own time grid
    torch.manual_seed(0)
    noise = torch.randn(2, 3, 4, 4, 4)
    weight = torch.randn(3, 3) * 0.3

    def network(x, t):
        mixed = torch.einsum("ij,bjdhw->bidhw", weight.to(x), x)
        return torch.tanh(mixed) * (0.5 + t.view(-1, 1, 1, 1, 1).to(x))

    draws = [torch.randn(noise.shape, generator=torch.Generator().manual_seed(i)) for i in range(steps)]
    monai = scheduler(
        num_train_timesteps=1000, schedule="scaled_linear_beta", beta_start=0.0015, beta_end=0.0195, clip_sample=False
    )
    monai.set_timesteps(steps)
    replay = iter(draws)
    monkeypatch.setattr(torch, "randn", lambda *a, **k: next(replay))
    x = noise
    for number in monai.timesteps:
        x, _ = monai.step(network(x, torch.full((2,), float(number) / 1000)), int(number), x)
    monkeypatch.undo()
    replay = iter(draws)
    *_, last = run_sampler(sampler, network, EPSILON, noise, steps, draw=lambda step: next(replay))
    assert (last.latent - x).abs().max() < 1e-4 * max(1.0, float(x.abs().max()))


def test_few_ddim_steps_solve_a_point_mass_exactly():
    # for data at one point the optimal prediction makes every DDIM step exact, whatever the grid
    point = torch.full((1, 1, 2, 2, 2), 1.7)
    noise = torch.randn(1, 1, 2, 2, 2)

    def optimal(x, t):
        abar = EPSILON.alpha_bar(t).view(-1, 1, 1, 1, 1).to(x)
        return (x - abar.sqrt() * point) / (1 - abar).sqrt()

    for steps in (1, 2, 7, 50):
        walked = list(run_sampler("ddim", optimal, EPSILON, noise, steps))
        assert torch.allclose(walked[-1].latent, point, atol=1e-3)
        assert [s.t for s in walked] == sorted((s.t for s in walked), reverse=True)


def test_guidance_of_one_is_the_condition_and_zero_is_without():
    x, t = torch.randn(1, 1, 2, 2, 2), torch.zeros(1)

    def conditional(x, t):
        return x + 1

    def unconditional(x, t):
        return x - 1

    assert torch.allclose(guided(conditional, unconditional, 1.0)(x, t), x + 1)
    assert torch.allclose(guided(conditional, unconditional, 0.0)(x, t), x - 1)
    assert torch.allclose(guided(conditional, unconditional, 3.0)(x, t), x + 5)


def test_noise_is_a_function_of_seed_and_index_alone():
    torch.manual_seed(5)
    a = initial_noise(3, 7, (2, 4, 4, 4))
    torch.manual_seed(6)
    assert torch.equal(a, initial_noise(3, 7, (2, 4, 4, 4)))
    others = [initial_noise(s, i, (2, 4, 4, 4)) for s, i in ((3, 8), (4, 7), (7, 3))]
    assert all((a - b).abs().max() > 0.1 for b in others)


def test_misfits_are_named():
    noise = torch.zeros(1, 1, 2, 2, 2)
    with pytest.raises(ConfigError, match="objective 'epsilon'"):
        next(run_sampler("ddim", lambda x, t: x, FLOW, noise, 3))
    with pytest.raises(ConfigError, match="unknown sampler"):
        run_sampler("rk4", lambda x, t: x, FLOW, noise, 3)
    with pytest.raises(ConfigError, match="1 to 1000 steps"):
        run_sampler("ddim", lambda x, t: x, EPSILON, noise, 1001)
