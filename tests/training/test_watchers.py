"""Every watcher catches its trouble on a broken series, is silent on a healthy one, and survives a resume."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from napari_vqldm.training.watchers import (
    AdversarialInstability,
    AutoencoderOverfit,
    CodebookCollapse,
    DeadDiscriminator,
    DenoiserOverfit,
    LatentScale,
    PosteriorCollapse,
    ScaleDrift,
    Trouble,
    Watch,
    Watcher,
    Window,
    watchers_for,
)

STEPS, LOG_EVERY, CHECK_EVERY = 800, 10, 50
Series = Callable[[int], tuple[dict[str, Tensor], dict[str, float]]]  # step to its terms and held-out numbers


def series(seed: int = 0) -> Callable[[float], float]:
    """Noise of 5 % on a value."""
    generator = torch.Generator().manual_seed(seed)
    return lambda value: value * (1 + 0.05 * float(torch.randn((), generator=generator)))


def kl(silent: int, from_step: int = 0) -> Series:
    """Four channels, ``silent`` of which say nothing from a step on."""
    noisy = series()

    def at(step: int) -> tuple[dict[str, Tensor], dict[str, float]]:
        dead = silent if step > from_step else 0
        return {"kl_channels": torch.tensor([noisy(0.002)] * dead + [noisy(0.5)] * (4 - dead))}, {}

    return at


def codes(used: int, size: int = 64) -> Series:
    """Indices of a codebook of which ``used`` codes are drawn; every batch alone holds few of them."""
    generator = torch.Generator().manual_seed(1)

    def at(step: int) -> tuple[dict[str, Tensor], dict[str, float]]:
        found = torch.randint(used, (2, 2, 4, 4), generator=generator)
        return {"code_indices": (found * (size // used) + 1).clamp(max=size - 1)}, {}

    return at


def adversary(reconstruction: Callable[[int], float], adversarial: Callable[[int], float]) -> Series:
    """Terms of the generator; the adversary begins at step 100."""
    noisy = series(2)

    def at(step: int) -> tuple[dict[str, Tensor], dict[str, float]]:
        size = adversarial(step) if step > 100 else 0.0
        return {"l1": torch.tensor(noisy(reconstruction(step))), "adversarial": torch.tensor(noisy(size))}, {}

    return at


def discriminator(gap: float, loss: float) -> Series:
    """Terms of the discriminator, settled to a gap and a loss within 150 steps."""
    noisy = series(3)

    def at(step: int) -> tuple[dict[str, Tensor], dict[str, float]]:
        early = step < 150
        values = {
            "logits_real": 0.4 + (0.0 if early else noisy(gap)),
            "logits_fake": 0.4,
            "discriminator_loss": 0.005 if early else noisy(loss),
        }
        return {name: torch.tensor(value) for name, value in values.items()}, {}

    return at


def scale(std: Callable[[float], float]) -> Series:
    """Standard deviation of the latent over the part of the training."""
    noisy = series(4)
    return lambda step: ({"latent_std": torch.tensor(noisy(std(step / STEPS)))}, {})


def fit(name: str, train: Callable[[float], float], key: str, held_out: Callable[[float], float]) -> Series:
    """Training loss ``name`` and held-out number ``key`` over the part of the training."""

    def at(step: int) -> tuple[dict[str, Tensor], dict[str, float]]:
        part = step / STEPS
        return {name: torch.tensor(train(part))}, {key: held_out(part)} if step % CHECK_EVERY == 0 else {}

    return at


def falling(part: float) -> float:
    """Loss that falls."""
    return 0.1 + 0.4 * math.exp(-4 * part)


BROKEN: dict[str, tuple[Callable[[], Watcher], Series, str]] = {
    "all channels silent": (lambda: PosteriorCollapse(100, 10), kl(4), "kl_weight"),
    "half of the channels silent": (lambda: PosteriorCollapse(100, 10), kl(2, 300), "latent_channels"),
    "two codes": (lambda: CodebookCollapse(64, 30), codes(2), "restart = true"),
    "reconstruction explodes": (
        AdversarialInstability,
        adversary(lambda step: 0.1 if step < 400 else 0.2, lambda step: 1.0),
        "adversarial_weight",
    ),
    "adversarial loss explodes": (
        AdversarialInstability,
        adversary(lambda step: 0.1, lambda step: -1.0 if step < 400 else -40.0),
        "adversarial_start",
    ),
    "discriminator blind": (DeadDiscriminator, discriminator(0.005, 0.5), "tells nothing"),
    "discriminator wins": (DeadDiscriminator, discriminator(1.0, 0.002), "always wins"),
    "latent vanishes": (lambda: ScaleDrift(STEPS), scale(lambda part: 0.01), "learning_rate"),
    "latent explodes": (lambda: ScaleDrift(STEPS), scale(lambda part: 1.0 + 40 * part), "kl_weight"),
    "latent grows late": (lambda: ScaleDrift(STEPS), scale(lambda part: 1.0 if part < 0.7 else 3.0), "train longer"),
    "cache of another autoencoder": (LatentScale, scale(lambda part: 2.0), "--stage latents --fresh"),
    "denoiser memorizes": (
        DenoiserOverfit,
        fit("loss", falling, "held_out_loss", lambda part: falling(part) + max(0.0, part - 0.4)),
        "num_volumes",
    ),
    "autoencoder memorizes": (
        AutoencoderOverfit,
        fit("mse", falling, "held_out_average_db", lambda part: 20.0 + 10 * min(part, 0.5) - 8 * max(0.0, part - 0.5)),
        "num_volumes",
    ),
    "autoencoder copies noise": (
        lambda: AutoencoderOverfit(noise_ceiling_db=9.0),
        fit("mse", falling, "held_out_average_db", lambda part: 20.0),
        "noise",
    ),
}
HEALTHY: dict[str, tuple[Callable[[], Watcher], Series]] = {
    "channels speak": (lambda: PosteriorCollapse(100, 10), kl(0)),
    "one silent channel": (lambda: PosteriorCollapse(100, 10), kl(1)),
    "silent before the weight has risen": (
        lambda: PosteriorCollapse(100, 10),
        lambda step: ({"kl_channels": torch.full((4,), 0.001 if step <= 100 else 0.5)}, {}),
    ),
    "all codes, few a batch": (lambda: CodebookCollapse(64, 30), codes(64)),
    "a calm adversary": (AdversarialInstability, adversary(lambda step: 0.1, lambda step: 0.7)),
    "a hinge loss that begins at zero": (
        AdversarialInstability,
        adversary(lambda step: 0.1, lambda step: 1e-3 + min(2.0, step / 200)),
    ),
    "reconstruction that was bad before the adversary": (
        AdversarialInstability,
        adversary(lambda step: 1.0 if step < 50 else 0.1, lambda step: 1.0),
    ),
    "a discriminator at work": (DeadDiscriminator, discriminator(0.3, 0.2)),
    "a steady latent": (lambda: ScaleDrift(STEPS), scale(lambda part: 1.0 + 0.5 * part)),
    "a latent that grows early": (lambda: ScaleDrift(STEPS), scale(lambda part: 0.2 + min(part, 0.3) * 10)),
    "a latent that starts small": (lambda: ScaleDrift(STEPS), scale(lambda part: 0.01 if part < 0.2 else 1.0)),
    "unit latents": (LatentScale, scale(lambda part: 1.0)),
    "a denoiser that learns": (
        DenoiserOverfit,
        fit("loss", falling, "held_out_loss", lambda part: 1.05 * falling(part)),
    ),
    "a denoiser whose losses rise together": (
        DenoiserOverfit,
        fit("loss", lambda part: 0.1 + part, "held_out_loss", lambda part: 0.1 + part),
    ),
    "an autoencoder that learns": (
        lambda: AutoencoderOverfit(noise_ceiling_db=12.0),
        fit("mse", falling, "held_out_average_db", lambda part: 20 + 5 * part),
    ),
}


def run(watcher: Watcher, at: Series, steps: range) -> Iterator[tuple[int, Trouble | None]]:
    """Report at log and check times, as the loop does."""
    for step in steps:
        terms, numbers = at(step)
        watcher.observe(step, terms)
        if step % LOG_EVERY == 0 or numbers:
            yield step, watcher.report(step, numbers)


@pytest.mark.parametrize("case", BROKEN)
def test_a_trouble_is_caught_with_its_remedy(case: str) -> None:
    make, at, remedy = BROKEN[case]
    watcher = make()
    found = [trouble for _, trouble in run(watcher, at, range(1, STEPS + 1))]
    assert found[-1] is not None, "the trouble is there at the end"
    assert found[0] is None, "nothing is said before there is evidence"
    last = found[-1]
    assert last.watcher == watcher.name and remedy in last.message and ": " in last.message
    assert math.isfinite(last.value)


@pytest.mark.parametrize("case", HEALTHY)
def test_a_healthy_training_is_not_accused(case: str) -> None:
    make, at = HEALTHY[case]
    assert [trouble for _, trouble in run(make(), at, range(1, STEPS + 1)) if trouble is not None] == []


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("cut", [7, 333, 605])
def test_a_resumed_watcher_says_the_same(case: str, cut: int) -> None:
    make, at, _ = BROKEN[case]
    known = {step: at(step) for step in range(1, STEPS + 1)}
    whole = list(run(make(), known.__getitem__, range(1, STEPS + 1)))
    first, second = make(), make()
    said = list(run(first, known.__getitem__, range(1, cut + 1)))
    second.load(json.loads(json.dumps(first.state())))
    said += run(second, known.__getitem__, range(cut + 1, STEPS + 1))
    assert said == whole


def test_observing_does_not_wait_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers are read at report time alone."""
    watchers = {make().name: make() for make, _, _ in BROKEN.values()}
    terms = {name: torch.rand(()) for name in ("l1", "mse", "loss", "adversarial", "latent_std", "logits_real")}
    terms |= {"logits_fake": torch.rand(3), "discriminator_loss": torch.rand(()), "kl_channels": torch.rand(4)}
    terms["code_indices"] = torch.randint(64, (2, 2, 2, 2))

    def read(*args: object) -> None:
        raise AssertionError("a tensor was read")

    for name in ("item", "tolist", "cpu", "__float__", "__bool__", "__int__"):
        monkeypatch.setattr(Tensor, name, read)
    for step in range(1, 300):
        for watcher in watchers.values():
            watcher.observe(step, terms)


