"""Stage 1: learn the latent space, watch for collapse, pass the gate."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from napari_vqldm.card import GateResult
from napari_vqldm.config import Int3
from napari_vqldm.errors import ConfigError
from napari_vqldm.metrics.fidelity import psnr_unit_range
from napari_vqldm.models.base import BaseAutoencoder
from napari_vqldm.models.blocks import at_least_float32
from napari_vqldm.models.build import make_autoencoder
from napari_vqldm.training.config import AutoencoderStage, StageName
from napari_vqldm.training.context import Run
from napari_vqldm.training.data import Crop, Pair, StackSource, VolumeSource
from napari_vqldm.training.draws import Key, keyed_normal
from napari_vqldm.training.folder import read_json, write_json
from napari_vqldm.training.gates import enforce, gate_of, judge, reconstruct_all, watch_for_collapse
from napari_vqldm.training.loop import train
from napari_vqldm.training.losses import AutoencoderTask, make_critics
from napari_vqldm.training.noise_ceiling import noise_ceiling_db
from napari_vqldm.training.show import volumes_sheet
from napari_vqldm.training.warm_start import warm_start

WATCHED_VOLUMES = 4
TUNING_VOLUMES = 4
CROPS_PER_HELD_OUT_STACK = 4
DISCRIMINATOR = "discriminator."  # its names in the saved state


@dataclass(frozen=True)
class AutoencoderBatch:
    """Crops of one step; ``pair`` and ``noise`` are made by the loader on a CPU, by the step itself on a GPU."""

    keys: list[Key]
    crops: list[Crop]
    pair: Pair | None
    noise: Tensor | None


class AutoencoderTraining:
    """What the loop needs to train an autoencoder; see `napari_vqldm.training.loop.TrainableStage`."""

    name: StageName = "autoencoder"
    channels_last = True

    def __init__(self, run: Run, source: VolumeSource, held_out: VolumeSource) -> None:
        self.context, self.source, self.held_out = run, source, held_out
        self.config: AutoencoderStage = run.config.autoencoder
        self.model = run.config.model
        self.shape: Int3 = self.config.crop or self.model.window
        self.network = new_autoencoder(run)
        self.task: nn.Module = AutoencoderTask(self.network, self.config)
        seed = Key(run.config.seed, "discriminator").torch_seed()
        self.critics = make_critics(self.config, self.shape, seed, run.device, self._mean_over_processes)
        self._watched: list[Pair] | None = None

    @cached_property
    def noise_ceiling_db(self) -> float | None:
        """See `napari_vqldm.training.noise_ceiling`; the loop asks for it."""
        config = self.context.config
        return noise_ceiling_db(self.source, config.seed, self.shape, config.data.gain_range)

    def batch(self, step: int) -> AutoencoderBatch:
        """Draw the crops of a step."""
        keys = [
            Key(self.context.config.seed, "autoencoder", step, i)
            for i in self.context.samples_of(self.config.batch_size)
        ]
        crops = [self.source.crop(key, self.shape, None, True, self.context.config.data.gain_range) for key in keys]
        batch = AutoencoderBatch(keys, crops, None, None)
        return self._finish(batch) if self.context.device.type == "cpu" else batch

    def split(self, batch: AutoencoderBatch, parts: int) -> list[AutoencoderBatch]:
        """Cut a batch into equal parts, in order.

        Raises
        ------
        ConfigError
            If the samples of the batch cannot be shared out equally.
        """
        if parts == 1:
            return [batch]
        samples = len(batch.keys)
        if samples % parts:
            raise ConfigError(f"autoencoder.batch_size: expected a multiple of {parts} parts, got {samples}")
        return [_samples(batch, slice(i, i + samples // parts)) for i in range(0, samples, samples // parts)]

    def before_step(self, step: int, batch: AutoencoderBatch, average: nn.Module) -> None:
        """Start the codebook from encoder vectors of this batch, of all processes (k-means)."""
        quantizer = self.network.quantizer
        if quantizer is None or step != self.config.kmeans_after:
            return
        pair = self._finish(batch).pair
        with torch.no_grad(), self.context.fabric.autocast():
            mean = at_least_float32(self.network.encode(channels_last(pair.input)).mean)  # type: ignore[union-attr]
        vectors = self._of_all(mean).permute(0, 2, 3, 4, 1).reshape(-1, mean.shape[1])
        quantizer.initialize(vectors, Key(self.context.config.seed, "codebook", step).torch_generator())
        quantizer.codebook.data.copy_(self.context.fabric.broadcast(quantizer.codebook.data))
        average.network.quantizer.codebook.data.copy_(quantizer.codebook.data)  # type: ignore[union-attr, operator]
        self.context.log.say(
            f"autoencoder: codebook of {len(quantizer.codebook)} started from {len(vectors)} encoder vectors"
        )

    def losses(self, task: nn.Module, batch: AutoencoderBatch, step: int) -> dict[str, Tensor]:
        """Run the task on a batch."""
        batch = self._finish(batch)
        factor = min(1.0, (step + 1) / max(1, self.config.kl_warmup_steps))
        if batch.pair is None:
            raise ValueError("the batch was not finished")
        out: dict[str, Tensor] = task(
            channels_last(batch.pair.input),
            channels_last(batch.pair.target),
            batch.noise,
            factor,
            step >= self.config.kmeans_after,
            self.critics,
            step,
        )
        return out

    def after_step(self, step: int, terms: dict[str, Tensor], average: nn.Module) -> dict[str, float]:
        """Advance codebook and discriminator; what jumped (a restarted code) jumps in the averaged weights too."""
        latent, code_indices = terms.pop("latent"), terms.pop("code_indices", None)
        reconstruction, target = terms.pop("reconstruction", None), terms.pop("target", None)
        if self.critics.discriminator is not None and reconstruction is not None and target is not None:
            # As tensors: as numbers, each step would wait for the device.
            terms |= self.critics.discriminator.step(
                reconstruction, target, self.context.fabric.autocast, self.context.rate_factor
            )
        quantizer = self.network.quantizer
        if quantizer is None or code_indices is None:
            return {}
        # Every process sees all vectors, so that the codebooks stay equal.
        latent, code_indices = self._of_all(latent), self._of_all(code_indices)
        before = quantizer.codebook.detach().clone()
        done = quantizer.update(latent, code_indices, Key(self.context.config.seed, "codebook", step).torch_generator())
        jumped = (quantizer.codebook != before).any(dim=1)
        average.network.quantizer.codebook.data[jumped] = quantizer.codebook.data[jumped]  # type: ignore[union-attr, operator]
        return done

    def check(self, step: int, network: nn.Module, average: nn.Module) -> dict[str, float]:
        """Held-out PSNR and the watch for collapse, on the weights in training (averages lag behind)."""
        pairs = self._watched_pairs()
        targets = [p.target[0, 0].cpu().numpy() for p in pairs]
        grace = self.config.collapse_grace + (self.config.kmeans_after if self.network.quantizer is not None else 0)
        patient = step <= grace
        found = watch_for_collapse(
            reconstruct_all(self.network, [p.input for p in pairs]), targets, step, patient=patient
        )
        averaged = reconstruct_all(average.network, [p.input for p in pairs])  # type: ignore[arg-type]
        found["held_out_average_db"] = _mean_psnr(averaged, targets)
        return found

    def picture(self, step: int, average: nn.Module) -> None:
        """Input, target and reconstruction of held-out volumes."""
        pairs = self._watched_pairs()[:3]
        shown = reconstruct_all(average.network, [p.input for p in pairs])  # type: ignore[arg-type]
        rows = [
            (
                f"held-out volume {i}",
                [
                    ("input", p.input[0, 0].cpu().numpy()),
                    ("target", p.target[0, 0].cpu().numpy()),
                    ("reconstruction", r),
                ],
            )
            for i, (p, r) in enumerate(zip(pairs, shown, strict=True))
        ]
        voxel_size_um = self.held_out.voxel_size_um
        self.context.log.picture("autoencoder", step, volumes_sheet(rows, voxel_size_um, f"step {step}"))
        groups = {"input": _arrays(pairs, "input"), "target": _arrays(pairs, "target"), "reconstruction": shown}
        self.context.log.volumes("autoencoder", step, groups, voxel_size_um)

    def extra_state(self) -> dict[str, Tensor]:
        """Counters of the codebook, the discriminator and its optimizer."""
        quantizer, tensors = self.network.quantizer, dict[str, Tensor]()
        if quantizer is not None:
            tensors |= quantizer.training_state()
        if self.critics.discriminator is not None:
            tensors |= {DISCRIMINATOR + name: t for name, t in self.critics.discriminator.training_state().items()}
        return tensors

    def load_extra_state(self, tensors: dict[str, Tensor]) -> None:
        """Take all that back."""
        own = {name.removeprefix(DISCRIMINATOR): t for name, t in tensors.items() if name.startswith(DISCRIMINATOR)}
        if self.network.quantizer is not None:
            counters = {name: t for name, t in tensors.items() if not name.startswith(DISCRIMINATOR)}
            self.network.quantizer.load_training_state(counters)
        if self.critics.discriminator is not None:
            self.critics.discriminator.load_training_state(own)

    def _mean_over_processes(self, tensor: Tensor) -> Tensor:
        fabric = self.context.fabric
        return tensor if fabric.world_size == 1 else fabric.all_reduce(tensor, reduce_op="mean")  # type: ignore[return-value]

    def _of_all(self, tensor: Tensor) -> Tensor:
        """Return the rows of all processes, in their order."""
        fabric = self.context.fabric
        return tensor if fabric.world_size == 1 else fabric.all_gather(tensor.contiguous()).flatten(0, 1)  # type: ignore[union-attr]

    def _finish(self, batch: AutoencoderBatch) -> AutoencoderBatch:
        if batch.pair is not None:
            return batch
        device = self.context.device
        made, dtype = self.source.finish(batch.crops, device), self.context.dtype
        pair, noise = replace(made, input=made.input.to(dtype), target=made.target.to(dtype)), None
        if self.network.quantizer is None:
            grid = tuple(n // f for n, f in zip(self.shape, self.network.downsampling_factor, strict=True))
            noise = keyed_normal(batch.keys, (self.network.latent_channels, *grid), device).to(dtype)
        return AutoencoderBatch(batch.keys, batch.crops, pair, noise)

    def _watched_pairs(self) -> list[Pair]:
        if self._watched is None:
            self._watched = gate_pairs(self.context, self.held_out)[:WATCHED_VOLUMES]
        return self._watched


def run_autoencoder(run: Run, source: VolumeSource, held_out: VolumeSource) -> tuple[BaseAutoencoder, GateResult, str]:
    """Train stage 1 to its end.

    Returns
    -------
    tuple
        The autoencoder as it will be stored (averaged weights in half precision), its gate and what failed ("" when
        passed).

    Raises
    ------
    TrainingError
        On collapse. The gate itself is enforced by the stages that build on the result.
    ConfigError
        If an autoencoder that shall be taken as it is has other layers than the configuration.
    """
    stage = AutoencoderTraining(run, source, held_out)
    if run.config.autoencoder.init_from and not run.folder.state("autoencoder").exists():
        start = warm_start(stage.network, "autoencoder", run.config.autoencoder.init_from)
        if run.config.autoencoder.steps == 0 and (start.cut or start.left):
            raise ConfigError(
                f"autoencoder.steps = 0: the autoencoder of {start.source} does not fit as it is "
                f"({', '.join((*start.cut, *start.left)[:3])}): copy its [model.autoencoder], or train some steps"
            )
        run.log.say(f"autoencoder: {start}")
    average = train(run, stage)
    autoencoder = average.network
    if not isinstance(autoencoder, BaseAutoencoder):
        raise TypeError(f"expected an autoencoder, got {type(autoencoder).__name__}")
    round_to_stored(autoencoder.float())
    autoencoder.eval().requires_grad_(False)
    result = read_json(run.folder.result("autoencoder"))
    if result is None:
        pairs = gate_pairs(run, held_out)
        window, keys = run.config.model.window, [Key(run.config.seed, "gate", 1, i) for i in range(TUNING_VOLUMES)]
        crops = [source.crop(key, window, key.index % len(source), False, (1.0, 1.0)) for key in keys]
        tuning = [source.finish([crop], run.device) for crop in crops]
        shown = reconstruct_all(autoencoder, [p.input for p in pairs])
        judged = judge(
            shown,
            _arrays(pairs, "input"),
            _arrays(pairs, "target"),
            autoencoder.downsampling_factor,
            (_arrays(tuning, "input"), _arrays(tuning, "target")),
        )
        gate, problem = gate_of(judged, run.config)
        result = {
            "gate": gate.model_dump(),
            "problem": problem,
            "volumes": len(pairs),
            "gaussian_sigma": judged.gaussian_sigma,
            "table": judged.table(),
        }
        if run.fabric.is_global_zero:
            write_json(run.folder.result("autoencoder"), result)
    for line in result["table"]:
        run.log.say(line)
    return autoencoder, GateResult(**result["gate"]), str(result["problem"])


def enforce_gate(run: Run, gate: GateResult, problem: str) -> None:
    """Refuse to build on a failed autoencoder; see `napari_vqldm.training.gates.enforce`."""
    warning = enforce(gate, problem, run.config)
    if warning:
        run.log.say(warning)


def gate_pairs(run: Run, held_out: VolumeSource) -> list[Pair]:
    """Return held-out (input, target) pairs of the trained window, one volume each; blank ones are left out."""
    per_volume = CROPS_PER_HELD_OUT_STACK if isinstance(held_out, StackSource) else 1
    pairs = []
    for i in range(len(held_out) * per_volume):
        crop = held_out.crop(
            Key(run.config.seed, "gate", 0, i), run.config.model.window, i % len(held_out), False, (1.0, 1.0)
        )
        pair = held_out.finish([crop], run.device)
        if _has_range(pair.target[0, 0].cpu().numpy()):
            pairs.append(pair)
    return pairs


def new_autoencoder(run: Run) -> BaseAutoencoder:
    """Build the autoencoder; its first weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(Key(run.config.seed, "weights", 1).torch_seed())
        return make_autoencoder(run.config.model.autoencoder)


