"""Start a network from the weights of another run or checkpoint, where names and shapes agree."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from torch import Tensor, nn

from napari_vqldm.card import read_header
from napari_vqldm.checkpoint import load_checkpoint
from napari_vqldm.errors import ConfigError
from napari_vqldm.training.config import StageName
from napari_vqldm.training.resume import StageState, load_record, load_state
from napari_vqldm.zoo import available


@dataclass(frozen=True)
class WarmStart:
    """What was taken: names of tensors used, cut to fit, and left as they were."""

    source: Path
    used: tuple[str, ...]
    cut: tuple[str, ...]
    left: tuple[str, ...]

    def __str__(self) -> str:
        left = f", not found: {', '.join(self.left[:4])}{' ...' if len(self.left) > 4 else ''}" if self.left else ""
        cut = f", cut to fit: {', '.join(self.cut)}" if self.cut else ""
        return f"started from {self.source}: {len(self.used) + len(self.cut)} tensors{cut}{left}"


def warm_start(network: nn.Module, stage: StageName, source: str) -> WarmStart:
    """Copy weights into ``network``.

    The last convolution of a KL encoder has twice the channels of a codebook's: mean, then log variance. Its first half
    is what a codebook starts from.

    Raises
    ------
    ConfigError
        If the source is neither a run folder nor a checkpoint, or nothing fits.
    """
    path, tensors = _weights(source, stage)
    used, cut, left = [], [], []
    for name, tensor in network.state_dict().items():
        other = tensors.get(name)
        if other is not None and other.shape == tensor.shape:
            tensor.copy_(other)
            used.append(name)
        elif other is not None and other.shape[1:] == tensor.shape[1:] and other.shape[0] == 2 * tensor.shape[0]:
            tensor.copy_(other[: tensor.shape[0]])
            cut.append(name)
        else:
            left.append(name)
    if not used:
        raise ConfigError(f"{stage}.init_from: no tensor of {path} fits this network: compare [model.{stage}] of both")
    return WarmStart(path, tuple(used), tuple(cut), tuple(left))


def find_checkpoint(source: str, stage: StageName) -> Path | None:
    """Return the checkpoint that ``init_from`` of a stage means; None when it is a run folder that has none yet."""
    path = available().get(source, Path(source).expanduser())
    if not path.is_dir():
        return path
    names = ("checkpoint.safetensors", "autoencoder.safetensors")[: 2 if stage == "autoencoder" else 1]
    return next((path / name for name in names if (path / name).exists()), None)


def check_start(source: str, stage: StageName) -> Path | None:
    """Return what `find_checkpoint` finds, and refuse what is not there.

    Raises
    ------
    ConfigError
        If ``source`` is neither a run folder with weights of the stage, nor a checkpoint that has them, nor a bundled
        model.
    CheckpointError
        If the file is no checkpoint.
    """
    path = find_checkpoint(source, stage)
    if path is None:
        folder = Path(source).expanduser()
        record = load_record(folder / "state" / f"{stage}.safetensors")
        if record is None or not record["step"]:  # a run keeps its untrained weights too
            raise ConfigError(f"{stage}.init_from: {folder} holds neither a checkpoint nor a state of stage {stage!r}")
    elif not path.exists():
        raise ConfigError(
            f"{stage}.init_from: {path} does not exist: give a run folder, a checkpoint or a bundled model"
        )
    else:
        header = read_header(path)  # refuses what is no checkpoint
        if stage == "denoiser" and header.config.denoiser is None:
            raise ConfigError(f"{stage}.init_from: {path} holds no denoiser: give a checkpoint of a finished run")
    return path


def _weights(source: str, stage: StageName) -> tuple[Path, dict[str, Tensor]]:
    """Find the averaged weights of a stage in a run folder, a checkpoint or a bundled model of that name."""
    path = check_start(source, stage)
    if path is None:
        folder = Path(source).expanduser()
        state = cast("StageState", load_state(folder / "state" / f"{stage}.safetensors"))  # it was there just now
        return folder, {name.removeprefix("network."): tensor for name, tensor in state.part("average").items()}
    model = load_checkpoint(path)
    network = model.space.autoencoder if stage == "autoencoder" else model.denoiser
    return path, cast("nn.Module", network).state_dict()  # `check_start` refuses a checkpoint without it