def test_what_is_observed_holds_no_graph() -> None:
    loss = (torch.ones(2, requires_grad=True) * 2).sum()
    window = Window()
    window.add({"loss": loss})
    assert not window._waiting[0]["loss"].requires_grad


def test_a_window_is_a_mean_whatever_the_moment_of_saving() -> None:
    values = torch.rand(40, 3, generator=torch.Generator().manual_seed(0))
    one, other = Window(), Window()
    for i, row in enumerate(values):
        one.add({"x": row})
        other.add({"x": row})
        if i % 7 == 3:
            state = json.loads(json.dumps(other.state()))
            other = Window()
            other.load(state)
    first = one.take()["x"]
    assert first == other.take()["x"]
    assert first == pytest.approx(values.double().mean(dim=0).tolist(), rel=1e-12)
    assert one.count == 0


class Scripted:
    """Watcher in trouble at given steps."""

    name = "scripted"

    def __init__(self, bad: set[int]) -> None:
        self.bad = bad

    def observe(self, step: int, terms: Mapping[str, Tensor]) -> None:
        """Nothing to see."""

    def report(self, step: int, numbers: Mapping[str, float]) -> Trouble | None:
        """Follow the script."""
        return Trouble("scripted", "it is bad: do better", float(step)) if step in self.bad else None

    def state(self) -> dict[str, object]:
        """Nothing to keep."""
        return {}

    def load(self, state: dict[str, object]) -> None:
        """Nothing to take back."""


