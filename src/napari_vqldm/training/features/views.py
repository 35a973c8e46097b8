"""From a clean volume to two views that differ by chance alone: noise, shift, flips and turns.

Everything that a metric must see (photons, blur, gain, haze, scrambled phases) is drawn once per volume, acts on both
views, and is a target of the regression.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_vqldm.config import CameraConfig
from napari_vqldm.metrics import degradations
from napari_vqldm.simulate import noisy_in_filament_units
from napari_vqldm.training.features.bank import SCENE_LABELS, FeatureBank
from napari_vqldm.training.features.config import FeatureTrainConfig
from napari_vqldm.training.features.maps import CELL

DRAWN_LABELS = ("log_photons", "background", "log_gain", "blur_before", "blur_after", "scramble", "haze")
TARGETS = (*SCENE_LABELS[:-1], *DRAWN_LABELS)
NOISE_FREE_PHOTONS = 3000.0  # what a volume without camera noise counts as
MOST_SCRAMBLED = 0.4  # beyond it the filaments cannot be recognized: their labels are not asked for

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Views:
    """Two views of a batch.

    ``volumes`` (2 B, 1, D, H, W), first views before second ones; ``targets`` (B, T) as in `TARGETS`, ``known``
    (B, T), 1 where the target can be asked for; ``organisation`` (B,) int64, -100 where it cannot; ``maps``
    (2 B, 3, d, h, w), see `maps.MAPS`.
    """

    volumes: Tensor
    targets: Tensor
    known: Tensor
    organisation: Tensor
    maps: Tensor


@dataclass(frozen=True)
class Drawn:
    """Parameters of a batch, each (B,) float32."""

    photons: FloatArray
    noise_free: npt.NDArray[np.bool_]
    background: FloatArray
    gain: FloatArray
    blur_before: FloatArray
    blur_after: FloatArray
    scramble: FloatArray
    haze: FloatArray

    def labels(self) -> FloatArray:
        """Return (B, 7), see `DRAWN_LABELS`."""
        photons = np.log(np.where(self.noise_free, NOISE_FREE_PHOTONS, self.photons))
        columns = (photons, self.background, np.log(self.gain), self.blur_before, self.blur_after)
        return np.stack([*columns, self.scramble, self.haze], axis=1).astype(np.float32)


def draw(config: FeatureTrainConfig, rng: np.random.Generator, count: int) -> Drawn:
    """Draw what acts on both views of ``count`` volumes."""
    augment, camera = config.augment, config.simulations[0]

    def spread(low_high: tuple[float, float], share: float, rest: float, log: bool = False) -> FloatArray:
        low, high = low_high
        part = rng.uniform(size=count)
        values = low * (high / low) ** part if log else low + (high - low) * part
        return np.where(rng.uniform(size=count) < share, values, rest).astype(np.float32)

    return Drawn(
        photons=spread(camera.photons, 1.0, 0.0, log=True),
        noise_free=rng.uniform(size=count) < augment.noise_free,
        background=spread(camera.background, 1.0, 0.0),
        gain=spread(augment.gain, augment.gain_share, 1.0, log=True),
        blur_before=spread(augment.blur_um, augment.blur_share, 0.0),
        blur_after=spread(augment.blur_um, augment.blur_share, 0.0),
        scramble=spread((0.0, 1.0), augment.scramble_share, 0.0),
        haze=spread(augment.haze, augment.haze_share, 0.0),
    )


def fixed(count: int, **values: float) -> Drawn:
    """Return the same parameters for every volume: 100 photons, background 0.1, nothing else, unless given."""
    plain = {"photons": 100.0, "background": 0.1, "gain": 1.0} | dict.fromkeys(
        ("blur_before", "blur_after", "scramble", "haze"), 0.0
    )
    columns = {name: np.full(count, value, np.float32) for name, value in (plain | values).items()}
    return Drawn(noise_free=np.zeros(count, np.bool_), **columns)


class ViewMaker:
    """Makes views of the volumes of a bank on a device; the bank lies there as a whole where it fits.

    Parameters
    ----------
    config : FeatureTrainConfig
        Window, ranges, camera.
    bank : FeatureBank
        Volumes and labels.
    device : torch.device
        Where views are made.
    """

    def __init__(self, config: FeatureTrainConfig, bank: FeatureBank, device: torch.device) -> None:
        self.config, self.bank, self.device = config, bank, device
        self.camera: CameraConfig = config.simulations[0].camera
        self._resident: Tensor | None = None
        if device.type == "cuda":
            used = int(max(bank.train.max(), bank.validation.max())) + 1
            needed = used * int(np.prod(bank.volumes.shape[1:])) * 2
            if needed < 0.5 * torch.cuda.mem_get_info(device)[0]:
                self._resident = torch.empty((used, *bank.volumes.shape[1:]), dtype=torch.float16, device=device)
                for first in range(0, used, 256):
                    block = np.array(bank.volumes[first : min(first + 256, used)])
                    self._resident[first : first + 256] = torch.from_numpy(block).to(device)

    def views(
        self, rows: npt.NDArray[np.int64], drawn: Drawn, rng: np.random.Generator, count: int = 2, turn: bool = True
    ) -> Views:
        """Return ``count`` views of the volumes ``rows``; without ``turn`` they are the central crop as it is."""
        crops = [self._crop(int(row), rng, turn) for _ in range(count) for row in rows]
        clean = torch.stack([volume for volume, _ in crops])[:, None].float()
        maps = torch.from_numpy(np.stack([m for _, m in crops])).to(self.device)
        generator = torch.Generator(self.device).manual_seed(int(rng.integers(2**62)))
        volumes = self._degrade(clean, drawn, generator, count)
        labels = np.concatenate([self.bank.labels[rows][:, :-1], drawn.labels()], axis=1)
        readable = drawn.scramble <= MOST_SCRAMBLED
        known = np.ones_like(labels)
        known[:, : len(SCENE_LABELS) - 1] = readable[:, None]
        known[:, TARGETS.index("background")] = ~drawn.noise_free
        organisation = np.where(readable, self.bank.labels[rows][:, -1], -100).astype(np.int64)
        targets, asked, kind = (torch.from_numpy(a).to(self.device) for a in (labels, known, organisation))
        return Views(volumes, targets, asked, kind, maps)

    def _crop(self, row: int, rng: np.random.Generator, turn: bool) -> tuple[Tensor, FloatArray]:
        """Return a window and its maps; it starts at the corner of a cell of the maps."""
        if self._resident is not None:
            volume = self._resident[row]
        else:
            volume = torch.from_numpy(np.array(self.bank.volumes[row])).to(self.device)
        window = self.config.window
        free = [(have - want) // c for have, want, c in zip(volume.shape, window, CELL, strict=True)]  # cells
        low = [int(rng.integers(n + 1)) if turn else n // 2 for n in free]
        z, y, x = (slice(a * c, a * c + n) for a, c, n in zip(low, CELL, window, strict=True))
        crop = volume[z, y, x]
        i, j, k = (slice(a, a + n // c) for a, c, n in zip(low, CELL, window, strict=True))
        maps = self.bank.maps[row][:, i, j, k]
        if turn:
            turns = int(rng.integers(4))
            flips = [axis for axis in (0, 1) if rng.integers(2)]  # a turn and one lateral flip make the other one
            crop = torch.rot90(crop, turns, (1, 2)).flip(flips)
            maps = np.flip(np.rot90(maps, turns, (2, 3)), tuple(1 + axis for axis in flips))
        return crop, np.ascontiguousarray(maps)

    def _degrade(self, clean: Tensor, drawn: Drawn, generator: torch.Generator, count: int) -> Tensor:
        """Blur, scramble, haze, camera, blur, gain: in the order of the light."""
        size = self.config.voxel_size_um

        def column(values: npt.NDArray[np.generic]) -> Tensor:
            return torch.from_numpy(np.tile(values, count)).to(self.device)

        volumes = clean
        for name in ("blur_before", "scramble", "haze"):
            strength = getattr(drawn, name)
            rows = torch.from_numpy(np.flatnonzero(np.tile(strength, count))).to(self.device)
            if len(rows):
                part, amount = volumes[rows], column(strength)[rows]
                if name == "blur_before":
                    part = degradations.blur(part, amount, size)
                elif name == "scramble":
                    part = degradations.phase_scramble(part, amount, generator)
                else:
                    part = degradations.add_haze(part, amount, generator, size)
                volumes = volumes.index_copy(0, rows, part)
        noisy = noisy_in_filament_units(
            volumes, column(drawn.photons), column(drawn.background), self.camera, generator
        )
        volumes = torch.where(column(drawn.noise_free).view(-1, 1, 1, 1, 1), volumes, noisy)
        rows = torch.from_numpy(np.flatnonzero(np.tile(drawn.blur_after, count))).to(self.device)
        if len(rows):
            volumes = volumes.index_copy(
                0, rows, degradations.blur(volumes[rows], column(drawn.blur_after)[rows], size)
            )
        return degradations.scale_intensity(volumes, column(drawn.gain))
