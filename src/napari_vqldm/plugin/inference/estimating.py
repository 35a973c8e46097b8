"""Memory and time of a job before it starts, and the self-test behind them. No Qt, and torch only when they run."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from napari_vqldm.card import read_header
from napari_vqldm.plugin.inference.devices import default_threads
from napari_vqldm.plugin.inference.engine import Engine, ModelSpec, timing_key_of
from napari_vqldm.plugin.inference.jobs import Note
from napari_vqldm.volume import Float3, Int3
from napari_vqldm.zoo import resolve

if TYPE_CHECKING:
    from napari_vqldm.checkpoint import Model
    from napari_vqldm.estimate import AnyModel, Estimate
    from napari_vqldm.plugin.inference.devices import Precision
    from napari_vqldm.self_test import SelfTest

# A question about a request, to be asked on the inference thread, where the model is, or with its outline.
Ask: TypeAlias = "Callable[[AnyModel, Precision, SelfTest | None], Estimate]"
Work = Callable[[Engine], Generator[Any, None, Any]]

_SAMPLED_BY = ("steps", "sampler", "guidance_scale")


@dataclass(frozen=True)
class TooLarge:
    """What a job returns that was not started, because it does not fit in the memory that is free."""

    estimate: Estimate


# --- work -------------------------------------------------------------------------------------------------------------


def estimate_work(spec: ModelSpec, ask: Ask) -> Work:
    """Return the work that estimates a request; its result is an `Estimate`.

    Nothing is loaded for it, PyTorch included: without the model, the header of its file says enough.
    """

    def work(engine: Engine) -> Generator[Any, None, Estimate]:
        if not engine.has_loaded(spec):
            return _before_loading(engine, spec, ask)
        model = yield from engine.use(spec)
        return ask(model, engine.precision, self_test_of(engine, model))

    return work


def _before_loading(engine: Engine, spec: ModelSpec, ask: Ask) -> Estimate:
    """Estimate a request for a model that is still to be loaded."""
    from napari_vqldm.estimate import Outline

    header = read_header(resolve(spec.path))
    device, threads = engine.likely_device(spec), spec.threads or default_threads()
    outline = Outline.of_header(header, device, threads)
    precisions: tuple[Precision, ...] = (spec.precision, "fp32", "bf16")
    keys = [timing_key_of(header.card.weights_sha256, device or "", threads, precision) for precision in precisions]
    found = next((engine.self_tests[key] for key in keys if key in engine.self_tests), None)
    if found is None:
        return ask(outline, spec.precision, None)
    from napari_vqldm.self_test import SelfTest  # brings torch, as the test did

    return ask(outline, spec.precision, SelfTest.from_dict(found))


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
    return None if ask is None else (yield from weigh(ask(model, engine.precision, self_test_of(engine, model))))


def weigh(estimate: Estimate) -> Generator[Note, None, TooLarge | None]:
    """Decide as `check` does, about an estimate that is there."""
    if not estimate.fits:
        return TooLarge(estimate)
    yield Note(f"Running: {estimate.lines[0]}...")
    return None


def checked_work(spec: ModelSpec, ask: Ask | None, work: Work) -> Work:
    """Return work that runs when it fits, and else returns `TooLarge`; without a question it runs anyway."""
    if ask is None:
        return work

    def checking(engine: Engine) -> Generator[Any, None, Any]:
        model = yield from engine.use(spec)
        refusal = yield from check(engine, model, ask)
        return refusal if refusal is not None else (yield from work(engine))

    return checking


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

    def ask(model: AnyModel, precision: Precision, self_test: SelfTest | None) -> Estimate:
        from napari_vqldm.estimate import estimate_generation

        return estimate_generation(model, **chosen, precision=precision, self_test=self_test)

    return ask


def reconstruction_ask(
    shape: Int3, voxel_size_um: Float3, frames: int, request: Mapping[str, Any], *, is_compared: bool = False
) -> Ask:
    """Return the question what `reconstruct` takes for so many stacks (Z, Y, X), compared with their results or not.

    The request is that of `ReconstructState.to_request`.
    """
    chosen = _picked(request, ("max_voxels",))
    is_given = request.get("intensity") is not None

    def ask(model: AnyModel, _precision: Precision, self_test: SelfTest | None) -> Estimate:
        from napari_vqldm.estimate import estimate_reconstruction

        return estimate_reconstruction(
            model,
            shape,
            voxel_size_um,
            **chosen,
            frames=frames,
            is_intensity_given=is_given,
            is_compared=is_compared,
            self_test=self_test,
        )

    return ask


def uncertainty_ask(
    shape: Int3, voxel_size_um: Float3, request: Mapping[str, Any], tiles: Mapping[str, Any] | None = None
) -> Ask:
    """Return the question what `uncertainty` takes; the requests are those of `uncertainty_work`."""
    chosen = {**_picked(request, ("draws", "kind")), **_picked(tiles or {}, ("max_voxels",))}

    def ask(model: AnyModel, _precision: Precision, self_test: SelfTest | None) -> Estimate:
        from napari_vqldm.estimate import estimate_uncertainty

        return estimate_uncertainty(model, shape, voxel_size_um, **chosen, self_test=self_test)

    return ask


def frames_ask(num: int, request: Mapping[str, Any]) -> Ask:
    """Return the question what so many frames between two seeds take; the request is one of `interpolate`."""
    chosen = _picked(request, _SAMPLED_BY)

    def ask(model: AnyModel, precision: Precision, self_test: SelfTest | None) -> Estimate:
        from napari_vqldm.estimate import estimate_interpolation

        return estimate_interpolation(model, num, **chosen, precision=precision, self_test=self_test)

    return ask


def previews_ask(num: int, shape: Int3, voxel_size_um: Float3) -> Ask:
    """Return the question what rough pictures of so many frames (Z, Y, X) between encoded ends take; all are kept."""

    def ask(model: AnyModel, _precision: Precision, self_test: SelfTest | None) -> Estimate:
        from napari_vqldm.estimate import estimate_previews

        return estimate_previews(model, num, shape, voxel_size_um, self_test=self_test)

    return ask


def writing_ask(num: int, shape: Int3, voxel_size_um: Float3, max_voxels: int | None = None) -> Ask:
    """Return the question what it takes to decode so many frames between encoded ends, each written and let go."""
    tiles: dict[str, Any] = {} if max_voxels is None else {"max_voxels": max_voxels}

    def ask(model: AnyModel, _precision: Precision, self_test: SelfTest | None) -> Estimate:
        from napari_vqldm.estimate import estimate_interpolation

        return estimate_interpolation(model, num, shape, voxel_size_um, **tiles, is_kept=False, self_test=self_test)

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

    def ask(model: AnyModel, precision: Precision, self_test: SelfTest | None) -> Estimate:
        from napari_vqldm.estimate import estimate_encoding, estimate_interpolation, estimate_sequence

        first = [] if sampled is None else [sampled(model, precision, self_test)]
        encoding = estimate_encoding(model, shape, voxel_size_um, self_test=self_test)
        decoding = estimate_interpolation(model, 2, shape, voxel_size_um, self_test=self_test)
        return estimate_sequence(model, [*first, encoding, encoding, decoding])

    return ask


def _picked(request: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Arguments that an estimate depends on."""
    return {name: request[name] for name in names if name in request}