@torch.no_grad()
def round_to_stored(module: nn.Module) -> None:
    """Round weights to the half precision of the checkpoint, so that what is judged and encoded is what is shipped.

    A codebook keeps single precision, there and here.
    """
    for name, parameter in module.named_parameters():
        if not name.endswith("quantizer.codebook"):
            parameter.copy_(parameter.half().float())


def channels_last(volumes: Tensor) -> Tensor:
    """Order (B, C, D, H, W) channels last."""
    return volumes.contiguous(memory_format=torch.channels_last_3d)


def _samples(batch: AutoencoderBatch, part: slice) -> AutoencoderBatch:
    """Return some samples of a batch."""
    pair = None if batch.pair is None else Pair(*(getattr(batch.pair, f.name)[part] for f in fields(batch.pair)))
    noise = None if batch.noise is None else batch.noise[part]
    return AutoencoderBatch(batch.keys[part], batch.crops[part], pair, noise)


def _arrays(pairs: list[Pair], which: str) -> list[np.ndarray]:
    return [getattr(p, which)[0, 0].cpu().numpy() for p in pairs]


def _has_range(volume: np.ndarray) -> bool:
    low, high = np.percentile(volume, (0.1, 99.9))
    return bool(high > low)


def _mean_psnr(volumes: list[np.ndarray], targets: list[np.ndarray]) -> float:
    return float(np.mean([psnr_unit_range(v, t) for v, t in zip(volumes, targets, strict=True)]))
