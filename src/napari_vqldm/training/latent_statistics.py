"""Statistics of the encoded training volumes: what makes a raw latent a standardised one."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_vqldm.models.base import BaseAutoencoder
from napari_vqldm.quantizers import CodeUsage

READER_THREADS = 4


def latent_statistics(folder: Path, autoencoder: BaseAutoencoder, entries: int, chunk: int) -> dict[str, Any]:
    """Mean and standard deviation of each channel over all training entries, in float64.

    Parameters
    ----------
    folder : Path
        Of the cache: chunks ``train-*.npy``, see `napari_vqldm.training.stages.latents.LatentCache`.
    autoencoder : BaseAutoencoder
        That encoded them; its codebook gives code indices their values.
    entries, chunk : int
        Number of training entries, and of entries in a file.

    Returns
    -------
    dict
        "mean" and "scale", one number per channel; for codes "perplexity" and "dead_codes" too.
    """
    files = [np.load(folder / f"train-{start:06d}.npy", mmap_mode="r") for start in range(0, entries, chunk)]
    quantizer = autoencoder.quantizer
    if quantizer is not None:
        codebook = quantizer.codebook.detach().double().cpu().numpy()  # (K, C)
        usage = CodeUsage(np.zeros(len(codebook), np.int64))
        for data in files:
            usage = usage + CodeUsage.of(np.asarray(data, np.int64), len(codebook))
        share = usage.counts / usage.total
        mean = share @ codebook
        variance = share @ (codebook - mean) ** 2
        extra = {"perplexity": usage.perplexity, "dead_codes": usage.dead_codes}
        return {"mean": mean.tolist(), "scale": np.sqrt(variance).tolist(), **extra}

    def sums(data: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        mu, sigma = (np.asarray(data[:, i], np.float64) for i in range(2))  # (n, C, d, h, w)
        squares = mu**2 + sigma**2  # second moment of a draw
        return np.stack([part.sum(axis=(0, 2, 3, 4)) for part in (mu, squares)])

    with ThreadPoolExecutor(READER_THREADS) as pool:
        total, squares = np.stack(list(pool.map(sums, files))).sum(axis=0)  # in their order: the same bits always
    count = sum(data.size // (2 * data.shape[2]) for data in files)
    mean = total / count
    return {"mean": mean.tolist(), "scale": np.sqrt(np.maximum(squares / count - mean**2, 0.0)).tolist()}


def scalar_statistics(mean: Sequence[float], scale: Sequence[float]) -> dict[str, list[float]]:
    """Return one scale for all channels and no mean: the scale factor 1 / std (arXiv:2112.10752, appendix G).

    Parameters
    ----------
    mean, scale : sequence of float
        Mean and standard deviation of each channel; all channels have equally many values.

    Returns
    -------
    dict
        "mean": zeros; "scale": the standard deviation of all values together, once per channel.
    """
    means, scales = np.asarray(mean), np.asarray(scale)
    std = float(np.sqrt(np.mean(scales**2 + means**2) - means.mean() ** 2))
    return {"mean": [0.0] * len(means), "scale": [std] * len(means)}
