"""Estimates before jobs: what is asked, what is known, the check before a job runs, and the self-test. No window."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from napari_vqldm.card import read_header
from napari_vqldm.errors import CheckpointError, ConfigError
from napari_vqldm.estimate import (
    Estimate,
    Outline,
    estimate_encoding,
    estimate_generation,
    estimate_interpolation,
    estimate_reconstruction,
    estimate_sequence,
    estimate_uncertainty,
    jobs,
)
from napari_vqldm.plugin.inference.engine import Engine, ModelSpec
from napari_vqldm.plugin.inference.estimating import (
    Ask,
    TooLarge,
    check,
    ends_ask,
    estimate_work,
    frames_ask,
    generation_ask,
    missing_self_test_work,
    reconstruction_ask,
    self_test_of,
    self_test_work,
    uncertainty_ask,
)
from napari_vqldm.plugin.inference.jobs import Note
from napari_vqldm.plugin.state.interpolate import End, InterpolateState
from napari_vqldm.plugin.state.reconstruct import ReconstructState
from napari_vqldm.plugin.state.sample import SampleState

SHAPE, SIZE = (8, 24, 24), (0.2, 0.1, 0.1)


@pytest.fixture(scope="module")
def spec(tiny_checkpoints: dict[str, Path]) -> ModelSpec:
    return ModelSpec(str(tiny_checkpoints["ldm"]), "cpu", threads=1)


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture(autouse=True)
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Set how many bytes are free; from the start enough, and the same for every question."""

    def set_free(num_bytes: int) -> None:
        monkeypatch.setattr(jobs, "available_bytes", lambda *_: num_bytes)

    set_free(2**34)
    return set_free


def drain(steps: Iterator[Any]) -> tuple[list[Any], Any]:
    """What a generator yields, and what it returns."""
    seen = []
    while True:
        try:
            seen.append(next(steps))
        except StopIteration as stop:
            return seen, stop.value


def use(engine: Engine, spec: ModelSpec) -> Any:
    return drain(engine.use(spec))[1]


def timed(engine: Engine, spec: ModelSpec) -> Any:
    return drain(self_test_work(spec)(engine))[1]


# --- questions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_test", [False, True])
def test_questions_are_those_of_the_core(engine: Engine, spec: ModelSpec, with_test: bool) -> None:
    model = use(engine, spec)
    test = timed(engine, spec) if with_test else None
    sample = SampleState(3, *(8, 16, 16), steps=3, sampler="heun", guidance_scale=1.5, batch=2).to_request()
    seeds = InterpolateState(End(True, 1), End(True, 2), steps=5).to_request()
    tiles = ReconstructState(max_voxels=2**15).to_request()
    map_ = ReconstructState(draws=5).to_uncertainty_request()
    given = ReconstructState(background=1.0, scale=2.0).to_request()
    picked = {key: sample[key] for key in ("count", "shape", "steps", "sampler", "guidance_scale", "batch")}
    pairs: list[tuple[Ask, Estimate]] = [
        (generation_ask(sample), estimate_generation(model, **picked, self_test=test)),
        (
            reconstruction_ask(SHAPE, SIZE, 4, tiles),
            estimate_reconstruction(model, SHAPE, SIZE, 2**15, frames=4, self_test=test),
        ),
        (
            reconstruction_ask(SHAPE, SIZE, 1, given),
            estimate_reconstruction(model, SHAPE, SIZE, is_intensity_given=True, self_test=test),
        ),
        (
            reconstruction_ask(SHAPE, SIZE, 1, {}, is_compared=True),
            estimate_reconstruction(model, SHAPE, SIZE, is_compared=True, self_test=test),
        ),
        (
            uncertainty_ask(SHAPE, SIZE, map_, tiles),
            estimate_uncertainty(model, SHAPE, SIZE, 5, "noise", 2**15, self_test=test),
        ),
        (frames_ask(9, seeds), estimate_interpolation(model, 9, steps=5, self_test=test)),
    ]
    for ask, expected in pairs:
        assert ask(model, "fp32", test) == expected
        assert expected.is_measured is with_test
    assert len({expected.seconds for _, expected in pairs}) == len(pairs)


def test_both_ends_take_the_time_of_all_parts_and_the_memory_of_the_largest(engine: Engine, spec: ModelSpec) -> None:
    model = use(engine, spec)
    seed = {"count": 1, "shape": (8, 16, 16), "steps": 4}
    shape = seed["shape"]
    parts = [
        estimate_generation(model, **seed),
        estimate_encoding(model, shape, SIZE),
        estimate_encoding(model, shape, SIZE),
        estimate_interpolation(model, 2, shape, SIZE),
    ]
    found = ends_ask(shape, SIZE, seed)(model, "fp32", None)
    assert found.seconds == pytest.approx(sum(part.seconds for part in parts))
    assert found.memory_bytes == max(part.memory_bytes for part in parts)
    without = ends_ask(shape, SIZE)(model, "fp32", None)
    assert without.seconds == pytest.approx(sum(part.seconds for part in parts[1:]))
    with pytest.raises(ConfigError, match="one estimate or more"):
        estimate_sequence(model, [])


