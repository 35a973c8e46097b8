"""Stage 2: encode the training volumes once, measure the latent, keep everything memory-mapped.

Volumes are encoded as they are, without the random gain of stage 1: the unit of generation is the peak of one filament,
and the gain is there to make the autoencoder tolerant of a wrong intensity estimate, not to be generated.
"""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_vqldm.coding import exact_math
from napari_vqldm.config import Int3
from napari_vqldm.errors import TrainingError
from napari_vqldm.latent import LatentSpace
from napari_vqldm.models.base import BaseAutoencoder
from napari_vqldm.models.condition import encode_condition
from napari_vqldm.training.bank import VolumeBank
from napari_vqldm.training.config import LatentsStage
from napari_vqldm.training.context import Run
from napari_vqldm.training.data import Crop, StackSource, VolumeSource, prefetch
from napari_vqldm.training.draws import Key
from napari_vqldm.training.folder import read_json, save_array, write_json
from napari_vqldm.training.latent_statistics import latent_statistics, scalar_statistics
from napari_vqldm.training.stages.autoencoder import channels_last

Part = str  # "train" or "held_out"
LOADER_THREADS = 4  # cut and flip volumes while others are encoded


@dataclass(frozen=True)
class LatentCache:
    """Encoded volumes on disk.

    ``folder`` holds chunks ``train-000000.npy``: for KL float16 (n, 2, C, d, h, w), posterior mean and standard
    deviation of the raw latent; for codes uint16 (n, d, h, w), code indices. ``conditions-train.npy`` (volumes, width)
    float32. Entry j encodes volume ``j // variants``.
    """

    folder: Path
    chunk: int

    @cached_property
    def record(self) -> dict[str, Any]:
        """Counts, statistics and fingerprint."""
        record: dict[str, Any] = read_json(self.folder / "latents.json")
        return record

    def __len__(self) -> int:
        return int(self.record["entries"]["train"])

    def count(self, part: Part) -> int:
        """Number of entries of a part."""
        return int(self.record["entries"][part])

    @cached_property
    def _arrays(self) -> dict[Part, list[npt.NDArray[Any]]]:
        return {
            part: [
                np.load(self.folder / f"{part}-{start:06d}.npy", mmap_mode="r") for start in range(0, count, self.chunk)
            ]
            for part, count in self.record["entries"].items()
        }

    def entry(self, part: Part, index: int) -> npt.NDArray[Any]:
        """Return one memory-mapped entry."""
        entry: npt.NDArray[Any] = self._arrays[part][index // self.chunk][index % self.chunk]
        return entry

    def on_gpu(self, part: Part, device: torch.device) -> Tensor | None:
        """Return all entries of a part in the memory of a GPU; None on a CPU, or when they take half of what is free.

        A step then sends the numbers of its entries instead of some megabytes.
        """
        if device.type != "cuda":
            return None
        arrays = self._arrays[part]
        width = np.promote_types(arrays[0].dtype, np.int16).itemsize if arrays else 0  # uint16 becomes int32
        if not arrays or sum(a.size for a in arrays) * width > torch.cuda.mem_get_info(device)[0] // 2:
            return None
        return torch.cat([as_tensor(array).to(device) for array in arrays])

    @cached_property
    def conditions(self) -> dict[Part, npt.NDArray[np.float32]] | None:
        """Condition vectors by part, (volumes, width); None when nothing is known."""
        if not (self.folder / "conditions-train.npy").exists():
            return None
        return {part: np.load(self.folder / f"conditions-{part}.npy") for part in self.record["entries"]}

    def condition(self, part: Part, index: int) -> npt.NDArray[np.float32] | None:
        """Return the condition vector of an entry."""
        if self.conditions is None:
            return None
        vector: npt.NDArray[np.float32] = self.conditions[part][index // int(self.record["variants"][part])]
        return vector

    @property
    def mean(self) -> Tensor:
        """Mean of each raw latent channel over the training entries, (C,)."""
        return torch.tensor(self.record["mean"])

    @property
    def scale(self) -> Tensor:
        """Standard deviation of each raw latent channel over the training entries, (C,)."""
        return torch.tensor(self.record["scale"])


def as_tensor(entries: npt.NDArray[Any]) -> Tensor:
    """Return entries of the cache as a tensor: float16, or code indices as int32."""
    return torch.from_numpy(np.array(entries, np.float16 if entries.dtype == np.float16 else np.int32))


def run_latents(
    run: Run, autoencoder: BaseAutoencoder, source: VolumeSource, held_out: VolumeSource, bank: VolumeBank | None
) -> LatentCache:
    """Encode what is missing and measure the latent.

    Raises
    ------
    TrainingError
        If a latent channel never varies.
    """
    config = run.config.latents
    cache = LatentCache(run.folder.latents, config.chunk)
    fingerprint = autoencoder_fingerprint(autoencoder)

    def encode() -> None:
        started = read_json(cache.folder / "started.json")
        if started is not None and started["autoencoder"] != fingerprint:
            run.log.say("latents: encoded by other weights, encoding again")
            shutil.rmtree(cache.folder)
        elif (cache.folder / "latents.json").exists():
            return
        write_json(cache.folder / "started.json", {"autoencoder": fingerprint})
        entries = {"train": _entries(source, run.config.model.window, config), "held_out": len(held_out)}
        variants = {"train": config.augmentations, "held_out": 1}
        with run.log.bar("latents", sum(entries.values())) as bar:
            done = 0
            for part, part_source in (("train", source), ("held_out", held_out)):
                for count in _encode_part(
                    run, autoencoder, part_source, part, entries[part], variants[part], cache.folder
                ):
                    run.stop.check()
                    bar.update(done + count)
                done += entries[part]
        _write_conditions(run, bank, cache.folder)
        statistics = latent_statistics(cache.folder, autoencoder, entries["train"], config.chunk)
        if config.normalization == "scalar":
            statistics |= scalar_statistics(statistics["mean"], statistics["scale"])
        write_json(
            cache.folder / "latents.json",
            {"entries": entries, "variants": variants, "autoencoder": fingerprint, **statistics},
        )

    run.first_alone(encode)
    run.log.say(
        "latents: mean "
        + ", ".join(f"{v:.3g}" for v in cache.record["mean"])
        + "  scale "
        + ", ".join(f"{v:.3g}" for v in cache.record["scale"])
        + (
            f"  perplexity {cache.record['perplexity']:.1f}, dead codes {cache.record['dead_codes']}"
            if "perplexity" in cache.record
            else ""
        )
    )
    if min(cache.record["scale"]) <= 1e-6:
        raise TrainingError(
            f"latents: a latent channel never varies (scale {cache.record['scale']}): lower autoencoder.kl_weight or "
            "model.autoencoder.latent_channels, then start again with --fresh"
        )
    if run.fabric.is_global_zero and not run.folder.result("latents").exists():
        write_json(run.folder.result("latents"), cache.record)
    return cache


def autoencoder_fingerprint(autoencoder: BaseAutoencoder) -> str:
    """Return a hash of the weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(autoencoder.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _entries(source: VolumeSource, window: Int3, config: LatentsStage) -> int:
    """Number of training entries: volumes times variants; stacks count once per window that they hold."""
    if not isinstance(source, StackSource):
        return len(source) * config.augmentations
    windows: int = sum(
        math.prod(-(-n // w) for n, w in zip(source.stacks.volume(i).shape, window, strict=True))
        for i in source.indices
    )
    return windows * config.augmentations


def _encode_part(
    run: Run, autoencoder: BaseAutoencoder, source: VolumeSource, part: Part, entries: int, variants: int, folder: Path
) -> Iterator[int]:
    """Encode the missing chunks of one part; yields the number of entries done."""
    config, model = run.config.latents, run.config.model
    of_stacks = isinstance(source, StackSource)
    stream = "latents" if part == "train" else "held_out"
    paths = {start: folder / f"{part}-{start:06d}.npy" for start in range(0, entries, config.chunk)}
    missing = [start for start, path in paths.items() if not path.exists()]

    def crops_of(first: int) -> list[Crop]:
        stop = min(first + config.batch_size, first - first % config.chunk + config.chunk, entries)
        return [
            source.crop(
                Key(run.config.seed, stream, 0, j),
                model.window,
                None if of_stacks else j // variants,
                part == "train",
                (1.0, 1.0),  # no gain here, see above
            )
            for j in range(first, stop)
        ]

    firsts = [
        first for start in missing for first in range(start, min(start + config.chunk, entries), config.batch_size)
    ]
    done, blocks = entries - sum(min(config.chunk, entries - start) for start in missing), []
    yield done
    for first, crops in prefetch(crops_of, firsts, LOADER_THREADS, LOADER_THREADS):
        blocks.append(_encode(run, autoencoder, source.finish(crops, run.device).input))
        done += len(crops)
        if (first + len(crops)) % config.chunk == 0 or first + len(crops) == entries:
            save_array(paths[first - first % config.chunk], np.concatenate(blocks))
            blocks = []
        yield done


def _encode(run: Run, autoencoder: BaseAutoencoder, volumes: Tensor) -> npt.NDArray[Any]:
    """Encode a batch as it is cached, the way of `reconstruct`: raw latents, mean 0 and scale 1."""
    space = LatentSpace.unit(autoencoder).to(run.device)
    with exact_math(run.device, "bf16" if run.config.latents.precision == "bf16-mixed" else "fp32"):
        coded = space.code(channels_last(volumes))
        if autoencoder.quantizer is not None:
            return space.code_indices(coded.latent).cpu().numpy().astype(np.uint16)
    if coded.encoding.log_variance is None:
        raise TypeError("a KL autoencoder must return a log variance")
    sigma = torch.exp(0.5 * coded.encoding.log_variance.float())
    return torch.stack([coded.latent, sigma], dim=1).cpu().numpy().astype(np.float16)


def _write_conditions(run: Run, bank: VolumeBank | None, folder: Path) -> None:
    """Store the condition vector of every volume of the bank."""
    denoiser = run.config.model.denoiser
    if bank is None or denoiser is None or denoiser.condition is None:
        return
    for part, parameters in bank.parameters.items():
        vectors = [encode_condition(denoiser.condition, entry["condition"]).numpy() for entry in parameters]
        save_array(folder / f"conditions-{part}.npy", np.stack(vectors).astype(np.float32))
