"""One `.safetensors` file per model: all weights, and in its header everything that is needed to use them rightly.

Loading takes memory only after the header, the configuration and the shape of every tensor agree. No pickle is read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from napari_vqldm import __version__
from napari_vqldm.card import (
    METADATA_KEY,
    Card,
    Header,
    HeaderContent,
    LatentStatistics,
    TensorEntry,
    TrainingSummary,
    open_checkpoint,
    parse_header,
)
from napari_vqldm.config import ModelConfig, to_json, validate
from napari_vqldm.diffusion.process import Process, make_process
from napari_vqldm.errors import CheckpointError, VqldmError
from napari_vqldm.files.atomic import atomic_path
from napari_vqldm.latent import LatentSpace
from napari_vqldm.models.base import BaseAutoencoder
from napari_vqldm.models.build import AnyDenoiser, make_autoencoder, make_denoiser
from napari_vqldm.quantizers import CodebookQuantizer

StorageType = Literal["float16", "bfloat16", "float32"]
_STORAGE: dict[str, torch.dtype] = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
}
_SAFETENSORS_NAME = {
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.int64: "I64",
}
_FLOATS = ("F16", "BF16", "F32")
# Codes closer than half precision can tell apart would become ties; the table is 32 KiB.
_KEEP_FLOAT32 = "autoencoder.quantizer.codebook"


@dataclass(frozen=True, eq=False)
class Model:
    """A loaded checkpoint, ready for every verb; float32, in evaluation mode, without gradients.

    Attributes
    ----------
    config : ModelConfig
        What the networks are and what they were trained on.
    space : LatentSpace
        Autoencoder and latent statistics.
    denoiser : Denoiser or None
        None for a checkpoint of stage 1 alone: it reconstructs but cannot generate.
    header : Header
        Card, training summary, table of tensors.
    path : Path
        File that it was loaded from.
    device : torch.device
        Where the networks are.
    """

    config: ModelConfig
    space: LatentSpace
    denoiser: AnyDenoiser | None
    header: Header
    path: Path
    device: torch.device

    @property
    def name(self) -> str:
        """Name on the card."""
        return self.header.card.name

    @property
    def weights_sha256(self) -> str:
        """Fingerprint of the weights, see `hash_weights`."""
        return self.header.card.weights_sha256

    @cached_property
    def process(self) -> Process:
        """Path between data and noise that the denoiser was trained on."""
        return make_process(self.config.diffusion)


def save_checkpoint(
    path: str | Path,
    *,
    config: ModelConfig,
    space: LatentSpace,
    denoiser: AnyDenoiser | None,
    card_fields: Mapping[str, Any] | None = None,
    training: TrainingSummary | None = None,
    dtype: StorageType = "float16",
    force: bool = False,
) -> Path:
    """Write a checkpoint atomically.

    Parameters
    ----------
    path : str or Path
        Target, ``.safetensors``.
    config : ModelConfig
        The whole configuration; must describe the networks.
    space : LatentSpace
        Autoencoder with the per-channel mean and scale of the training cache.
    denoiser : Denoiser or None
        None writes stage 1 alone.
    card_fields : mapping, optional
        Fields of `Card` that are not derived here, such as ``description``, ``limits``, ``gates``.
    training : TrainingSummary, optional
        Preset, seed, minutes, down-sampled curve.
    dtype : str
        Storage type of the weights; a codebook always stays float32.
    force : bool
        Overwrite an existing file.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    CheckpointError
        If the suffix is wrong, the configuration does not describe the networks, or a weight is not finite.
    FileError
        If the target exists without ``force`` or cannot be written.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path}: expected a file name that ends with .safetensors")
    parts: dict[str, nn.Module] = {"autoencoder": space.autoencoder}
    if denoiser is not None:
        parts["denoiser"] = denoiser
    tensors = {name: tensor for part, module in parts.items() for name, tensor in _stored(part, module, dtype)}
    _check_finite(tensors, path)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if denoiser is None and config.denoiser is not None:
        config = config.model_copy(update={"denoiser": None})
    _check_shapes(shapes, *_networks_on_meta(config, len(tensors), path), path)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    derived = {
        "family": config.family,
        "package_version": __version__,
        "parameters": {part: sum(p.numel() for p in module.parameters()) for part, module in parts.items()},
        "weights_sha256": hash_weights((n, _entry(t), _raw(t)) for n, t in tensors.items()),
    }
    card = validate(Card, {"name": config.name, "created": created, **(card_fields or {}), **derived}, "model card")
    content = HeaderContent(
        config=config,
        card=card,
        training=training or TrainingSummary(),
        latent=LatentStatistics(mean=_numbers(space.mean), scale=_numbers(space.scale)),
    )
    data = safetensors.torch.save(tensors, metadata={METADATA_KEY: to_json(content)})
    with atomic_path(path, force) as temporary:
        temporary.write_bytes(data)
    return path


