"""Stage 3: learn to generate standardised latents from the cache."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from napari_vqldm.config import Int3
from napari_vqldm.diffusion import make_process
from napari_vqldm.errors import ConfigError
from napari_vqldm.latent import LatentSpace
from napari_vqldm.models.blocks import at_least_float32
from napari_vqldm.models.build import AnyDenoiser, make_denoiser
from napari_vqldm.sampling import initial_noise, sample_latents, step_noise
from napari_vqldm.training.config import DenoiserStage, StageName
from napari_vqldm.training.context import Run
from napari_vqldm.training.draws import Key, keyed_normal
from napari_vqldm.training.loop import train
from napari_vqldm.training.losses import DenoiserTask
from napari_vqldm.training.show import volumes_sheet
from napari_vqldm.training.stages.autoencoder import channels_last, round_to_stored
from napari_vqldm.training.stages.latents import LatentCache, as_tensor
from napari_vqldm.training.warm_start import warm_start

CHECKED_LATENTS = 16
SHOWN_SAMPLES = 3


@dataclass(frozen=True)
class LatentBatch:
    """One step: raw entries of the cache and the keys of what is drawn for them."""

    keys: list[Key]
    x_0: Tensor | None  # standardised latents (B, C, d, h, w); None on a GPU until the step
    entries: Tensor  # (B, ...) as they lie in the cache, or (B,) their numbers where a GPU holds all of them
    eps: Tensor | None
    t: Tensor  # (B,)
    condition: Tensor | None
    drop: Tensor | None

    def pinned(self) -> LatentBatch:
        """Move what is sent to a GPU into page-locked memory, from where copies run beside computation."""
        condition, drop = (None if value is None else value.pin_memory() for value in (self.condition, self.drop))
        return replace(self, entries=self.entries.pin_memory(), t=self.t.pin_memory(), condition=condition, drop=drop)

    def rows(self, wanted: slice) -> LatentBatch:
        """Return some samples, as views."""
        x_0, eps, condition, drop = (
            None if value is None else value[wanted] for value in (self.x_0, self.eps, self.condition, self.drop)
        )
        return LatentBatch(self.keys[wanted], x_0, self.entries[wanted], eps, self.t[wanted], condition, drop)


class DenoiserTraining:
    """What the loop needs to train a denoiser; see `napari_vqldm.training.loop.TrainableStage`."""

    name: StageName = "denoiser"

    def __init__(self, run: Run, cache: LatentCache, space: LatentSpace) -> None:
        model = run.config.model
        if model.denoiser is None:
            raise ConfigError("model.denoiser is missing: stage 'denoiser' has nothing to train")
        self.context, self.cache, self.space = run, cache, space
        self.config: DenoiserStage = run.config.denoiser
        self.condition = model.denoiser.condition
        self.process = make_process(model.diffusion)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(Key(run.config.seed, "weights", 3).torch_seed())
            self.network = make_denoiser(model.denoiser, model.autoencoder.latent_channels)
        if self.network.control is not None:
            self.network.control.requires_grad_(False)  # this stage gives no control volumes; it stays at zero
        self._on_gpu = cache.on_gpu("train", run.device)
        compiled = self.config.compile and run.device.type == "cuda"
        # Beside a GPU only the compiled network is faster channels last (docs/experiments.md).
        self.channels_last = compiled or run.device.type == "cpu"
        self.task: nn.Module = DenoiserTask(self.network, self.process, self.config)
        if compiled:
            self.task.compile()  # in place: the names of the weights stay as they are

    def batch(self, step: int) -> LatentBatch:
        """Draw the latents, times and noise of a step."""
        keys = [
            Key(self.context.config.seed, "denoiser", step, i) for i in self.context.samples_of(self.config.batch_size)
        ]
        crop = self.config.crop
        if (
            crop is not None
            and Key(self.context.config.seed, "denoiser", step).rng(9).random() >= self.config.crop_probability
        ):
            crop = None
        batch = self._draw(keys, "train", crop)
        return self._finish(batch) if self.context.device.type == "cpu" else batch

    def split(self, batch: LatentBatch, parts: int) -> list[LatentBatch]:
        """Cut a batch, finished or not, into equal parts along the samples; one part is the batch itself.

        Raises
        ------
        ConfigError
            If ``parts`` does not divide the number of samples.
        """
        count = len(batch.keys)
        if parts < 1 or count % parts:
            raise ConfigError(
                f"expected a number of parts that divides a batch of {count}, got {parts}: choose another"
            )
        if parts == 1:
            return [batch]
        size = count // parts
        return [batch.rows(slice(first, first + size)) for first in range(0, count, size)]

    def before_step(self, step: int, batch: LatentBatch, average: nn.Module) -> None:
        """Nothing to do."""

    def losses(self, task: nn.Module, batch: LatentBatch, step: int) -> dict[str, Tensor]:
        """Run the task on a batch."""
        batch = self._finish(batch)
        out: dict[str, Tensor] = task(batch.x_0, batch.eps, batch.t, batch.condition, batch.drop)
        if batch.x_0 is not None:
            out["latent_std"] = batch.x_0.std(correction=0)  # 1, unless cache and scale are of two autoencoders
        return out

    def after_step(self, step: int, terms: dict[str, Tensor], average: nn.Module) -> dict[str, float]:
        """Nothing to do."""
        return {}

    @torch.no_grad()
    def check(self, step: int, network: nn.Module, average: nn.Module) -> dict[str, float]:
        """Loss on held-out volumes with the averaged weights; the same noise and times at every check."""
        average.eval()
        losses = []
        count = min(CHECKED_LATENTS, self.cache.count("held_out"))
        for first in range(0, count, self.config.batch_size):
            indices = range(first, min(first + self.config.batch_size, count))
            batch = self._finish(
                self._draw([Key(self.context.config.seed, "gate", 2, i) for i in indices], "held_out", None)
            )
            with self.context.fabric.autocast():
                loss = average(batch.x_0, batch.eps, batch.t, batch.condition, None)["loss"]
            losses.append(float(loss) * len(indices))
        return {"held_out_loss": sum(losses) / count}

    @torch.no_grad()
    def picture(self, step: int, average: nn.Module) -> None:
        """Samples with the conditions of held-out volumes."""
        average.eval()
        network = average.network
        if not isinstance(network, AnyDenoiser):
            raise TypeError(f"expected a denoiser, got {type(network).__name__}")
        config, model = self.context.config, self.context.config.model
        count = min(SHOWN_SAMPLES, self.cache.count("held_out"))
        shape = (model.autoencoder.latent_channels, *config.latent_shape)
        noise = torch.stack([initial_noise(config.seed, i, shape) for i in range(count)])
        noise = noise.to(self.context.device, self.context.dtype)
        conditions = [self.cache.condition("held_out", i) for i in range(count)]
        condition = (
            None
            if self.condition is None
            else torch.from_numpy(np.stack([c for c in conditions if c is not None])).to(noise)
        )
        latent = noise
        with self.context.fabric.autocast():
            for sample in sample_latents(
                network,
                self.process,
                noise,
                steps=model.diffusion.steps,
                sampler=model.diffusion.sampler,
                condition=condition,
                step_noises=[step_noise(config.seed, i, shape) for i in range(count)],
            ):
                latent = sample.latent
        volumes = self.space.decode(latent.float(), requantize=model.diffusion.requantize)[:, 0]
        shown = at_least_float32(volumes).cpu().numpy()
        rows = [("generated", [(f"sample {i}", volume) for i, volume in enumerate(shown)])]
        voxel_size_um = model.voxel_size_range_um[0]
        self.context.log.picture("denoiser", step, volumes_sheet(rows, voxel_size_um, f"step {step}"))
        self.context.log.volumes("denoiser", step, {"sample": list(shown)}, voxel_size_um)

    def extra_state(self) -> dict[str, Tensor]:
        """Nothing besides weights and optimizer."""
        return {}

    def load_extra_state(self, tensors: dict[str, Tensor]) -> None:
        """Nothing to take back."""

    def _draw(self, keys: list[Key], part: str, crop: Int3 | None) -> LatentBatch:
        """Choose entries, crops, times and dropped conditions; each row a function of its key."""
        by_number = self._on_gpu is not None and part == "train" and crop is None
        cells = math.prod(crop or self.context.config.latent_shape)
        entries, conditions, dropped, times = [], [], [], []
        for key in keys:
            rng = key.rng()
            index = int(rng.integers(self.cache.count(part))) if part == "train" else key.index
            if by_number:
                entries.append(np.array(index))
            else:
                entry = self.cache.entry(part, index)
                if crop is not None:
                    starts = [int(rng.integers(n - w + 1)) for n, w in zip(entry.shape[-3:], crop, strict=True)]
                    z, y, x = (slice(s, s + w) for s, w in zip(starts, crop, strict=True))
                    entry = entry[..., z, y, x]
                entries.append(np.array(entry))
            conditions.append(self.cache.condition(part, index))
            dropped.append(self.condition is not None and rng.random() < self.condition.dropout)
            times.append(self.process.sample_times(1, key.torch_generator(purpose=3), cells))
        known = self.condition is not None and all(c is not None for c in conditions)
        condition = torch.from_numpy(np.stack([c for c in conditions if c is not None])) if known else None
        stacked = torch.from_numpy(np.stack(entries)) if by_number else as_tensor(np.stack(entries))
        batch = LatentBatch(
            keys, None, stacked, None, torch.cat(times), condition, torch.tensor(dropped) if known else None
        )
        return batch.pinned() if self.context.device.type == "cuda" else batch

    def _finish(self, batch: LatentBatch) -> LatentBatch:
        """Draw from the posterior, standardise, draw the noise: on the device of the run."""
        if batch.x_0 is not None:
            return batch
        device = self.context.device
        entries = batch.entries.to(device, non_blocking=True)
        if entries.ndim == 1 and self._on_gpu is not None:
            entries = self._on_gpu[entries]
        if self.space.family == "vq-ldm":
            x_0 = self.space.embed_codes(entries.long())
        else:
            mu, sigma = at_least_float32(entries).unbind(dim=1)
            x_0 = self.space.normalize(mu + sigma * keyed_normal(batch.keys, tuple(mu.shape[1:]), device, purpose=4))
        eps = keyed_normal(batch.keys, tuple(x_0.shape[1:]), device)
        condition, drop = (
            None if value is None else value.to(device, non_blocking=True) for value in (batch.condition, batch.drop)
        )
        t = batch.t.to(device, non_blocking=True)
        x_0, eps = x_0.to(self.context.dtype), eps.to(self.context.dtype)
        if self.channels_last:
            x_0, eps = channels_last(x_0), channels_last(eps)
        return replace(batch, x_0=x_0, eps=eps, t=t, condition=condition, drop=drop)


def run_denoiser(run: Run, cache: LatentCache, space: LatentSpace) -> AnyDenoiser:
    """Train stage 3 to its end and return the denoiser as it will be stored."""
    stage = DenoiserTraining(run, cache, space)
    if run.config.denoiser.init_from and not run.folder.state("denoiser").exists():
        run.log.say(f"denoiser: {warm_start(stage.network, 'denoiser', run.config.denoiser.init_from)}")
    denoiser = train(run, stage).network
    if not isinstance(denoiser, AnyDenoiser):
        raise TypeError(f"expected a denoiser, got {type(denoiser).__name__}")
    round_to_stored(denoiser.float())
    denoiser.eval().requires_grad_(False)
    return denoiser
