"""MONAI's DDPM and DDIM from equal noise: the same walk, and what is known to be wrong with theirs."""

import pytest
import torch
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler

from napari_vqldm.config import DiffusionConfig
from napari_vqldm.diffusion import make_process, run_sampler

BETAS = {"beta_start": 0.0015, "beta_end": 0.0195}
STEPS = 1000
NOISE = torch.randn(1, 2, 4, 4, 4, generator=torch.Generator().manual_seed(1))


def process_of(objective, schedule="scaled_linear_beta"):
    return make_process(DiffusionConfig(objective=objective, sampler="ddim", schedule=schedule, **BETAS))


def monai_of(kind, steps, objective="epsilon", schedule="scaled_linear_beta", **settings):
    scheduler = kind(
        num_train_timesteps=STEPS,
        schedule=schedule,
        prediction_type="epsilon" if objective == "epsilon" else "v_prediction",
        **{"clip_sample": False, **settings},
        **BETAS,
    )
    scheduler.set_timesteps(steps)
    return scheduler


def with_clean(process, clean_of):
    """Denoiser whose clean estimate is ``clean_of(x_t)``."""

    def denoise(x_t, t):
        alpha, sigma = process.levels(float(t[0]))
        clean = clean_of(x_t)
        return process.target(clean, (x_t - alpha * clean) / sigma, t)

    return denoise


def nonlinear(x_t):
    """A small fixed network that mixes channels and neighbors."""
    weight = torch.randn(2, 2, generator=torch.Generator().manual_seed(7)).to(x_t)
    return torch.tanh(torch.einsum("ij,bjdhw->bidhw", weight, x_t + 0.3 * x_t.roll(1, dims=-1)) + 0.2)


def gaussian(process, mean, sd):
    """Best prediction when the data are N(mean, sd^2)."""

    def denoise(x_t, t):
        alpha, sigma = process.levels(float(t[0]))
        variance = alpha**2 * sd**2 + sigma**2
        rest = (x_t - alpha * mean) / variance
        return process.target(mean + alpha * sd**2 * rest, sigma * rest, t)

    return denoise


def gaussian_path(process, noise, mean, sd, t=None):
    """Where the probability flow of N(mean, sd^2) carries ``noise`` until time t; None: the clean end."""
    alpha, sigma = process.levels(process.sampling_times(1)[0])
    quantile = (noise - alpha * mean) / (alpha**2 * sd**2 + sigma**2) ** 0.5
    alpha, sigma = (1.0, 0.0) if t is None else process.levels(t)
    return alpha * mean + (alpha**2 * sd**2 + sigma**2) ** 0.5 * quantile


def walk_of_monai(scheduler, denoise, noise, generator=None):
    """Yield the state after each step of MONAI's own loop."""
    x = noise
    source = {} if generator is None else {"generator": generator}
    for number in scheduler.timesteps:
        t = torch.full((len(x),), float(number) / STEPS)
        x, _ = scheduler.step(denoise(x, t), int(number), x, **source)
        yield x


@pytest.mark.parametrize("schedule", ["linear_beta", "scaled_linear_beta"])
@pytest.mark.parametrize("objective", ["epsilon", "v"])
@pytest.mark.parametrize(("sampler", "kind"), [("ddim", DDIMScheduler), ("ddpm", DDPMScheduler)])
def test_all_steps_equal_those_of_monai(sampler, kind, objective, schedule):
    process = process_of(objective, schedule)
    denoise = with_clean(process, nonlinear)
    special = {"set_alpha_to_one": True} if kind is DDIMScheduler else {"variance_type": "fixed_small"}
    theirs = walk_of_monai(
        monai_of(kind, STEPS, objective, schedule, **special),
        denoise,
        NOISE,
        torch.Generator().manual_seed(3) if kind is DDPMScheduler else None,
    )
    generator = torch.Generator().manual_seed(3)  # MONAI draws once a step, and not in the last
    ours = run_sampler(
        sampler, denoise, process, NOISE, STEPS, lambda step: torch.randn(NOISE.shape, generator=generator)
    )
    largest = max((step.latent - x).abs().max().item() for step, x in zip(ours, theirs, strict=True))
    assert largest < 1e-4