def test_a_sequence_is_told_like_its_parts(engine: Engine, spec: ModelSpec, free: Callable[[int], None]) -> None:
    model = use(engine, spec)
    one = estimate_encoding(model, SHAPE, SIZE)
    assert estimate_sequence(model, [one]) == one
    free(1)
    assert not estimate_sequence(model, [one]).fits
    assert "does not fit" in estimate_sequence(model, [one]).lines[-1]


# --- work -------------------------------------------------------------------------------------------------------------


def test_nothing_is_loaded_for_an_estimate(
    engine: Engine, spec: ModelSpec, tiny_checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = reconstruction_ask(SHAPE, SIZE, 1, {})
    header = read_header(tiny_checkpoints["ldm"])
    before = ask(Outline.of_header(header, "cpu", 1), "fp32", None)

    def refuse(_spec: ModelSpec) -> Any:
        pytest.fail("the estimate loads a model")

    with monkeypatch.context() as patch:
        patch.setattr(engine, "use", refuse)
        assert drain(estimate_work(spec, ask)(engine)) == ([], before)
        assert drain(missing_self_test_work(spec)(engine)) == ([], None)
    model = use(engine, spec)
    loaded = ask(model, "fp32", None)
    assert drain(estimate_work(spec, ask)(engine)) == ([], loaded) and loaded.memory_bytes < before.memory_bytes
    with monkeypatch.context() as patch:
        patch.setattr(engine, "use", refuse)
        for other in (
            dataclasses.replace(spec, path=str(tiny_checkpoints["vq-ldm"])),
            dataclasses.replace(spec, precision="bf16"),  # not tried yet
        ):
            assert "loaded first" in drain(estimate_work(other, ask)(engine))[1].lines[-1]
        engine.free()
        assert drain(estimate_work(spec, ask)(engine)) == ([], before)
        with pytest.raises(CheckpointError):
            drain(estimate_work(dataclasses.replace(spec, path="gone.safetensors"), ask)(engine))


def test_the_device_is_guessed_before_torch_is_there_where_there_is_no_choice(
    engine: Engine, spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    auto = dataclasses.replace(spec, device="auto")
    for has_gpu, device in ((False, "cpu"), (True, None)):
        monkeypatch.setattr("napari_vqldm.plugin.inference.engine.may_have_gpu", lambda has_gpu=has_gpu: has_gpu)
        assert engine.likely_device(auto) == device
        lines = drain(estimate_work(auto, generation_ask({}))(engine))[1].lines
        assert ("looks for a GPU" in lines[1]) is has_gpu
    assert engine.likely_device(spec) == "cpu"
    assert engine.likely_device(dataclasses.replace(spec, device="cuda")) is None
    use(engine, auto)  # now it is known
    assert engine.likely_device(auto) == engine.device


def test_a_self_test_is_used_also_when_the_model_was_let_go(engine: Engine, spec: ModelSpec) -> None:
    timed(engine, spec)
    loaded = drain(estimate_work(spec, generation_ask({}))(engine))[1]
    engine.free()
    found = drain(estimate_work(spec, generation_ask({}))(engine))[1]
    assert found.is_measured and found.seconds == pytest.approx(loaded.seconds)
    others = dataclasses.replace(spec, threads=2)
    assert not drain(estimate_work(others, generation_ask({}))(engine))[1].is_measured


def test_a_loaded_model_whose_file_is_gone_is_still_estimated(
    engine: Engine, tiny_checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes(tiny_checkpoints["ldm"].read_bytes())
    spec = ModelSpec(str(path), "cpu", threads=1)
    use(engine, spec)
    path.write_bytes(tiny_checkpoints["vq-ldm"].read_bytes())
    assert not engine.has_loaded(spec)
    use(engine, spec)
    path.unlink()
    assert engine.has_loaded(spec)


def test_the_check_lets_go_on_what_fits_or_is_forced(
    engine: Engine, spec: ModelSpec, free: Callable[[int], None]
) -> None:
    model = use(engine, spec)
    ask = generation_ask({"count": 2})
    notes, refusal = drain(check(engine, model, ask))
    assert refusal is None
    assert notes == [Note(f"Running: {estimate_generation(model, 2).lines[0]}...")]
    free(1)
    notes, refusal = drain(check(engine, model, ask))
    assert notes == [] and refusal == TooLarge(estimate_generation(model, 2))
    assert drain(check(engine, model, None)) == ([], None)


def test_the_self_test_is_remembered_and_not_done_twice(engine: Engine, spec: ModelSpec) -> None:
    model = use(engine, spec)
    assert self_test_of(engine, model) is None
    steps, result = drain(missing_self_test_work(spec)(engine))
    assert [step.index for step in steps] == list(range(steps[0].total))
    assert self_test_of(engine, model) == result
    assert result.weights_sha256 == model.weights_sha256
    assert drain(missing_self_test_work(spec)(engine)) == ([], None)
    use(engine, dataclasses.replace(spec, precision="bf16"))
    assert self_test_of(engine, model) == result  # holds times of both
    use(engine, dataclasses.replace(spec, threads=2))
    assert self_test_of(engine, model) is None
    use(engine, spec)


def test_a_self_test_that_is_cancelled_leaves_nothing(engine: Engine, spec: ModelSpec) -> None:
    model = use(engine, spec)
    steps = self_test_work(spec)(engine)
    next(steps)
    steps.close()
    assert self_test_of(engine, model) is None
