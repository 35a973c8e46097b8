"""A checkpoint returns what was saved; a file that does not fit itself is refused before memory is taken."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_vqldm.card import METADATA_KEY, TrainingSummary, read_header
from napari_vqldm.checkpoint import Model, load_checkpoint, save_checkpoint
from napari_vqldm.config import ModelConfig
from napari_vqldm.errors import CheckpointError, ConfigError, FileError
from napari_vqldm.latent import LatentSpace
from napari_vqldm.models.denoiser import Denoiser

Build = Callable[[str], tuple[ModelConfig, LatentSpace, Denoiser]]


def split(path: Path) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """Table of tensors, our metadata, payload."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    table = json.loads(data[8 : 8 + length])
    metadata = json.loads(table.pop("__metadata__")[METADATA_KEY])
    return table, metadata, data[8 + length :]


def join(path: Path, table: dict[str, Any], metadata: dict[str, Any], payload: bytes) -> Path:
    text = json.dumps({**table, "__metadata__": {METADATA_KEY: json.dumps(metadata)}}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + payload)
    return path


def refused(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def never_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading the weights fails the test."""

    def fail(*_: object) -> None:
        pytest.fail("the weights were read")

    monkeypatch.setattr(safetensors.torch, "load", fail)
    monkeypatch.setattr("napari_vqldm.checkpoint._verify_hash", fail)
    monkeypatch.setattr("napari_vqldm.checkpoint._fill", fail)


def test_loading_returns_what_was_saved(tmp_path: Path, model: Model) -> None:
    path = save_checkpoint(
        tmp_path / "again.safetensors",
        config=model.config,
        space=model.space,
        denoiser=model.denoiser,
        dtype="float32",
        training=TrainingSummary(preset="tiny", seed=7, curve={"loss": [(1, 0.5)]}),
        card_fields={"gates": {"autoencoder": {"kind": "smoke", "passed": True}}},
    )
    again = load_checkpoint(path)
    assert again.config == model.config and again.name == model.name
    assert again.header.training.seed == 7 and not again.header.card.fully_gated
    assert again.header.card.parameters["autoencoder"] == sum(p.numel() for p in model.space.autoencoder.parameters())
    before = {**model.space.state_dict(), **(model.denoiser or torch.nn.Module()).state_dict()}
    after = {**again.space.state_dict(), **(again.denoiser or torch.nn.Module()).state_dict()}
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(p.requires_grad or p.is_meta for p in again.space.parameters())
    assert not again.space.training
    assert not any(b.is_meta for b in again.space.buffers())


def test_half_precision_storage_is_within_half_precision_and_keeps_the_codebook(build: Build, tmp_path: Path) -> None:
    config, space, denoiser = build("vq-ldm")
    path = save_checkpoint(tmp_path / "m.safetensors", config=config, space=space, denoiser=denoiser)
    again = load_checkpoint(path)
    for name, tensor in denoiser.state_dict().items():
        loaded = (again.denoiser or torch.nn.Module()).state_dict()[name]
        assert loaded.dtype == torch.float32
        torch.testing.assert_close(loaded, tensor, rtol=1e-3, atol=1e-6)
    assert torch.equal(again.space.quantizer.codebook, space.quantizer.codebook)
    assert torch.equal(again.space.mean, space.mean) and torch.equal(again.space.scale, space.scale)


def test_the_fingerprint_is_of_the_weights_alone(build: Build, tmp_path: Path) -> None:
    config, space, denoiser = build("ldm")
    hashes = set()
    for name in ("one", "two"):
        path = save_checkpoint(
            tmp_path / f"{name}.safetensors",
            config=config,
            space=space,
            denoiser=denoiser,
            card_fields={"description": name, "created": name},
        )
        hashes.add(read_header(path).card.weights_sha256)
    assert len(hashes) == 1
    with torch.no_grad():
        denoiser.conv_in.weight[0, 0, 0, 0, 0] += 0.5
    other = save_checkpoint(tmp_path / "three.safetensors", config=config, space=space, denoiser=denoiser)
    assert read_header(other).card.weights_sha256 not in hashes


def test_loading_leaves_the_random_state_alone(checkpoints: dict[str, Path]) -> None:
    before = torch.get_rng_state()
    load_checkpoint(checkpoints["vq-ldm"])
    assert torch.equal(before, torch.get_rng_state())


def test_stage_one_alone_is_a_checkpoint(build: Build, tmp_path: Path) -> None:
    config, space, _ = build("vq-ldm")
    path = save_checkpoint(tmp_path / "m.safetensors", config=config, space=space, denoiser=None)
    model = load_checkpoint(path)
    assert model.denoiser is None and model.config.denoiser is None
    assert set(model.header.card.parameters) == {"autoencoder"}


def test_saving_refuses_what_could_not_be_loaded(build: Build, tmp_path: Path) -> None:
    config, space, denoiser = build("ldm")
    keep: dict[str, Any] = {"config": config, "space": space, "denoiser": denoiser}
    with pytest.raises(CheckpointError, match="safetensors"):
        save_checkpoint(tmp_path / "m.pt", **keep)
    with pytest.raises(ConfigError, match="secret"):
        save_checkpoint(tmp_path / "m.safetensors", **keep, card_fields={"secret": 1})
    wider = config.model_copy(update={"autoencoder": config.autoencoder.model_copy(update={"widths": (8, 8)})})
    with pytest.raises(CheckpointError, match="expected shape"):
        save_checkpoint(tmp_path / "m.safetensors", **{**keep, "config": wider})
    with torch.no_grad():
        denoiser.conv_in.bias[0] = 1e6  # overflows half precision
    with pytest.raises(CheckpointError, match="infinite"):
        save_checkpoint(tmp_path / "m.safetensors", **keep)
    assert list(tmp_path.iterdir()) == []
    path = save_checkpoint(tmp_path / "m.safetensors", **keep, dtype="float32")
    content = path.read_bytes()
    with pytest.raises(FileError, match="--force"):
        save_checkpoint(path, **keep, dtype="float32")
    assert path.read_bytes() == content


def test_an_altered_weight_is_noticed(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    data = bytearray(checkpoints["ldm"].read_bytes())
    data[-2] ^= 1
    (tmp_path / "m.safetensors").write_bytes(data)
    assert "altered" in refused(tmp_path / "m.safetensors")


def test_an_executable_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"w": Trap()}, tmp_path / "zip.safetensors")
    torch.save({"w": Trap()}, tmp_path / "old.safetensors", _use_new_zipfile_serialization=False)
    for name in ("zip", "old"):
        assert "never opened" in refused(tmp_path / f"{name}.safetensors")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("part", "key", "value", "named"),
    [
        ("autoencoder", "widths", [1_000_000, 8], "expected shape"),
        ("autoencoder", "widths", [2**40, 2**40], "no possible network"),
        ("autoencoder", "decoder_blocks", [1, 10**9], "blocks"),
        ("autoencoder", "decoder_blocks", [1, 2], "missing"),
        ("denoiser", "condition", None, "belongs to no part"),
        ("denoiser", "blocks", [1, 10**9], "blocks"),
        ("denoiser", "norm_groups", 7, "multiples of norm_groups"),
        ("denoiser", "channels", [16, 16], "expected shape"),
    ],
)
@pytest.mark.usefixtures("never_read")
def test_a_configuration_that_does_not_fit_the_weights_is_refused_before_they_are_read(
    checkpoints: dict[str, Path], tmp_path: Path, part: str, key: str, value: Any, named: str
) -> None:
    table, metadata, payload = split(checkpoints["vq-ldm"])
    metadata["config"][part][key] = value
    assert named in refused(join(tmp_path / "m.safetensors", table, metadata, payload))


@pytest.mark.usefixtures("never_read")
def test_integer_weights_are_refused_before_they_are_read(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    table, metadata, payload = split(checkpoints["vq-ldm"])
    name = "autoencoder.quantizer.codebook"
    assert table[name]["dtype"] == "F32"
    table[name]["dtype"] = "I32"
    assert "floating point" in refused(join(tmp_path / "m.safetensors", table, metadata, payload))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(checkpoints: dict[str, Path], tmp_path: Path, bad: float) -> None:
    table, metadata, payload = split(checkpoints["ldm"])
    values = np.frombuffer(payload, np.float16).copy()
    values[5] = bad
    path = join(tmp_path / "m.safetensors", table, metadata, values.tobytes())
    message = refused(path)
    assert "altered" in message
    from napari_vqldm.card import parse_header
    from napari_vqldm.checkpoint import hash_weights

    with path.open("rb") as file:
        header = parse_header(file, path.stat().st_size, path)
    metadata["card"]["weights_sha256"] = hash_weights(
        (name, entry, values.tobytes()[entry.begin : entry.end]) for name, entry in header.tensors.items()
    )
    assert "NaN or infinite" in refused(join(path, table, metadata, values.tobytes()))


def test_an_unusable_device_is_one_line(checkpoints: dict[str, Path]) -> None:
    for device in ("cuda:99", "teapot"):
        with pytest.raises(CheckpointError, match="use cpu"):
            load_checkpoint(checkpoints["ldm"], device)


@settings(max_examples=100, deadline=None, database=None)
@given(position=st.integers(0, 2**20), value=st.integers(0, 255))
def test_a_flipped_byte_of_the_header_gives_a_checkpoint_error_or_a_model(
    checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, position: int, value: int
) -> None:
    data = bytearray(checkpoints["vq-ldm"].read_bytes())
    (length,) = struct.unpack("<Q", data[:8])
    data[position % (8 + length)] = value
    path = tmp_path_factory.getbasetemp() / "flipped.safetensors"
    path.write_bytes(data)
    try:
        model = load_checkpoint(path)
    except CheckpointError:  # the only error allowed
        return
    assert model.space.family == "vq-ldm"
