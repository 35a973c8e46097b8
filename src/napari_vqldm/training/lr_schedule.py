"""The learning rate of every step."""

from __future__ import annotations

import math

from napari_vqldm.training.config import StageConfig


def learning_rate(config: StageConfig, step: int) -> float:
    """Return the learning rate of a step: linear warm-up, then cosine, or constant with a linear cool-down."""
    final = config.final_lr_fraction
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    after = max(1, config.steps - config.warmup_steps)
    progress = min(1.0, max(0, step - config.warmup_steps) / after)
    if config.lr_schedule == "cosine":
        shape = final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))
    else:
        cooldown = max(1e-9, config.cooldown_fraction)
        shape = final + (1 - final) * min(1.0, (1 - progress) / cooldown)
    return config.learning_rate * warm * shape
