"""Memory and time of a job before it starts, and the self-test behind them. No Qt, and torch only when they run."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from napari_vqldm.plugin.inference.engine import Engine, ModelSpec
from napari_vqldm.plugin.inference.jobs import Note
from napari_vqldm.volume import Float3, Int3

if TYPE_CHECKING:
    from napari_vqldm.checkpoint import Model
    from napari_vqldm.estimate import Estimate
    from napari_vqldm.plugin.inference.devices import Precision
    from napari_vqldm.self_test import SelfTest

# A question about a request, to be asked on the inference thread, where the model is.
Ask: TypeAlias = "Callable[[Model, Precision, SelfTest | None], Estimate]"
Work = Callable[[Engine], Generator[Any, None, Any]]

_SAMPLED_BY = ("steps", "sampler", "guidance_scale")


@dataclass(frozen=True)
class TooLarge:
    """What a job returns that was not started, because it does not fit in the memory that is free."""

    estimate: Estimate


# --- work -------------------------------------------------------------------------------------------------------------


def estimate_work(spec: ModelSpec, ask: Ask) -> Work:
    """Return the work that estimates a request; its result is an `Estimate`, None where the model is not loaded."""

    def work(engine: Engine) -> Generator[Any, None, Estimate | None]:
        if not engine.has_loaded(spec):
            return None
        model = yield from engine.use(spec)
        return ask(model, engine.precision, self_test_of(engine, model))

    return work


def check(engine: Engine, model: Model, ask: Ask | None) -> Generator[Note, None, TooLarge | None]:
    """Decide whether a job may go on: ``refusal = yield from check(engine, model, ask)``, right after `Engine.use`.

    Parameters
    ----------
    engine : Engine
        Of the inference thread.
    model : Model
        What `Engine.use` returned.
    ask : Ask or None
        Estimates the job. None: the user wants it anyway.

    Yields
    ------
    Note
        What the job takes, when it goes on.

    Returns
    -------
    TooLarge or None
        None: go on. Else the job returns this instead of computing.
    """
    if ask is None:
        return None
    estimate = ask(model, engine.precision, self_test_of(engine, model))
    if not estimate.fits:
        return TooLarge(estimate)
    yield Note(f"Running: {estimate.lines[0]}...")
    return None


def self_test_of(engine: Engine, model: Model) -> SelfTest | None:
    """Return the self-test of a model as it computes now, else that in the other precision; None without any."""
    from napari_vqldm.self_test import SelfTest

    precisions: tuple[Precision, ...] = (engine.precision, "fp32", "bf16")
    for precision in precisions:
        found = engine.self_test_of(model, precision)
        if found is not None:
            return SelfTest.from_dict(found)
    return None


def self_test_work(spec: ModelSpec) -> Work:
    """Return the work that times this machine; it yields a `SelfTestStep` each and returns the `SelfTest`."""

    def work(engine: Engine) -> Generator[Any, None, SelfTest | None]:
        from napari_vqldm.self_test import self_test_steps

        model = yield from engine.use(spec)
        key, result = engine.timing_key(model), None
        for step in self_test_steps(model, engine.precision):
            result = step.result if step.result is not None else result
            yield step
        if result is not None:
            engine.remember({key: result.to_dict()})
        return result

    return work


def missing_self_test_work(spec: ModelSpec) -> Work:
    """Return the same for a model that is loaded and was not timed yet; else the work does nothing and returns None."""

    def work(engine: Engine) -> Generator[Any, None, SelfTest | None]:
        if not engine.has_loaded(spec):
            return None
        model = yield from engine.use(spec)
        if self_test_of(engine, model) is not None:
            return None
        result: SelfTest | None = yield from self_test_work(spec)(engine)
        return result

    return work


# --- questions --------------------------------------------------------------------------------------------------------


def generation_ask(request: Mapping[str, Any]) -> Ask:
    """Return the question what `generate` takes; the request is that of `SampleState.to_request`."""
    chosen = _picked(request, ("count", "shape", *_SAMPLED_BY, "batch"))

    def ask(model: Model, precision: Precision, self_test: SelfTest | None) -> Estimate:
        from napari_vqldm.estimate import estimate_generation

        return estimate_generation(model, **chosen, precision=precision, self_test=self_test)

    return ask


def reconstruction_ask(shape: Int3, voxel_size_um: Float3, frames: int, request: Mapping[str, Any]) -> Ask:
    """Return the question what `reconstruct` takes for so many stacks (Z, Y, X).

    The request is that of `ReconstructState.to_request`.
    """
    chosen = _picked(request, ("max_voxels",))
    is_given = request.get("intensity") is not None

    def ask(model: Model, _precision: Precision, self_test: SelfTest | None) -> Estimate:
        from napari_vqldm.estimate import estimate_reconstruction

        return estimate_reconstruction(
            model, shape, voxel_size_um, **chosen, frames=frames, is_intensity_given=is_given, self_test=self_test
        )

    return ask


def uncertainty_ask(
    shape: Int3, voxel_size_um: Float3, request: Mapping[str, Any], tiles: Mapping[str, Any] | None = None
) -> Ask:
    """Return the question what `uncertainty` takes; the requests are those of `uncertainty_work`."""
    chosen = {**_picked(request, ("draws", "kind")), **_picked(tiles or {}, ("max_voxels",))}

    def ask(model: Model, _precision: Precision, self_test: SelfTest | None) -> Estimate:
        from napari_vqldm.estimate import estimate_uncertainty

        return estimate_uncertainty(model, shape, voxel_size_um, **chosen, self_test=self_test)

    return ask


def frames_ask(num: int, request: Mapping[str, Any]) -> Ask:
    """Return the question what so many frames between two seeds take; the request is one of `interpolate`."""
    chosen = _picked(request, _SAMPLED_BY)

    def ask(model: Model, precision: Precision, self_test: SelfTest | None) -> Estimate:
        from napari_vqldm.estimate import estimate_interpolation

        return estimate_interpolation(model, num, **chosen, precision=precision, self_test=self_test)

    return ask


def ends_ask(shape: Int3, voxel_size_um: Float3, seed: Mapping[str, Any] | None = None) -> Ask:
    """Return the question what it takes to encode both ends of a way and decode each once.

    Parameters
    ----------
    shape, voxel_size_um : tuple
        Grid (Z, Y, X) and voxel size (z, y, x), um, of both ends.
    seed : mapping, optional
        Request of `generate` for an end that is sampled first.
    """
    sampled = None if seed is None else generation_ask(seed)

    def ask(model: Model, precision: Precision, self_test: SelfTest | None) -> Estimate:
        from napari_vqldm.estimate import estimate_encoding, estimate_interpolation, estimate_sequence

        first = [] if sampled is None else [sampled(model, precision, self_test)]
        encoding = estimate_encoding(model, shape, voxel_size_um, self_test=self_test)
        decoding = estimate_interpolation(model, 2, shape, voxel_size_um, self_test=self_test)
        return estimate_sequence(model, [*first, encoding, encoding, decoding])

    return ask


def _picked(request: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Arguments that an estimate depends on."""
    return {name: request[name] for name in names if name in request}
