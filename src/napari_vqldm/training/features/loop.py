"""Training of one extractor: stops by the clock, its learning rate follows the clock."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_vqldm.config_base import ORGANISATIONS
from napari_vqldm.errors import TrainingError
from napari_vqldm.metrics.feature_net import NUM_FEATURES, WIDTHS, FeatureNet, folded
from napari_vqldm.training.features.config import FeatureTrainConfig
from napari_vqldm.training.features.losses import Heads, MapHead, loss_terms, standardize
from napari_vqldm.training.features.maps import STAGE
from napari_vqldm.training.features.views import TARGETS, ViewMaker, draw

SAY_EVERY_S = 4.0
MAX_GRADIENT = 5.0


@dataclass(frozen=True)
class Trained:
    """Outcome of one seed: averaged network and heads, standardization of the targets, steps done."""

    net: FeatureNet
    heads: Heads
    mean: Tensor  # (T,)
    sd: Tensor  # (T,)
    steps: int
    seconds: float


def learning_rate(config: FeatureTrainConfig, progress: float) -> float:
    """Return the rate at ``progress`` in [0, 1] of the planned time: linear warm-up, then a cosine to 0."""
    if progress < config.warmup_share:
        return config.learning_rate * max(progress, 0.01 * config.warmup_share) / config.warmup_share
    rest = (min(progress, 1.0) - config.warmup_share) / max(1.0 - config.warmup_share, 1e-9)
    return config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * rest))


def target_statistics(config: FeatureTrainConfig, maker: ViewMaker, seed: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (T,) of the targets over draws for the whole training part."""
    rng = np.random.default_rng([seed, 3])
    rows = np.resize(maker.bank.train, max(4096, len(maker.bank.train)))
    labels = np.concatenate([maker.bank.labels[rows][:, :-1], draw(config, rng, len(rows)).labels()], axis=1)
    mean, sd = labels.mean(axis=0), np.maximum(labels.std(axis=0), 1e-3)
    return torch.from_numpy(mean).float().to(maker.device), torch.from_numpy(sd).float().to(maker.device)


def train_extractor(
    config: FeatureTrainConfig,
    maker: ViewMaker,
    seed: int,
    seconds: float,
    say: Callable[[str], None],
    record: Callable[[dict[str, Any]], None],
) -> Trained:
    """Train for ``seconds``.

    Parameters
    ----------
    config : FeatureTrainConfig
        Everything but the seed.
    maker : ViewMaker
        Source of views; training rows of its bank are used.
    seed : int
        Of weights, order and augmentation.
    seconds : float
        Planned time; no step starts after it.
    say, record : callable
        Take a line of progress, and the numbers of it.

    Raises
    ------
    TrainingError
        If the loss is not finite.
    """
    device = maker.device
    with torch.random.fork_rng(devices=[]):  # layers draw their first weights from torch's global state: give it back
        torch.manual_seed(seed)
        net = FeatureNet(batch_norm=True).to(device)
        heads = Heads(NUM_FEATURES, len(TARGETS), len(ORGANISATIONS)).to(device)
        map_head = MapHead(WIDTHS[STAGE]).to(device)
    trained = nn.ModuleList([net, heads, map_head])
    averaged = copy.deepcopy(net), copy.deepcopy(heads)
    mean, sd = target_statistics(config, maker, seed)
    optimizer = torch.optim.AdamW(
        trained.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=device.type == "cuda"
    )
    rng = np.random.default_rng([seed, 1])
    half = config.bf16 and device.type == "cuda"
    order = np.empty(0, np.int64)
    start = said = time.perf_counter()
    step, said_step = 0, 0
    while (elapsed := time.perf_counter() - start) < seconds or step == 0:
        if len(order) < config.pairs:
            order = rng.permutation(maker.bank.train)
        rows, order = order[: config.pairs], order[config.pairs :]
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, elapsed / seconds)
        with torch.no_grad():
            views = maker.views(rows, draw(config, rng, len(rows)), rng)
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            features, stages = net.with_stages(views.volumes)
            guessed = map_head(stages[STAGE])
        values, logits = heads(features)
        terms = loss_terms(features, values, logits, guessed, views, standardize(views.targets, mean, sd))
        loss = terms.total(config.loss)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(trained.parameters(), MAX_GRADIENT)
        optimizer.step()
        step += 1
        for old, new in zip(averaged, (net, heads), strict=True):
            _average(old, new, min(config.average_decay, (1.0 + step) / (10.0 + step)))
        if time.perf_counter() - said > SAY_EVERY_S:
            numbers = {name: round(float(value.detach()), 4) for name, value in vars(terms).items()}
            now = time.perf_counter()  # after the numbers: reading them waits for the device
            if not math.isfinite(sum(numbers.values())):
                raise TrainingError(f"seed {seed}: the loss is not finite after {step} steps")
            rate = 2 * config.pairs * (step - said_step) / (now - said)
            position = {"seed": seed, "step": step, "seconds": round(now - start, 1), "views_per_s": round(rate, 1)}
            record(position | numbers)
            parts = "  ".join(f"{name[:5]} {value:.3f}" for name, value in numbers.items())
            say(f"seed {seed}  {now - start:5.0f} s  step {step}  {rate:.0f} views/s  {parts}")
            said, said_step = now, step
    net_averaged, heads_averaged = averaged
    return Trained(folded(net_averaged), heads_averaged.eval(), mean, sd, step, time.perf_counter() - start)


@torch.no_grad()
def _average(averaged: nn.Module, current: nn.Module, decay: float) -> None:
    """Move the running mean of the weights towards the current ones; statistics of normalization are taken over."""
    old: list[Tensor] = list(averaged.parameters())
    torch._foreach_lerp_(old, [p.detach() for p in current.parameters()], 1.0 - decay)
    for kept, buffer in zip(averaged.buffers(), current.buffers(), strict=True):
        kept.copy_(buffer)
