"""What the inference thread keeps: one model, its fallbacks, decoded frames."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_vqldm.errors import CheckpointError, ConfigError
from napari_vqldm.plugin.inference import devices
from napari_vqldm.plugin.inference.cache import ByteCache
from napari_vqldm.plugin.inference.engine import Engine, ModelSpec
from napari_vqldm.plugin.inference.jobs import Note


def use(engine: Engine, spec: ModelSpec) -> tuple[Any, list[str]]:
    """Run `Engine.use` to its end; return the model and the notes."""
    generator, notes = engine.use(spec), []
    while True:
        try:
            note = next(generator)
        except StopIteration as stop:
            return stop.value, notes
        assert isinstance(note, Note)
        notes.append(note.text)


@pytest.fixture
def checkpoint(tiny_checkpoints: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copy(tiny_checkpoints["ldm"], tmp_path / "mine.safetensors"))


@pytest.fixture
def engine() -> Engine:
    return Engine()


CPU = {"device": "cpu", "threads": 1}


def test_a_model_is_loaded_once_and_kept(engine: Engine, checkpoint: Path) -> None:
    model, notes = use(engine, ModelSpec(checkpoint, **CPU))
    assert model.name == "tiny-ldm" and notes[-1] == "Loading mine..."
    again, notes = use(engine, ModelSpec(str(checkpoint), **CPU))
    assert again is model and notes == []


def test_one_model_is_kept_and_the_one_before_is_let_go(engine: Engine, tiny_checkpoints: dict[str, Path]) -> None:
    first, _ = use(engine, ModelSpec(tiny_checkpoints["ldm"], **CPU))
    ref = weakref.ref(first)
    del first
    second, _ = use(engine, ModelSpec(tiny_checkpoints["vq-ldm"], **CPU))
    assert second.config.family == "vq-ldm" and ref() is None
    ref = weakref.ref(second)
    del second
    engine.free()
    assert ref() is None


def test_a_bundled_model_is_known_by_name(engine: Engine) -> None:
    model, notes = use(engine, ModelSpec("ldm", **CPU))
    assert model.config.family == "ldm" and notes[-1] == "Loading ldm..."
    assert use(engine, ModelSpec("ldm", **CPU)) == (model, [])


def test_a_changed_file_is_loaded_again(engine: Engine, checkpoint: Path, tiny_checkpoints: dict[str, Path]) -> None:
    first, _ = use(engine, ModelSpec(checkpoint, **CPU))
    shutil.copy(tiny_checkpoints["vq-ldm"], checkpoint)
    second, notes = use(engine, ModelSpec(checkpoint, **CPU))
    assert second.config.family == "vq-ldm" and first.config.family == "ldm"
    assert notes == ["mine.safetensors has changed: loading it again..."]


def test_a_deleted_file_leaves_the_loaded_model_in_use_and_says_so_once(engine: Engine, checkpoint: Path) -> None:
    model, _ = use(engine, ModelSpec(checkpoint, **CPU))
    content = checkpoint.read_bytes()
    checkpoint.unlink()
    again, notes = use(engine, ModelSpec(checkpoint, **CPU))
    assert again is model
    assert notes == ["mine.safetensors is gone from its folder: the loaded model stays in use"]
    assert use(engine, ModelSpec(checkpoint, **CPU)) == (model, [])
    checkpoint.write_bytes(content)
    reloaded, _ = use(engine, ModelSpec(checkpoint, **CPU))
    assert reloaded.weights_sha256 == model.weights_sha256
    checkpoint.unlink()
    engine.free()
    with pytest.raises(CheckpointError, match="no model"):
        use(engine, ModelSpec(checkpoint, **CPU))


def test_a_bad_file_keeps_the_earlier_model(engine: Engine, checkpoint: Path, tmp_path: Path) -> None:
    model, _ = use(engine, ModelSpec(checkpoint, **CPU))
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(checkpoint.read_bytes()[:-10])
    with pytest.raises(CheckpointError):
        use(engine, ModelSpec(damaged, **CPU))
    assert use(engine, ModelSpec(checkpoint, **CPU)) == (model, [])


def test_a_checkpoint_of_a_newer_format_is_refused_in_its_own_words(
    engine: Engine, checkpoint: Path, tmp_path: Path
) -> None:
    newer = rewritten(checkpoint, tmp_path / "newer.safetensors", format_version=99)
    with pytest.raises(CheckpointError, match="upgrade napari-vqldm"):
        use(engine, ModelSpec(newer, **CPU))


def rewritten(source: Path, target: Path, **changes: object) -> Path:
    """Copy a checkpoint with other values in its metadata."""
    from napari_vqldm.card import METADATA_KEY

    data = source.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    content = json.loads(header["__metadata__"][METADATA_KEY])
    header["__metadata__"][METADATA_KEY] = json.dumps(content | changes)
    text = json.dumps(header).encode()
    target.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])
    return target


def test_no_model_is_a_request_to_choose_one(engine: Engine) -> None:
    with pytest.raises(CheckpointError, match="choose one on the Model tab"):
        use(engine, ModelSpec("", **CPU))
    with pytest.raises(CheckpointError, match="choose one on the Model tab"):
        engine.preview_decoder()


def test_absent_devices_fall_back_to_the_cpu_with_one_note(engine: Engine, checkpoint: Path) -> None:
    for device in ("cuda", "cuda:3", "mps"):
        model, notes = use(engine, ModelSpec(checkpoint, device, threads=1))
        assert str(model.device) == engine.device == "cpu"
        assert notes[0].startswith(device) and notes[0].endswith(": using cpu")
        assert use(engine, ModelSpec(checkpoint, device, threads=1)) == (model, [])
    with pytest.raises(ConfigError, match="expected device auto"):
        use(engine, ModelSpec(checkpoint, "tpu-x", threads=1))
    with pytest.raises(ConfigError, match="fp32 or bf16"):
        use(engine, ModelSpec(checkpoint, "cpu", "fp8", threads=1))  # type: ignore[arg-type]


def test_a_device_that_cannot_run_the_networks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch.nn.functional as F

    def refuse(*_: object, **__: object) -> None:
        raise NotImplementedError("Conv3D is not supported on MPS")

    monkeypatch.setattr(F, "conv3d", refuse)
    monkeypatch.setattr(devices, "_found", lambda: ["meta"])
    name, note = devices.choose_device("auto")
    assert name == "cpu" and note == "meta cannot run our networks (Conv3D is not supported on MPS): using cpu"
    precision, note = devices.choose_precision("cpu", "bf16")
    assert precision == "fp32" and note.startswith("bf16 does not work on cpu (Conv3D is not supported")


def test_bf16_works_here_and_reaches_the_work(engine: Engine, checkpoint: Path) -> None:
    _, notes = use(engine, ModelSpec(checkpoint, "cpu", "bf16", 1))
    assert engine.precision == "bf16" and notes == ["Loading mine..."]


def test_devices_are_listed_with_free_memory(engine: Engine, checkpoint: Path) -> None:
    use(engine, ModelSpec(checkpoint, **CPU))
    cpu = engine.devices()[0]
    assert cpu.name == "cpu" and cpu.label == "CPU, 1 thread"
    if sys.platform == "linux":
        assert cpu.free_bytes is not None and cpu.free_bytes > 2**20


def test_threads_are_set_and_given_back_after_an_interruption(engine: Engine, checkpoint: Path) -> None:
    import torch

    before = torch.get_num_threads()
    try:
        use(engine, ModelSpec(checkpoint, "cpu", threads=2))
        assert torch.get_num_threads() == 2
        with engine.suspended():
            use(engine, ModelSpec(checkpoint, "cpu", "bf16", threads=1))
            assert torch.get_num_threads() == 1 and engine.precision == "bf16"
        assert torch.get_num_threads() == 2 and engine.precision == "fp32"
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(sys.platform != "linux", reason="counts the cores that this process may use")
@pytest.mark.parametrize("cores, threads", [(1, 1), (2, 2), (3, 2), (16, 15)])
def test_one_core_is_left_to_the_window(monkeypatch: pytest.MonkeyPatch, cores: int, threads: int) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    assert devices.default_threads() == threads
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert devices.default_threads() == 5


def test_the_preview_decoder_is_fitted_once_a_model(engine: Engine, tiny_checkpoints: dict[str, Path]) -> None:
    model, _ = use(engine, ModelSpec(tiny_checkpoints["ldm"], **CPU))
    decoder = engine.preview_decoder()
    assert engine.preview_decoder(model) is decoder
    channels = model.space.autoencoder.latent_channels
    grid = tuple(n // f for n, f in zip(model.config.window, model.space.autoencoder.downsampling_factor, strict=True))
    assert decoder.decode(np.zeros((channels, *grid), np.float32)).shape == model.config.window
    use(engine, ModelSpec(tiny_checkpoints["vq-ldm"], **CPU))
    assert engine.preview_decoder() is not decoder


def test_self_tests_are_remembered_for_what_they_depend_on(engine: Engine, checkpoint: Path) -> None:
    model, _ = use(engine, ModelSpec(checkpoint, **CPU))
    assert engine.self_test_of(model) is None
    engine.remember({engine.timing_key(model): {"seconds_per_step": 0.5}})
    assert engine.self_test_of(model) == {"seconds_per_step": 0.5}
    assert engine.self_test_of(model, "bf16") is None
    later = Engine()
    later.remember(json.loads(json.dumps(engine.self_tests)))
    assert later.self_test_of(model) == {"seconds_per_step": 0.5}


@pytest.mark.slow
@pytest.mark.both_bindings
def test_loading_pytorch_is_announced_before_it_is_imported(checkpoint: Path) -> None:
    code = (
        "import sys\n"
        "from napari_vqldm.plugin.inference.engine import Engine, ModelSpec\n"
        "import napari_vqldm.plugin.inference.thread, napari_vqldm.plugin.inference.failures\n"
        "engine = Engine()\n"
        "assert engine.devices() == ()\n"
        f"steps = engine.use(ModelSpec({str(checkpoint)!r}, 'cpu', threads=1))\n"
        "note = next(steps)\n"
        "assert 'torch' not in sys.modules, 'too early'\n"
        "print(note.text)\n"
        "print(next(steps).text)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines() == ["Loading PyTorch...", "Loading mine..."], done.stderr


# --- frames -----------------------------------------------------------------------------------------------------------


def array(num_bytes: int) -> np.ndarray:
    return np.zeros(num_bytes, np.uint8)


def test_the_least_recently_used_array_goes_first() -> None:
    cache = ByteCache(100)
    for key in "abc":
        assert cache.put(key, array(30))
    assert cache.get("a") is not None  # used again
    assert "b" in cache  # looking is no use
    cache.put("d", array(30))
    assert [key for key in "abcd" if key in cache] == ["a", "c", "d"]
    assert cache.num_bytes == 90 and len(cache) == 3


def test_bytes_are_counted_exactly_and_never_above_the_budget() -> None:
    rng, cache = np.random.default_rng(0), ByteCache(1000)
    kept: dict[int, int] = {}
    for _ in range(500):
        key, size = int(rng.integers(20)), int(rng.integers(1, 400))
        cache.put(key, array(size))
        kept[key] = size
        kept = {k: s for k, s in kept.items() if k in cache}
        assert cache.num_bytes == sum(kept.values()) <= 1000
    cache.budget_bytes = 300
    assert cache.num_bytes <= 300
    cache.put("last", array(200))
    before = cache.num_bytes
    cache.discard("last")
    cache.discard("absent")
    assert cache.num_bytes == before - 200
    cache.put("last", array(200))
    cache.clear()
    assert cache.num_bytes == 0 and len(cache) == 0 and cache.get(1) is None


def test_an_array_above_the_budget_is_refused_and_drives_nothing_out() -> None:
    cache = ByteCache(100)
    cache.put("small", array(60))
    assert not cache.put("large", array(101))
    assert "small" in cache and "large" not in cache
    assert not ByteCache(0).put("any", array(1))
    with pytest.raises(ConfigError, match="0 bytes or more"):
        ByteCache(-1)