@pytest.mark.parametrize("schedule", ["linear_beta", "scaled_linear_beta"])
@pytest.mark.parametrize("objective", ["epsilon", "v"])
def test_fifty_ddim_steps_equal_the_formula_of_monai_on_the_grid(objective, schedule):
    process = process_of(objective, schedule)
    denoise = with_clean(process, nonlinear)
    scheduler = monai_of(DDIMScheduler, 50, objective, schedule, set_alpha_to_one=True)
    numbers = scheduler.timesteps.tolist()
    x = NOISE
    for step, number, following in zip(
        run_sampler("ddim", denoise, process, NOISE, 50), numbers, [*numbers[1:], None], strict=True
    ):
        # MONAI's update goes to number - T // num_inference_steps: a count that leads to the next number of the grid
        gap = number + 1 if following is None else number - following
        scheduler.num_inference_steps = STEPS // gap
        assert STEPS // scheduler.num_inference_steps == gap
        x, clean = scheduler.step(denoise(x, torch.full((1,), number / STEPS)), number, x)
        assert (step.latent - x).abs().max() < 1e-4
        assert (step.clean_estimate - clean).abs().max() < 1e-4
        assert step.t == (0.0 if following is None else following / STEPS)


@pytest.mark.parametrize(("steps", "lost"), [(50, 0.05), (300, 0.25)])
def test_every_ddim_step_is_exact_for_a_point_mass_and_those_of_monai_are_not(steps, lost):
    process = process_of("epsilon")
    noise = NOISE.double()
    ours = run_sampler("ddim", gaussian(process, 3.0, 0.0), process, noise, steps)
    theirs = walk_of_monai(monai_of(DDIMScheduler, steps), gaussian(process, 3.0, 0.0), noise)
    errors = []
    for step, x in zip(ours, theirs, strict=True):
        exact = gaussian_path(process, noise, 3.0, 0.0, step.t if step.index < steps else None)
        errors.append([(step.latent - exact).abs().max().item(), (x - exact).abs().max().item()])
    largest, largest_of_monai = torch.tensor(errors).amax(dim=0).tolist()
    assert largest < 1e-4
    assert largest_of_monai > lost


def test_more_ddim_steps_come_nearer_to_a_gaussian_where_those_of_monai_go_away():
    process = process_of("v")
    noise = torch.linspace(-2, 2, 27, dtype=torch.float64).view(1, 1, 3, 3, 3)
    exact = gaussian_path(process, noise, 3.0, 0.5)
    ours, theirs = [], []
    for steps in (50, 300):
        denoise = gaussian(process, 3.0, 0.5)
        *_, last = run_sampler("ddim", denoise, process, noise, steps)
        *_, x = walk_of_monai(monai_of(DDIMScheduler, steps, "v"), denoise, noise)
        ours.append((last.latent - exact).square().mean().sqrt().item())
        theirs.append((x - exact).square().mean().sqrt().item())
    assert ours[0] < theirs[0]
    assert ours[1] < 0.3 * ours[0]
    assert theirs[1] > 5 * ours[1] and theirs[1] > theirs[0]


@pytest.mark.parametrize(("sampler", "kind"), [("ddim", DDIMScheduler), ("ddpm", DDPMScheduler)])
def test_values_beyond_one_are_kept_which_the_default_of_monai_cuts(sampler, kind):
    process = process_of("epsilon")
    denoise = gaussian(process, 3.0, 0.2)
    generator = torch.Generator().manual_seed(3)
    *_, last = run_sampler(
        sampler, denoise, process, NOISE, STEPS, lambda step: torch.randn(NOISE.shape, generator=generator)
    )
    assert last.latent.mean().item() == pytest.approx(3.0, abs=0.1)
    assert last.latent.std().item() == pytest.approx(0.2, rel=0.3)
    cutting = monai_of(kind, STEPS, **{"clip_sample": kind(num_train_timesteps=STEPS).clip_sample})
    *_, x = walk_of_monai(cutting, denoise, NOISE)
    assert x.abs().max() <= 1.0 + 1e-4
