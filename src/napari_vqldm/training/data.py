"""From volumes on disk to batches of (input, target): crop, flips, turns, gain and fresh photon noise."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_vqldm.config import Float3, Int3, ModelConfig, Range, SimulationConfig
from napari_vqldm.simulate import noisy_in_filament_units
from napari_vqldm.training.bank import VolumeBank
from napari_vqldm.training.config import FolderData, SimulatedData
from napari_vqldm.training.draws import Key, log_uniform
from napari_vqldm.training.stacks import StackSet

EMPTY_CROP_TRIES = 20

FloatArray = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Crop:
    """One augmented crop before noise, arrays (D, H, W) in filament units."""

    volume: int  # which volume of the source
    clean: npt.NDArray[np.float32] | None
    input: npt.NDArray[np.float32] | None  # None: to be made from ``clean`` by the camera
    gain: float
    photons: float
    background: float
    noise_key: Key


@dataclass(frozen=True)
class Pair:
    """A batch for stage 1: ``input`` and ``target`` (B, 1, D, H, W), filament units; ``volumes`` the source of each."""

    input: Tensor
    target: Tensor
    volumes: tuple[int, ...]


class VolumeSource(Protocol):
    """Where training volumes come from."""

    voxel_size_um: Float3

    def __len__(self) -> int:
        """Number of volumes."""
        ...

    def crop(self, key: Key, shape: Int3, volume: int | None, augment: bool, gain_range: Range) -> Crop:
        """Return the crop of a key, a function of the key alone; ``volume`` None: drawn."""
        ...

    def finish(self, crops: list[Crop], device: torch.device) -> Pair:
        """Stack crops and add what is drawn per voxel."""
        ...


class SimulatedSource:
    """Crops of a bank; the camera is drawn from the simulation's ranges at every use."""

    def __init__(self, bank: VolumeBank, part: str, config: SimulationConfig, target: str) -> None:
        self.bank, self.part, self.config, self.target = bank, part, config, target
        self.voxel_size_um = config.voxel_size_um

    def __len__(self) -> int:
        return self.bank.num_volumes if self.part == "train" else self.bank.held_out

    def crop(self, key: Key, shape: Int3, volume: int | None, augment: bool, gain_range: Range) -> Crop:
        """See `VolumeSource.crop`."""
        rng = key.rng()
        index = int(rng.integers(len(self))) if volume is None else volume
        clean = self.bank.volume(self.part, index)
        block = random_block(rng, clean.shape, shape, can_turn(self.voxel_size_um), augment)
        low, high = self.config.background
        return Crop(
            index,
            block(clean),
            None,
            log_uniform(gain_range, rng.random()),
            log_uniform(self.config.photons, rng.random()),
            low + (high - low) * rng.random(),
            key,
        )

    def finish(self, crops: list[Crop], device: torch.device) -> Pair:
        """Photon and read noise from one generator per sample, on ``device``."""
        clean = torch.stack([torch.from_numpy(c.clean) for c in crops])[:, None].to(device)
        noisy = torch.cat(
            [
                noisy_in_filament_units(
                    clean[i : i + 1],
                    torch.tensor([c.photons], device=device),
                    torch.tensor([c.background], device=device),
                    self.config.camera,
                    c.noise_key.torch_generator(device),
                )
                for i, c in enumerate(crops)
            ]
        )
        gain = torch.tensor([c.gain for c in crops], device=device, dtype=clean.dtype).view(-1, 1, 1, 1, 1)
        noisy = noisy * gain
        target = clean * gain if self.target == "clean" else noisy
        return Pair(noisy, target, tuple(c.volume for c in crops))


