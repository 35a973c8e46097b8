"""Random generators that are a function of (seed, index, purpose) alone, so that no draw depends on the batch."""

from __future__ import annotations

import numpy as np

from napari_vqldm.errors import ConfigError

# One stream per purpose: a new draw in one of them leaves the others as they are.
PARAMETERS, GEOMETRY, CAMERA = 0, 1, 2
CELL, BUNDLES, BUCKLES, LABELLING = 3, 4, 5, 6
IMAGING, HAZE = 7, 8
SCENE = 9

LARGEST_SEED = 2**64 - 1  # of the verbs: what a generator's state can tell apart


def check_seed(*seeds: int) -> None:
    """Refuse seeds that would be taken for others."""
    for seed in seeds:
        if not 0 <= seed <= LARGEST_SEED:
            raise ConfigError(f"expected a seed from 0 to {LARGEST_SEED} (2**64 - 1), got {seed!s:.40}")


def _sequence(seed: int, index: int, stream: int) -> np.random.SeedSequence:
    if seed < 0 or index < 0:
        raise ConfigError(f"expected a seed and an index of 0 or more, got seed {seed} and index {index}")
    return np.random.SeedSequence([seed, index, stream])


def generator_for(seed: int, index: int, stream: int) -> np.random.Generator:
    """Return the generator of one purpose of volume ``index`` of ``seed``."""
    return np.random.Generator(np.random.PCG64(_sequence(seed, index, stream)))


def integer_seed(seed: int, index: int, stream: int) -> int:
    """Return a 63-bit integer seed for generators that take a single number."""
    return int(_sequence(seed, index, stream).generate_state(1, np.uint64)[0] >> np.uint64(1))


def uniform(rng: np.random.Generator, limits: tuple[float, float]) -> float:
    """Draw uniformly between two limits."""
    return float(rng.uniform(limits[0], limits[1]))


def log_uniform(rng: np.random.Generator, limits: tuple[float, float]) -> float:
    """Draw log-uniformly between two limits above 0."""
    low, high = limits
    if low <= 0:
        raise ConfigError(f"expected a range above 0 for a log-uniform draw, got {limits}")
    return float(low * (high / low) ** rng.uniform())