def load_checkpoint(path: str | Path, device: str | torch.device = "cpu") -> Model:
    """Load a checkpoint; every weight becomes float32.

    Parameters
    ----------
    path : str or Path
        A ``.safetensors`` file written by `save_checkpoint`.
    device : str or torch.device
        Where to put the networks.

    Returns
    -------
    Model
        Networks in evaluation mode.

    Raises
    ------
    CheckpointError
        If the file is missing, truncated, foreign, altered, newer, or does not fit its own configuration, or the device
        does not exist.
    """
    path = Path(path)
    target = _device(device)
    with open_checkpoint(path) as (file, size):
        header = parse_header(file, size, path)
        autoencoder, denoiser = _networks_on_meta(header.config, len(header.tensors), path)
        _check_shapes({name: entry.shape for name, entry in header.tensors.items()}, autoencoder, denoiser, path)
        for name, entry in header.tensors.items():
            if entry.dtype not in _FLOATS:
                raise CheckpointError(f"{path}: tensor {name!r}: expected floating point weights, got {entry.dtype}")
        file.seek(0)
        data = file.read(size)
    if len(data) != size:
        raise CheckpointError(f"{path}: the file changed while it was read: load it again")
    _verify_hash(header, data, path)
    tensors = _tensors(data, path)
    _check_finite(tensors, path)
    _fill(autoencoder, "autoencoder", tensors)
    if denoiser is not None:
        _fill(denoiser, "denoiser", tensors)
    space = LatentSpace(autoencoder, torch.tensor(header.latent.mean), torch.tensor(header.latent.scale))
    for module in (space, denoiser):
        if module is not None:
            module.eval().requires_grad_(False).to(target)
    return Model(header.config, space, denoiser, header, path, target)


def hash_weights(tensors: Iterable[tuple[str, TensorEntry, bytes | memoryview]]) -> str:
    """SHA-256 over name, type, shape and bytes of all tensors, sorted by name: the weights alone, not the header."""
    digest = hashlib.sha256()
    for name, entry, data in sorted(tensors, key=lambda item: item[0]):
        digest.update(f"{name}\0{entry.dtype}\0{','.join(map(str, entry.shape))}\0".encode())
        digest.update(data)
    return digest.hexdigest()


def _networks_on_meta(config: ModelConfig, tensors: int, path: Path) -> tuple[BaseAutoencoder, AnyDenoiser | None]:
    """Build the networks of ``config`` without memory for weights."""
    # Every block owns a tensor: a configuration with more blocks than tensors is wrong, and could take hours to build.
    wanted = config.autoencoder.num_blocks + (config.denoiser.num_blocks if config.denoiser else 0)
    if wanted > tensors:
        raise CheckpointError(
            f"{path}: the configuration describes {wanted} blocks, the file has {tensors} tensors: "
            "it is damaged, copy it again"
        )
    try:
        with torch.device("meta"):
            autoencoder = make_autoencoder(config.autoencoder)
            denoiser = make_denoiser(config.denoiser, config.autoencoder.latent_channels) if config.denoiser else None
    except (ValueError, RuntimeError, OverflowError, TypeError, ZeroDivisionError, VqldmError) as error:
        raise CheckpointError(f"{path}: its configuration describes no possible network: {str(error)[:150]}") from None
    return autoencoder, denoiser