def test_a_trouble_is_said_once_until_it_clears_and_again_when_it_returns() -> None:
    watch, new, now, texts = Watch([Scripted({2, 3, 4, 6})]), [], [], []
    for step in range(1, 8):
        if step == 4:  # a resume in the middle of a trouble
            state = json.loads(json.dumps(watch.state()))
            watch = Watch([Scripted({2, 3, 4, 6})])
            watch.load(state)
        active, fresh = watch.report(step, {})
        now += [step] * len(active)
        new += [step] * len(fresh)
        texts.append(watch.text)
    assert now == [2, 3, 4, 6] and new == [2, 6]
    assert texts[1] == "! scripted: it is bad" and texts[4] == ""


def test_each_stage_gets_its_watchers(tiny: SimpleNamespace) -> None:
    def names(stage: str, family: str) -> set[str]:
        return {watcher.name for watcher in watchers_for(stage, tiny.config(family))}  # type: ignore[arg-type]

    common = {"adversarial_instability", "dead_discriminator", "scale_drift", "overfit"}
    assert names("autoencoder", "ldm") == common | {"posterior_collapse"}
    assert names("autoencoder", "vq-ldm") == common | {"codebook_collapse"}
    assert names("denoiser", "ldm") == {"scale_drift", "overfit"}
    assert names("latents", "ldm") == set()


def test_a_codebook_is_judged_over_all_training_volumes(tiny: SimpleNamespace) -> None:
    config = tiny.config("vq-ldm", data__num_volumes=100)
    codebook = next(w for w in watchers_for("autoencoder", config) if isinstance(w, CodebookCollapse))
    assert codebook.least == 50 and codebook.size == 16
