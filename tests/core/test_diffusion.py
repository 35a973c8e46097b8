"""Processes and samplers: conversions, training times, known solutions."""

import math

import pytest
import torch

from napari_vqldm.config import DiffusionConfig
from napari_vqldm.diffusion import guided, make_process, run_sampler
from napari_vqldm.errors import ConfigError
from napari_vqldm.sampling import initial_noise

FLOW = make_process(DiffusionConfig())
EPSILON_CONFIG = DiffusionConfig(objective="epsilon", sampler="ddim")
EPSILON = make_process(EPSILON_CONFIG)
VELOCITY = make_process(DiffusionConfig(objective="v", sampler="ddim"))


@pytest.mark.parametrize("process", [FLOW, EPSILON, VELOCITY])
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


def test_the_velocity_is_the_sample_turned_by_a_right_angle():
    generator = torch.Generator().manual_seed(0)
    x_0, eps = (torch.randn(5, 2, 3, 3, 3, dtype=torch.float64, generator=generator) for _ in range(2))
    t = torch.tensor([0.0, 0.1, 0.5, 0.7, 0.999], dtype=torch.float64)
    x_t, v = VELOCITY.noisy(x_0, eps, t), VELOCITY.target(x_0, eps, t)
    assert torch.equal(x_t, EPSILON.noisy(x_0, eps, t))  # the path is shared
    torch.testing.assert_close(x_t.square() + v.square(), x_0.square() + eps.square())
    angle = 1e-6  # on the circle from x_0 to eps, along which v is the derivative (arXiv:2202.00512, App. D)
    alpha, sigma = VELOCITY.levels(0.5)
    phi = math.atan2(sigma, alpha)
    ahead, behind = (math.cos(phi + a) * x_0 + math.sin(phi + a) * eps for a in (angle, -angle))
    torch.testing.assert_close(v[2], ((ahead - behind) / (2 * angle))[2], rtol=1e-6, atol=1e-6)


UNIFORM = [
    make_process(DiffusionConfig(time_sampling="uniform")),
    make_process(DiffusionConfig(objective="epsilon", sampler="ddim", time_sampling="uniform")),
    make_process(DiffusionConfig(objective="v", sampler="ddim", time_sampling="uniform")),
]


@pytest.mark.parametrize("process", [FLOW, EPSILON, VELOCITY, *UNIFORM])
def test_training_times_are_in_range_and_seeded(process):
    draw = [process.sample_times(1000, torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(draw[0], draw[1])
    assert not torch.equal(draw[0], draw[2])
    assert draw[0].min() >= 0 and draw[0].max() <= 1
    assert abs(draw[0].mean() - 0.5) < 0.05


@pytest.mark.parametrize("process", [FLOW, EPSILON, VELOCITY, *UNIFORM])
def test_training_times_follow_the_distribution_that_is_asked_for(process):
    times = process.sample_times(50_000, torch.Generator().manual_seed(0))
    # below 1/4 lies a quarter of the uniform times, and Phi(logit(1/4)) = 0.136 of the logit-normal ones
    expected = 0.25 if process.config.time_sampling == "uniform" else 0.136
    assert (times < 0.25).double().mean().item() == pytest.approx(expected, abs=0.01)
    assert (times >= 0.75).double().mean().item() == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("steps", [3, 20, 1000])
def test_logit_normal_times_of_discrete_steps_are_those_of_the_flow_rounded_down(steps):
    for objective in ("epsilon", "v"):
        process = make_process(DiffusionConfig(objective=objective, sampler="ddim", num_train_timesteps=steps, steps=1))
        numbers = process.step_number(process.sample_times(5000, torch.Generator().manual_seed(0)))
        flow = FLOW.sample_times(5000, torch.Generator().manual_seed(0))
        assert torch.equal(numbers, (flow * steps).floor().long())
        assert numbers.min() >= 0 and numbers.max() <= steps - 1
    edge = make_process(DiffusionConfig(objective="v", sampler="ddim", num_train_timesteps=1, steps=1))
    assert torch.equal(edge.sample_times(9, torch.Generator().manual_seed(0)), torch.zeros(9))


def test_larger_latents_take_times_nearer_to_the_noise():
    fixed = make_process(DiffusionConfig(time_shift=3.0))
    scaled = make_process(DiffusionConfig(time_shift=3.0, reference_cells=64))

    def drawn(process, *cells):
        return process.sample_times(1000, torch.Generator().manual_seed(0), *cells)

    for same in (drawn(fixed, 8), drawn(fixed, 64), drawn(scaled), drawn(scaled, 64)):
        assert torch.equal(same, drawn(fixed))
    # four times the cells is twice the shift; a ninth of them would be a shift of 1 and fewer still are no less
    assert torch.equal(drawn(scaled, 256), drawn(make_process(DiffusionConfig(time_shift=6.0))))
    plain = drawn(make_process(DiffusionConfig()))
    assert not torch.equal(drawn(scaled, 16), plain)
    for few in (7, 4, 1):
        assert torch.equal(drawn(scaled, few), plain)


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m", "dpmpp_2m_sde"])
def test_samplers_shift_their_times_by_the_cells_of_the_noise(sampler):
    scaled = make_process(DiffusionConfig(time_shift=3.0, reference_cells=64))
    for shape, shift in (((4, 4, 4), 3.0), ((8, 8, 4), 6.0), ((2, 2, 2), 3.0 / 8**0.5), ((1, 2, 2), 1.0)):
        noise = torch.zeros(2, 3, *shape)  # samples and channels do not count
        walk = run_sampler(sampler, lambda x, t: x, scaled, noise, 7, lambda i: torch.zeros(1))
        visited = [step.t for step in walk]
        even = torch.linspace(1, 0, 8, dtype=torch.float64)
        assert visited == pytest.approx((shift * even / (1 + (shift - 1) * even))[1:].tolist())


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


@pytest.mark.parametrize("objective", ["epsilon", "v"])
@pytest.mark.parametrize("key", ["time_shift", "reference_cells"])
def test_a_schedule_of_betas_refuses_a_time_shift(objective, key):
    with pytest.raises(ValueError, match=f"{key} is for objective 'flow'"):
        DiffusionConfig(objective=objective, sampler="ddim", **{key: 2})


def test_a_stored_configuration_without_the_newer_keys_is_what_it_was():
    stored = DiffusionConfig().model_dump()
    del stored["reference_cells"]
    assert DiffusionConfig.model_validate(stored) == DiffusionConfig()
    assert DiffusionConfig().reference_cells is None


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


@pytest.mark.slow
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
    with pytest.raises(ConfigError, match="objective 'flow'"):
        next(run_sampler("heun", lambda x, t: x, VELOCITY, noise, 3))
    with pytest.raises(ConfigError, match="unknown sampler"):
        run_sampler("rk4", lambda x, t: x, FLOW, noise, 3)
    with pytest.raises(ConfigError, match="1 to 1000 steps"):
        run_sampler("ddim", lambda x, t: x, EPSILON, noise, 1001)
    with pytest.raises(ConfigError, match="1 to 1000 steps"):
        run_sampler("dpmpp_2m", lambda x, t: x, VELOCITY, noise, 1001)
    with pytest.raises(ValueError, match="does not fit objective 'v'"):
        DiffusionConfig(objective="v", sampler="euler")
