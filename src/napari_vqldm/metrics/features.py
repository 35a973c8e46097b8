"""MTFeat-64: the frozen features by which sets of volumes are compared.

A version is a weights file in ``data/`` and its SHA-256 in ``data/features.json``; a version never changes. The network
is `napari_vqldm.metrics.feature_net.FeatureNet`, trained on simulated volumes by ``training/features.py``.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load as load_tensors
from torch import Tensor

from napari_vqldm.errors import CheckpointError, ShapeError, VolumeError
from napari_vqldm.metrics.checks import check_finite
from napari_vqldm.metrics.feature_net import NUM_FEATURES, FeatureNet
from napari_vqldm.resample import resample
from napari_vqldm.volume import Float3, Int3, check_voxel_size

FloatArray = npt.NDArray[np.floating]

DATA = Path(__file__).parent / "data"
REGISTRY = DATA / "features.json"
CURRENT_VERSION = "mtfeat64-v2"
WINDOW: Int3 = (32, 128, 128)
VOXEL_SIZE_UM: Float3 = (0.2, 0.1, 0.1)
SAME_VOXEL = 0.01  # relative: closer sizes are not resampled
MAX_WEIGHT_BYTES = 3_000_000
BATCH = {"cpu": 4}  # windows at once
_LARGE_BATCH = 32
NUM_ORIENTATIONS = 16  # 4 lateral turns x lateral flip x axial flip


@dataclass(frozen=True)
class FeatureExtractor:
    """A frozen network with its name; make it with `load_extractor`."""

    version: str
    sha256: str
    net: FeatureNet
    device: torch.device

    @torch.no_grad()
    def __call__(self, volumes: Iterable[FloatArray], voxel_size_um: Float3) -> npt.NDArray[np.float32]:
        """See `extract_features`."""
        rows: list[npt.NDArray[np.float32]] = []
        owners: list[int] = []
        waiting: list[Tensor] = []
        sums: list[npt.NDArray[np.float64]] = []
        counts: list[int] = []

        def flush() -> None:
            if waiting:
                batch = torch.stack(waiting)[:, None].to(self.device)
                for owner, row in zip(owners, self.net(batch).cpu().double().numpy(), strict=True):
                    sums[owner] += row
                waiting.clear()
                owners.clear()

        size = check_voxel_size(voxel_size_um)
        at_once = BATCH.get(self.device.type, _LARGE_BATCH)
        for number, volume in enumerate(volumes):
            sums.append(np.zeros(NUM_FEATURES))
            counts.append(0)
            for window in _windows(volume, size, number):
                waiting.append(torch.from_numpy(window))
                owners.append(number)
                counts[number] += 1
                if len(waiting) == at_once:
                    flush()
        flush()
        rows = [(total / count).astype(np.float32) for total, count in zip(sums, counts, strict=True)]
        return np.stack(rows) if rows else np.zeros((0, NUM_FEATURES), np.float32)

    def oriented(self, volumes: Iterable[FloatArray], voxel_size_um: Float3) -> npt.NDArray[np.float32]:
        """Return (N, 16, 64): features under 4 lateral 90-degree turns x lateral flip x axial flip.

        For looking for copies: a copy that was turned or flipped is found in one of its orientations. Voxels must be
        square in the lateral plane.

        Raises
        ------
        VolumeError
            If they are not.
        """
        if not math.isclose(voxel_size_um[1], voxel_size_um[2], rel_tol=SAME_VOXEL):
            raise VolumeError(f"expected equal voxel sizes in y and x to turn volumes, got {voxel_size_um}")
        turned = (view for volume in volumes for view in _orientations(np.asarray(volume)))
        return self(turned, voxel_size_um).reshape(-1, NUM_ORIENTATIONS, NUM_FEATURES)


def available_versions() -> dict[str, str]:
    """Return the released versions, name to SHA-256 of the weights file."""
    if not REGISTRY.is_file():
        return {}
    return {name: entry["sha256"] for name, entry in json.loads(REGISTRY.read_text(encoding="utf-8")).items()}


def load_extractor(
    version: str = CURRENT_VERSION, device: str | torch.device = "cpu", *, weights: Path | None = None
) -> FeatureExtractor:
    """Load a released version, or any weights file of the same network.

    Parameters
    ----------
    version : str
        Name of a release.
    device : str or torch.device
        Where features are computed.
    weights : Path, optional
        A file that is no release (another seed, to see whether it ranks alike); its hash is not checked, and the
        version is called ``file:`` and its name. Numbers of such an extractor compare with nothing else.

    Raises
    ------
    CheckpointError
        If there is no such version, or the file is missing, changed or foreign.
    """
    if weights is None:
        known = available_versions()
        if version not in known:
            choices = ", ".join(known) or "none is released in this installation"
            raise CheckpointError(f"no feature extractor {version!r}: expected one of: {choices}")
        path, name = DATA / f"{version}.safetensors", version
    else:
        path, name = Path(weights), f"file:{Path(weights).name}"
    try:
        if path.stat().st_size > MAX_WEIGHT_BYTES:
            raise CheckpointError(f"{path}: expected at most {MAX_WEIGHT_BYTES} bytes of extractor weights")
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot read the extractor's weights: {error.strerror}") from None
    digest = hashlib.sha256(content).hexdigest()
    if weights is None and digest != known[version]:
        raise CheckpointError(
            f"{path}: SHA-256 {digest[:12]}... is not that of {version}, {known[version][:12]}: reinstall the package"
        )
    net = FeatureNet()
    try:
        net.load_state_dict({key: value.float() for key, value in load_tensors(content).items()})
    except Exception as error:  # noqa: BLE001 safetensors and torch raise several kinds
        raise CheckpointError(f"{path}: not the weights of this feature extractor: {str(error)[:200]}") from None
    place = torch.device(device)
    return FeatureExtractor(name, digest, net.eval().requires_grad_(False).to(place), place)


def extract_features(
    volumes: Iterable[FloatArray],
    voxel_size_um: Float3,
    device: str | torch.device = "cpu",
    *,
    extractor: FeatureExtractor | None = None,
) -> npt.NDArray[np.float32]:
    """Return 64 features per volume.

    Parameters
    ----------
    volumes : iterable of ndarray
        (Z, Y, X) each, of any size, filament units: background 0, peak of one filament 1. The absolute scale matters;
        a stack in camera counts is converted by its intensity scale first.
    voxel_size_um : tuple of float
        (z, y, x) of all volumes.
    device : str or torch.device
        Ignored when ``extractor`` is given.
    extractor : FeatureExtractor, optional
        The current release when left out.

    Returns
    -------
    ndarray
        (N, 64) float32. A change of units would change the numbers, not the ranking: they have none.

    Raises
    ------
    ShapeError
        If a volume is not 3D or has no voxel.
    VolumeError
        If a volume holds NaN or infinity, or the voxel size is absurd.
    CheckpointError
        If no extractor is installed.

    Notes
    -----
    Volumes are resampled to 0.2 x 0.1 x 0.1 um when an axis differs by more than 1 %. Windows of 32 x 128 x 128 voxels:
    a smaller volume is continued by reflection, a larger one is covered by evenly spaced windows and gets their mean.
    Means vary less, and what is reflected varies more: compare sets of one size. Only the values of one device and one
    torch version agree to the last digits.
    """
    chosen = extractor if extractor is not None else load_extractor(device=device)
    return chosen(volumes, voxel_size_um)


def _windows(volume: FloatArray, voxel_size_um: Float3, number: int) -> Iterator[npt.NDArray[np.float32]]:
    """Yield float32 windows (32, 128, 128) of a volume of any size and voxel size."""
    data = np.asarray(volume, np.float32)
    if data.ndim != 3:
        raise ShapeError(f"volume {number}: expected (Z, Y, X), got shape {data.shape}")
    check_finite(data, f"volume {number}")
    if any(abs(have / want - 1.0) > SAME_VOXEL for have, want in zip(voxel_size_um, VOXEL_SIZE_UM, strict=True)):
        data = resample(data, voxel_size_um, VOXEL_SIZE_UM).astype(np.float32, copy=False)
    missing = [max(0, want - have) for have, want in zip(data.shape, WINDOW, strict=True)]
    if any(missing):
        data = np.pad(data, [(n // 2, n - n // 2) for n in missing], mode="symmetric")
    for z in _starts(data.shape[0], WINDOW[0]):
        for y in _starts(data.shape[1], WINDOW[1]):
            for x in _starts(data.shape[2], WINDOW[2]):
                yield np.ascontiguousarray(data[z : z + WINDOW[0], y : y + WINDOW[1], x : x + WINDOW[2]])


def _starts(size: int, window: int) -> list[int]:
    """First voxels of the fewest windows that cover an axis, evenly spaced."""
    count = math.ceil(size / window)
    if count == 1:
        return [0]
    return [round(i * (size - window) / (count - 1)) for i in range(count)]


def _orientations(volume: FloatArray) -> Iterator[FloatArray]:
    for axial in (volume, volume[::-1]):
        for lateral in (axial, axial[:, ::-1]):
            for turn in range(4):
                yield np.rot90(lateral, turn, (1, 2))
