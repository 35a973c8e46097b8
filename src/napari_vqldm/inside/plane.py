"""A codebook as points in a plane: codes that are alike lie close together."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_vqldm.checkpoint import Model
from napari_vqldm.errors import ConfigError, ShapeError

Method = Literal["pca", "tsne"]
PERPLEXITY = 30.0  # neighbours that t-SNE looks at; fewer for small codebooks
_LEAST_FOR_TSNE = 5


def code_vectors(model: Model) -> npt.NDArray[np.float32]:
    """Return the code vectors (K, C) of a ``vq-ldm``, in the units in which its encoder chooses between them.

    Raises
    ------
    CheckpointError
        If the model has no codebook.
    """
    return np.asarray(model.space.quantizer.codebook.detach().float().cpu().numpy(), np.float32)


def codebook_plane(codebook: npt.NDArray[np.floating[Any]], method: Method = "pca") -> npt.NDArray[np.float64]:
    """Lay the codes out in a plane.

    Parameters
    ----------
    codebook : ndarray
        (K, C), see `code_vectors`.
    method : str
        ``"pca"``: the two directions in which the vectors spread most, in their own units. ``"tsne"``: t-SNE (van der
        Maaten & Hinton 2008, started from the former), which keeps who is next to whom and no distances; it needs
        scikit-learn.

    Returns
    -------
    ndarray
        (K, 2), the same for the same codebook. The second column is 0 where the vectors have one channel.

    Raises
    ------
    ShapeError
        If ``codebook`` is no table of finite numbers.
    ConfigError
        If the method is unknown, scikit-learn is missing, or t-SNE is asked for fewer than 5 codes.
    """
    if codebook.ndim != 2 or 0 in codebook.shape or not np.isfinite(codebook).all():
        raise ShapeError(f"expected a codebook (K, C) of finite numbers, got shape {codebook.shape}")
    if method not in ("pca", "tsne"):
        raise ConfigError(f"expected method pca or tsne, got {method!r}")
    vectors = codebook.astype(np.float64)
    plane = _pca(vectors)
    return plane if method == "pca" else _tsne(vectors, plane)


def _pca(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    centred = vectors - vectors.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    directions = directions[:2]
    # A direction and its opposite are equally good: the largest part of each points up, on every machine.
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=1)[:, None], axis=1)
    plane = centred @ (directions * np.where(largest < 0, -1.0, 1.0)).T
    return np.pad(plane, ((0, 0), (0, 2 - plane.shape[1])))


def _tsne(vectors: npt.NDArray[np.float64], start: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    if len(vectors) < _LEAST_FOR_TSNE:
        raise ConfigError(f"t-SNE needs {_LEAST_FOR_TSNE} codes or more, got {len(vectors)}: take method pca")
    try:
        manifold = import_module("sklearn.manifold")
    except ImportError:
        raise ConfigError("t-SNE needs scikit-learn: pip install scikit-learn, or take method pca") from None
    spread = float(start[:, 0].std()) or 1.0
    tsne = manifold.TSNE(
        n_components=2,
        perplexity=min(PERPLEXITY, (len(vectors) - 1) / 3),
        init=1e-4 * start / spread,
        random_state=0,
    )
    return np.asarray(tsne.fit_transform(vectors), np.float64)
