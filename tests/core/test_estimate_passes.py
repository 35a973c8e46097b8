"""Passes that are written down for estimates, against the networks themselves on PyTorch's meta device."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from napari_vqldm import zoo
from napari_vqldm.card import read_header
from napari_vqldm.checkpoint import Model
from napari_vqldm.config import (
    AnyAutoencoderConfig,
    AnyDenoiserConfig,
    AutoencoderConfig,
    ConditionConfig,
    DenoiserConfig,
    Int3,
    MonaiKLConfig,
    MonaiUNetConfig,
    MonaiVQConfig,
)
from napari_vqldm.errors import CheckpointError
from napari_vqldm.estimate import (
    Outline,
    estimate_generation,
    estimate_reconstruction,
    estimate_uncertainty,
    footprint,
    passes,
)
from napari_vqldm.estimate.meter import Array, Footprint, Meter
from napari_vqldm.models.build import make_autoencoder, make_denoiser
from napari_vqldm.quantizers import codebook

SHAPES = ((16, 64, 96), (32, 32, 32))
GRID = (8, 16, 16)

AUTOENCODERS: dict[str, AnyAutoencoderConfig] = {
    "ours": AutoencoderConfig(),
    "ours, three levels": AutoencoderConfig(
        strides=((1, 2, 2), (2, 2, 2), (1, 1, 2)),
        widths=(8, 16, 24),
        encoder_blocks=(0, 1, 2),
        decoder_blocks=(0, 2, 1),
    ),
    "kl": MonaiKLConfig(network="monai-kl", channels=(16, 32, 64), norm_groups=8),
    "kl with attention": MonaiKLConfig(
        network="monai-kl",
        channels=(16, 32),
        attention_levels=(False, True),
        num_res_blocks=1,
        norm_groups=8,
        nonlocal_attention=True,
    ),
    "vq": MonaiVQConfig(network="monai-vq", channels=(16, 32), num_res_channels=(8, 48)),
}
DENOISERS: dict[str, AnyDenoiserConfig] = {
    "ours": DenoiserConfig(),
    "ours, scale and shift": DenoiserConfig(
        channels=(16, 32),
        blocks=(2, 1),
        strides=((1, 2, 2),),
        attention=(True, True),
        head_channels=8,
        scale_shift=True,
        condition=None,
    ),
    "monai": MonaiUNetConfig(network="monai-unet"),
    "monai with a condition": MonaiUNetConfig(
        network="monai-unet",
        channels=(32, 64),
        attention=(True, True),
        norm_groups=16,
        num_res_blocks=1,
        condition=ConditionConfig(),
    ),
}


class PeakMode(TorchDispatchMode):
    """Adds up the storages that live after every operation; a convolution works on copies of input and output."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        inputs, outputs = tensors(args), tensors(result)
        for tensor in (*inputs, *outputs):
            storage = tensor.untyped_storage()
            self._live.setdefault(storage._cdata, (StorageWeakRef(storage), storage.nbytes()))
        self._live = {key: value for key, value in self._live.items() if not value[0].expired()}
        copies = 0
        if func is torch.ops.aten.convolution.default:
            copies = sum(tensor.numel() * tensor.element_size() for tensor in (inputs[0], outputs[0]))
        self.most = max(self.most, sum(size for _, size in self._live.values()) + copies)
        return result


def tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor) and not isinstance(leaf, nn.Parameter)]


def watched(make: Callable[[], nn.Module], run: Callable[[Any, Tensor], object], *shape: int) -> tuple[int, int]:
    """Most bytes and operations of one pass that runs on the meta device."""
    with torch.device("meta"):
        network = make().eval().requires_grad_(False)
        tensor = torch.empty(1, *shape) if len(shape) == 4 else torch.empty(shape)
    peak, flops = PeakMode(), FlopCounterMode(display=False)
    with torch.no_grad(), flops, peak:
        run(network, tensor)
    return peak.most, int(flops.get_total_flops())


def written(run: Callable[[Any, Array], None], config: object, batch: int, channels: int, grid: Int3) -> Footprint:
    meter = Meter()
    run(config, Array(meter, batch, channels, grid))
    assert meter.live >= 0
    return meter.footprint()