class StackSource:
    """Crops of a user's stacks; crops without signal are drawn again."""

    def __init__(self, stacks: StackSet, part: str, config: FolderData, target: str) -> None:
        self.stacks, self.part, self.config, self.target = stacks, part, config, target
        self.indices = stacks.indices(part)
        self.voxel_size_um = stacks.voxel_size_um

    def __len__(self) -> int:
        return len(self.indices)

    def crop(self, key: Key, shape: Int3, volume: int | None, augment: bool, gain_range: Range) -> Crop:
        """See `VolumeSource.crop`. Of `EMPTY_CROP_TRIES` draws the first with signal is taken, else the brightest."""
        rng = key.rng()
        best: tuple[float, Crop] | None = None
        for _ in range(EMPTY_CROP_TRIES):
            index = int(rng.integers(len(self))) if volume is None else volume
            data = self.stacks.volume(self.indices[index])
            block = random_block(rng, data.shape, shape, can_turn(self.voxel_size_um), augment)
            clean = self.stacks.volume(self.indices[index], "clean") if self.target == "clean" else None
            crop = Crop(
                index,
                None if clean is None else block(clean),
                block(data),
                log_uniform(gain_range, rng.random()),
                0.0,
                0.0,
                key,
            )
            signal = float(np.percentile(crop.input, 99.0)) if crop.input is not None else 0.0
            if best is None or signal > best[0]:
                best = signal, crop
            if signal >= self.config.min_signal:
                break
        if best is None:
            raise ValueError("no crop was drawn")
        return best[1]

    def finish(self, crops: list[Crop], device: torch.device) -> Pair:
        """Stack inputs and targets; gain is the only change."""
        gain = torch.tensor([c.gain for c in crops], device=device).view(-1, 1, 1, 1, 1)
        inputs = torch.stack([torch.from_numpy(c.input) for c in crops])[:, None].to(device) * gain
        if self.target != "clean":
            return Pair(inputs, inputs, tuple(c.volume for c in crops))
        clean = torch.stack([torch.from_numpy(c.clean) for c in crops])[:, None].to(device) * gain
        return Pair(inputs, clean, tuple(c.volume for c in crops))


def can_turn(voxel_size_um: Float3) -> bool:
    """True when y and x may be exchanged. The z axis is never turned: the point spread function is longer along it."""
    _, y, x = voxel_size_um
    return abs(y - x) <= 1e-6 * max(y, x)


def random_block(
    rng: np.random.Generator, size: tuple[int, ...], shape: Int3, may_turn: bool, augment: bool
) -> Callable[[FloatArray], npt.NDArray[np.float32]]:
    """Draw a crop, three flips and a quarter turn; return the function that applies them to a volume (Z, Y, X).

    The numbers drawn do not depend on ``augment``, so that the same key crops the same place either way.
    """
    flips, turn = rng.random(3) < 0.5, bool(rng.random() < 0.5)
    if not augment:
        flips, turn = np.zeros(3, bool), False
    swapped = (shape[0], shape[2], shape[1])
    turn = turn and may_turn and all(n >= w for n, w in zip(size, swapped, strict=True))
    read = swapped if turn else shape
    starts = [int(rng.integers(n - w + 1)) for n, w in zip(size, read, strict=True)]
    slices = tuple(slice(start, start + w) for start, w in zip(starts, read, strict=True))

    def apply(volume: FloatArray) -> npt.NDArray[np.float32]:
        block = np.asarray(volume[slices], dtype=np.float32)
        if turn:
            block = block.transpose(0, 2, 1)
        return np.ascontiguousarray(np.flip(block, tuple(int(axis) for axis in np.flatnonzero(flips))))

    return apply


def make_sources(
    data: SimulatedData | FolderData, model: ModelConfig, bank: VolumeBank | None, stacks: StackSet | None
) -> tuple[VolumeSource, VolumeSource]:
    """Return the sources of training and of held-out volumes."""
    if isinstance(data, FolderData) and stacks is not None:
        return StackSource(stacks, "train", data, model.target), StackSource(stacks, "held_out", data, model.target)
    if bank is None or model.simulation is None:
        raise ValueError("simulated data need a bank and a simulation")
    return tuple(SimulatedSource(bank, part, model.simulation, model.target) for part in ("train", "held_out"))  # type: ignore[return-value]


T = TypeVar("T")


def prefetch(
    make: Callable[[int], T], steps: Iterable[int], depth: int = 2, threads: int = 1
) -> Iterator[tuple[int, T]]:
    """Yield (step, make(step)) in order while background threads work up to ``depth`` steps ahead.

    ``make`` must be a function of the step alone; then the threads change nothing but the time.
    """
    with ThreadPoolExecutor(max_workers=threads, thread_name_prefix="loader") as pool:
        waiting: deque[tuple[int, Future[T]]] = deque()
        try:
            for step in steps:
                waiting.append((step, pool.submit(make, step)))
                if len(waiting) > depth:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            for _, future in waiting:
                future.cancel()