def _check_shapes(
    found: Mapping[str, tuple[int, ...]], autoencoder: BaseAutoencoder, denoiser: AnyDenoiser | None, path: Path
) -> None:
    """Compare the tensors with those that the networks need: same names, same shapes."""
    needed = {f"autoencoder.{name}": tuple(t.shape) for name, t in autoencoder.state_dict().items()}
    if denoiser is not None:
        needed |= {f"denoiser.{name}": tuple(t.shape) for name, t in denoiser.state_dict().items()}
    problem = ""
    if missing := sorted(needed.keys() - found.keys()):
        problem = f"tensor {missing[0]!r} is missing ({len(missing)} in all)"
    elif extra := sorted(found.keys() - needed.keys()):
        problem = f"tensor {extra[0]!r:.80} belongs to no part ({len(extra)} in all)"
    elif wrong := sorted(name for name in needed if needed[name] != found[name]):
        name = wrong[0]
        problem = f"tensor {name!r}: expected shape {needed[name]}, got {found[name]} ({len(wrong)} differ)"
    if problem:
        raise CheckpointError(f"{path}: the weights do not fit the configuration: {problem}")


def _verify_hash(header: Header, data: bytes, path: Path) -> None:
    """Compare the weights with the fingerprint on the card."""
    view = memoryview(data)[header.data_offset :]
    found = hash_weights((name, entry, view[entry.begin : entry.end]) for name, entry in header.tensors.items())
    expected = header.card.weights_sha256
    if found != expected:
        raise CheckpointError(
            f"{path}: the weights were altered: expected sha256 {expected[:12]}..., "
            f"got {found[:12]}...: copy the file again"
        )


def _tensors(data: bytes, path: Path) -> dict[str, Tensor]:
    """Parse the weights."""
    try:
        return safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{path}: not a valid safetensors file: {error}") from None


def _fill(module: nn.Module, part: str, tensors: Mapping[str, Tensor]) -> None:
    """Give a network that was built on the meta device memory and weights."""
    module.to_empty(device="cpu")
    module.load_state_dict({name: tensors[f"{part}.{name}"] for name in module.state_dict()})
    # What is not in the file (moving averages of a codebook) is training state: start it as a fresh codebook would.
    for part_of in module.modules():
        if isinstance(part_of, CodebookQuantizer):
            part_of.steps_unused.zero_()
            part_of.ema_count.fill_(1.0)
            part_of.ema_sum.copy_(part_of.codebook.detach())


def _stored(part: str, module: nn.Module, dtype: StorageType) -> Iterable[tuple[str, Tensor]]:
    """Tensors of one part as they go to disk."""
    for name, tensor in module.state_dict().items():
        full = f"{part}.{name}"
        wanted = torch.float32 if full == _KEEP_FLOAT32 else _STORAGE[dtype]
        yield full, tensor.detach().to("cpu", wanted if tensor.is_floating_point() else tensor.dtype).contiguous()


def _check_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse NaN and infinite weights: they would silently make every volume NaN."""
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(
                f"{path}: tensor {name!r} holds NaN or infinite weights (as {tensor.dtype}): "
                "the training diverged, use an earlier checkpoint"
            )


def _device(device: str | torch.device) -> torch.device:
    """Check that the device exists before anything is read."""
    try:
        target = torch.device(device)
        torch.empty(1, device=target)
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA raises AssertionError
        raise CheckpointError(f"device {str(device)!r} cannot be used: {str(error).splitlines()[0]}: use cpu") from None
    return target


def _entry(tensor: Tensor) -> TensorEntry:
    return TensorEntry(_SAFETENSORS_NAME[tensor.dtype], tuple(tensor.shape), 0, tensor.nbytes)


def _raw(tensor: Tensor) -> bytes:
    """Little-endian bytes of a contiguous CPU tensor, as safetensors writes them."""
    return tensor.reshape(-1).view(torch.uint8).numpy().tobytes()


def _numbers(tensor: Tensor) -> list[float]:
    return [float(value) for value in tensor.reshape(-1)]
