"""The header of a checkpoint is read without torch, and a hostile file gives one clear line."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_vqldm.card import (
    MAX_FILE_BYTES,
    MAX_HEADER_BYTES,
    METADATA_KEY,
    TrainingSummary,
    downsample_curve,
    read_header,
)
from napari_vqldm.errors import CheckpointError

SHA = "0" * 64
TENSORS: dict[str, Any] = {
    "autoencoder.a": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]},
    "autoencoder.b": {"dtype": "F32", "shape": [2], "data_offsets": [12, 20]},
}


def content(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "format_version": 1,
        "config": {"family": "ldm", "name": "tiny", "autoencoder": {"latent_channels": 2}},
        "card": {"name": "tiny", "family": "ldm", "weights_sha256": SHA, "limits": "none known"},
        "training": {"preset": "tiny", "curve": {"loss": [[1, 0.5], [2, 0.25]]}},
        "latent": {"mean": [0.5, -0.5], "scale": [1.0, 2.0]},
    }
    return {**values, **changes}


def with_config(**changes: Any) -> dict[str, Any]:
    return {"config": {**content()["config"], **changes}}


def build(values: Any = None, tensors: Any = None, payload: bytes = bytes(20)) -> bytes:
    entries = dict(TENSORS if tensors is None else tensors)
    entries["__metadata__"] = {METADATA_KEY: json.dumps(content() if values is None else values)}
    return frame(json.dumps(entries).encode(), payload)


def frame(text: bytes, payload: bytes = b"") -> bytes:
    return struct.pack("<Q", len(text)) + text + payload


def refused(folder: Path, data: bytes) -> str:
    """Write ``data``, read its header, return the one line of the error."""
    path = folder / "model.safetensors"
    path.write_bytes(data)
    with pytest.raises(CheckpointError) as caught:
        read_header(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    assert len(message) < 600
    return message


def test_a_good_header_returns_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(build())
    header = read_header(path)
    assert header.config.family == "ldm"
    assert header.card.limits == "none known"
    assert header.training.curve["loss"] == [(1, 0.5), (2, 0.25)]
    assert header.latent.mean == [0.5, -0.5]
    assert header.latent.scale == [1.0, 2.0]
    assert header.tensors["autoencoder.a"].shape == (2, 3)
    assert header.tensors["autoencoder.b"].dtype == "F32"
    assert header.data_bytes == 20
    assert path.stat().st_size == header.data_offset + 20


def test_reading_a_header_needs_neither_torch_nor_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(build())
    code = (
        "import sys; sys.modules.update(torch=None, safetensors=None)\n"
        "from napari_vqldm.card import read_header\n"
        f"assert read_header({str(path)!r}).card.name == 'tiny'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_file_truncated_at_any_byte_is_refused(tmp_path: Path) -> None:
    data = build()
    for length in range(len(data)):
        refused(tmp_path, data[:length])
    assert "truncated" in refused(tmp_path, data[:-1])
    assert "truncated" in refused(tmp_path, data[:100])
    assert "truncated" in refused(tmp_path, b"")


@pytest.mark.parametrize("length", [0, 1, MAX_HEADER_BYTES + 1, 2**40, 2**63, 2**64 - 1])
def test_an_absurd_header_length_is_refused_without_memory(tmp_path: Path, length: int) -> None:
    data = struct.pack("<Q", length) + build()[8:]
    tracemalloc.start()
    try:
        message = refused(tmp_path, data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "header" in message
    assert peak < 2**20


def test_pickle_and_zip_are_named_and_never_opened(tmp_path: Path) -> None:
    for start in (b"PK\x03\x04", b"\x80\x02", b"\x80\x04\x95", b"\x80\x05\x95"):
        assert "never opened" in refused(tmp_path, start + bytes(64))


@pytest.mark.parametrize("start", [b"PK", b"\x80\x02", b"\x80\x04"])
def test_a_header_whose_length_looks_like_a_pickle_is_read(tmp_path: Path, start: bytes) -> None:
    (length,) = struct.unpack("<Q", start + b"\x01" + bytes(5))
    text = build()[8:-20]
    path = tmp_path / "model.safetensors"
    path.write_bytes(frame(text.ljust(length), bytes(20)))
    assert path.read_bytes()[:2] == start
    assert read_header(path).card.name == "tiny"


def test_a_foreign_safetensors_file_is_refused(tmp_path: Path) -> None:
    foreign = {"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    assert "not a napari-vqldm checkpoint" in refused(tmp_path, frame(json.dumps(foreign).encode(), bytes(4)))
    foreign["__metadata__"] = {"format": "pt"}
    assert "not a napari-vqldm checkpoint" in refused(tmp_path, frame(json.dumps(foreign).encode(), bytes(4)))


@pytest.mark.parametrize(
    "text",
    [
        b"[1, 2]",
        b"{" * 200_000,
        b'{"a":' * 100_000,
        b"\xff\xfe{}",
        b'{"a": NaN}',
        b'{"a": 1, "a": 2}',
        b"null",
        b'{"a": ' + b"9" * 5000 + b"}",
        b"{}",
    ],
)
def test_a_header_that_is_not_a_json_object_is_refused(tmp_path: Path, text: bytes) -> None:
    refused(tmp_path, frame(text))


def test_a_newer_format_asks_for_an_upgrade_even_with_unknown_keys(tmp_path: Path) -> None:
    assert "upgrade" in refused(tmp_path, build(content(format_version=2, novelty=True)))
    for version in (0, -1, "1", 1.0, True, None):
        assert "format_version" in refused(tmp_path, build(content(format_version=version)))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"config": {"family": "gan"}}, "family"),
        ({"config": {"family": "ldm", "codebok": 1}}, "codebok"),
        ({"config": {"family": "vq-ldm"}}, "quantizer"),
        ({"card": {"name": "t", "family": "vq-ldm", "weights_sha256": SHA}}, "family"),
        ({"card": {"name": "t", "family": "ldm", "weights_sha256": "zz"}}, "weights_sha256"),
        ({"card": {"name": "t", "family": "ldm", "weights_sha256": SHA, "secret": 1}}, "secret"),
        ({"latent": {"mean": [0.0], "scale": [1.0]}}, "latent statistics"),
        ({"latent": {"mean": [0.0, 0.0], "scale": [1.0, 0.0]}}, "scale"),
        ({"latent": {"mean": [0.0, 0.0], "scale": [1.0, -1.0]}}, "scale"),
        ({"latent": {"mean": [0.0, 10**400], "scale": [1.0, 1.0]}}, "mean"),
        ({"latent": {"mean": [0.0, -1e39], "scale": [1.0, 1.0]}}, "mean"),  # infinite in float32
        ({"latent": {"mean": [0.0, 0.0], "scale": [1.0, 1e39]}}, "scale"),
        ({"latent": {"mean": [0.0, 0.0], "scale": [1.0, 1e-50]}}, "scale"),  # 0 in float32
        (with_config(window=[0, 128, 128]), "window"),
        (with_config(window=[-32, 128, 128]), "window"),
        (with_config(window=[32, 128, 2**40]), "window"),
        (with_config(voxel_size_range_um=[[0.2, 0.1, 0.1], [0.1, 0.1, 0.1]]), "low <= high"),
        (with_config(voxel_size_range_um=[[0, 0.1, 0.1], [0.2, 0.1, 0.1]]), "voxel_size_range_um"),
        (with_config(voxel_size_range_um=[[0.2, 0.1, 0.1], [0.2, 0.1, 101]]), "voxel_size_range_um"),
        (with_config(simulation={"voxel_size_um": [0, 0.1, 0.1]}), "voxel_size_um"),
        ({"training": {"curve": {"loss": [[i, 0.0] for i in range(201)]}}}, "curve"),
    ],
)
def test_content_that_contradicts_itself_is_refused(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    assert named in refused(tmp_path, build(content(**changes)))


def entry(**changes: Any) -> dict[str, Any]:
    """The two tensors, the second changed."""
    return {**TENSORS, "autoencoder.b": {**TENSORS["autoencoder.b"], **changes}}


@pytest.mark.parametrize(
    ("tensors", "named"),
    [
        (entry(dtype="F8_E4M3"), "F8_E4M3"),
        (entry(dtype="object"), "object"),
        (entry(dtype=["F32"]), "dtype"),
        (entry(dtype="F16"), "needs 4 bytes"),
        (entry(shape=[3]), "needs 12 bytes"),
        (entry(shape=[-2]), "shape"),
        (entry(shape=[True, 2]), "shape"),
        (entry(shape=[1] * 9), "shape"),
        (entry(shape=[2.0]), "shape"),
        (entry(shape="2"), "shape"),
        (entry(shape=[2**61] * 8), "needs"),
        (entry(data_offsets=[8, 16]), "overlaps"),
        (entry(data_offsets=[16, 24]), "gap"),
        (entry(data_offsets=[20, 12]), "data_offsets"),
        (entry(data_offsets=[12]), "data_offsets"),
        (entry(data_offsets=[-8, 0]), "data_offsets"),
        (entry(shape=[2**40], data_offsets=[12, 12 + 2**42]), "truncated"),
        (entry(extra=1), "expected dtype, shape and data_offsets"),
        ({"autoencoder.a": 3}, "expected dtype, shape and data_offsets"),
        ({"autoencoder.a": TENSORS["autoencoder.a"]}, "belong to no tensor"),
        ({}, "expected 1 to"),
    ],
)
def test_a_table_of_tensors_that_does_not_match_the_bytes_is_refused(
    tmp_path: Path, tensors: dict[str, Any], named: str
) -> None:
    assert named in refused(tmp_path, build(tensors=tensors))


def test_too_many_tensors_are_refused(tmp_path: Path) -> None:
    many = {f"t{i}": {"dtype": "F16", "shape": [0], "data_offsets": [0, 0]} for i in range(5000)}
    assert "5000" in refused(tmp_path, build(tensors=many, payload=b""))


def test_a_huge_file_is_refused_by_its_length(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(build())
    os.truncate(path, MAX_FILE_BYTES + 1)  # sparse: takes no disk
    with pytest.raises(CheckpointError, match="at most"):
        read_header(path)


def test_what_is_no_file_is_refused_and_a_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    for name, said in (("absent", "No such file"), ("", "folder"), ("pipe.safetensors", "special file")):
        with pytest.raises(CheckpointError, match=said):
            read_header(tmp_path / name)


HEADER_END = len(build()) - 20


@settings(max_examples=400, deadline=None, database=None)
@given(flips=st.lists(st.tuples(st.integers(0, HEADER_END - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_flipped_bytes_give_a_checkpoint_error_or_a_header(
    tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[int, int]]
) -> None:
    data = bytearray(build())
    for position, value in flips:
        data[position] = value
    path = tmp_path_factory.getbasetemp() / "flipped.safetensors"
    path.write_bytes(data)
    try:
        header = read_header(path)
    except CheckpointError:  # the only error allowed
        header = None
    if header is not None:
        assert header.data_bytes == 20
        assert header.format_version == 1


def test_a_down_sampled_curve_keeps_its_ends_and_its_order() -> None:
    curve = downsample_curve([(i, i / 7) for i in range(1001)])
    steps = [step for step, _ in curve]
    assert len(curve) == 200
    assert steps[0] == 0
    assert steps[-1] == 1000
    assert steps == sorted(set(steps))
    assert downsample_curve([(3, 1.5)]) == [(3, 1.5)]
    TrainingSummary(curve={"loss": curve})