def assert_same(found: Footprint, expected: tuple[int, int]) -> None:
    assert found.bytes == pytest.approx(expected[0], rel=0.02)
    assert found.flops == pytest.approx(expected[1], rel=1e-3)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", AUTOENCODERS)
def test_autoencoders_are_written_down_as_they_run(name: str, shape: Int3) -> None:
    config = AUTOENCODERS[name]
    expected = watched(lambda: make_autoencoder(config), lambda network, x: network.encode(x), 1, *shape)
    assert_same(written(passes.encode, config, 1, 1, shape), expected)
    z, y, x = (n // f for n, f in zip(shape, config.downsampling_factor, strict=True))
    expected = watched(
        lambda: make_autoencoder(config),
        lambda network, latent: network.decode(latent),
        config.latent_channels,
        z,
        y,
        x,
    )
    assert_same(written(passes.decode, config, 1, config.latent_channels, (z, y, x)), expected)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", DENOISERS)
def test_denoisers_are_written_down_as_they_run(name: str, batch: int) -> None:
    config = DENOISERS[name]

    def run(network: Any, latent: Tensor) -> object:
        return network(latent, torch.empty(batch, device="meta"), None)

    expected = watched(lambda: make_denoiser(config, 4), run, batch, 4, *GRID)
    assert_same(written(passes.denoise, config, batch, 4, GRID), expected)


def test_codes_are_searched_in_as_many_rows() -> None:
    assert footprint.CHUNK_ROWS == codebook.CHUNK_ROWS


# --- before a model is loaded -----------------------------------------------------------------------------------------


def test_the_header_alone_gives_the_estimate_of_the_loaded_model_and_its_weights(model: Model) -> None:
    outline = Outline.of_header(read_header(model.path), "cpu", torch.get_num_threads())
    weights = 4 * sum(model.header.card.parameters.values())
    assert outline.weights_bytes == weights > 0
    for ask in (
        lambda model: estimate_generation(model, 3, steps=2),
        lambda model: estimate_reconstruction(model, (16, 70, 70), (0.2, 0.15, 0.15)),
        lambda model: estimate_uncertainty(model, (8, 32, 32), (0.2, 0.1, 0.1), 3),
    ):
        before, loaded = ask(outline), ask(model)
        assert before.memory_bytes == loaded.memory_bytes + weights == before.main_memory_bytes
        assert before.seconds == pytest.approx(loaded.seconds)
        assert before.lines[-1].startswith("the model is loaded first") and "loaded first" not in loaded.lines[-1]


def test_where_the_device_is_not_known_memory_is_told_and_no_time(model: Model) -> None:
    outline = Outline.of_header(read_header(model.path), None, 1)
    found = estimate_generation(outline, 2)
    on_cpu = estimate_generation(Outline.of_header(read_header(model.path), "cpu", 1), 2)
    assert found.memory_bytes == on_cpu.memory_bytes
    assert "of memory" in found.lines[0] and "looks for a GPU" in found.lines[1]
    assert not any(" s," in line or " min," in line for line in found.lines)


def test_a_model_of_stage_one_alone_is_refused_from_its_header_as_well(ldm: Model) -> None:
    header = read_header(ldm.path)
    config = header.config.model_copy(update={"denoiser": None})
    outline = Outline(config, "half", "cpu", 1)
    with pytest.raises(CheckpointError, match="model half is stage 1 alone"):
        estimate_generation(outline)
    assert estimate_reconstruction(outline, (8, 32, 32), (0.2, 0.1, 0.1)).memory_bytes > 0


@pytest.mark.parametrize("name", zoo.NAMES)
def test_no_torch_is_needed(name: str) -> None:
    code = (
        "import sys\n"
        "from napari_vqldm.card import read_header\n"
        "from napari_vqldm.estimate import Outline, estimate_generation\n"
        "from napari_vqldm.zoo import resolve\n"
        f"print(estimate_generation(Outline.of_header(read_header(resolve({name!r})), 'cpu', 2), 2).memory_bytes)\n"
        "assert not {'torch', 'monai'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    assert 2**26 < int(done.stdout) < 2**29
