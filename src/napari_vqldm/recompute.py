"""Run a recipe: find its models and inputs, compute what is missing, with the threads and devices of the record."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from napari_vqldm.card import read_header
from napari_vqldm.checkpoint import Model, load_checkpoint
from napari_vqldm.compare import residual
from napari_vqldm.crop import crop
from napari_vqldm.environment import Difference, compare_environments, current_environment, environment_of
from napari_vqldm.errors import CheckpointError, FileError
from napari_vqldm.generate import generate_steps
from napari_vqldm.interpolate import blend, interpolate_steps
from napari_vqldm.recipe import Call, Input, Node, call_of
from napari_vqldm.recipe.sources import bundled_models
from napari_vqldm.reconstruct import decode_steps, encode_steps
from napari_vqldm.record import record
from napari_vqldm.simulation import simulate_steps
from napari_vqldm.uncertainty import uncertainty_steps
from napari_vqldm.volume import Volume, hash_voxels
from napari_vqldm.zoo import resolve

_STEPS: dict[str, Any] = {
    "simulate": simulate_steps,
    "generate": generate_steps,
    "interpolate": interpolate_steps,
    "encode": encode_steps,
    "decode": decode_steps,
    "uncertainty": uncertainty_steps,
}
_AT_ONCE: dict[str, Any] = {"crop": crop, "record": record, "residual": residual, "blend": blend}


@dataclass(frozen=True)
class Progress:
    """One step of a recipe: what is done, and how many steps are left of that part."""

    doing: str
    left: int


class Recomputation:
    """Evaluates recipes; a volume that is needed twice is computed once, a model is loaded once per device."""

    def __init__(
        self,
        models: Mapping[str, Path | Model],
        inputs: Sequence[Volume],
        device: str | None,
        threads: int | None,
    ) -> None:
        self.models, self.device, self.threads = dict(models), device, threads
        self.given = list(inputs)
        self.known: dict[str, Volume] = {hash_voxels(given): given for given in inputs}
        self.loaded: dict[tuple[str, str], Model] = {}

    def keep(self, models: Sequence[str | Path | Model]) -> None:
        """Use those models that are loaded already as they are, where their device is the one that is wanted."""
        for model in models:
            if isinstance(model, Model):
                self.loaded[model.weights_sha256, str(model.device)] = model

    def check(self, node: Node) -> None:
        """Refuse a recipe that lacks an input or a model, before anything is computed.

        Raises
        ------
        CheckpointError
            If no model with the recorded weights is known.
        FileError
            If an input is neither given nor computable.
        RecipeError
            If the record is damaged.
        """
        call = call_of(node)
        if call.has_model:
            self.find_model(node)
        for taken in node.inputs:
            if self.find(taken) is None:
                _refuse_unknown(taken)
                self.check(taken.node)

    def find(self, taken: Input) -> Volume | None:
        """Return an input that is known by its voxels; in old records, by the file that it was read from."""
        if taken.sha256 is not None:
            return self.known.get(taken.sha256)
        if taken.node.verb != "read":
            return None
        source = taken.node.record.get("source")
        return next((given for given in self.given if given.provenance.get("source") == source), None)

    def find_model(self, node: Node) -> Path | Model:
        """Return where the weights of a record are."""
        sha256 = str(node.request.get("weights_sha256", ""))
        if sha256 not in self.models:
            raise CheckpointError(
                f"the model {node.request.get('model', 'unknown')!r} with the weights {sha256[:12] or 'unknown'} is "
                "neither bundled nor given: give the checkpoint file"
            )
        return self.models[sha256]

    def place(self, node: Node) -> str:
        """Return the device on which a record is computed again."""
        return self.device or (node.device if _is_usable(node.device) else "cpu")

    def count(self, node: Node) -> int | None:
        """Return the number of threads with which a record is computed again; None leaves it as it is."""
        return self.threads or node.threads

    def differences_of(self, root: Node) -> list[Difference]:
        """Compare the machine with those that computed a volume and its inputs, as far as they are computed again."""
        found: list[Difference] = []
        for node in self.nodes(root):
            with own_threads(self.count(node)):
                current = current_environment(self.place(node))
            for difference in [*compare_environments(environment_of(node.record), current), *_gaps(node)]:
                if difference not in found:
                    found.append(difference)
        return found

    def nodes(self, node: Node) -> Iterator[Node]:
        """Yield the records that are computed again, the last first."""
        yield node
        for taken in node.inputs:
            if self.find(taken) is None:
                yield from self.nodes(taken.node)

    def evaluate(self, node: Node) -> Generator[Progress, None, Any]:
        """Compute a record; yields what is done, and returns its volume or latent."""
        arguments: list[Any] = []
        for taken in node.inputs:
            given: Any = self.find(taken)
            if given is None:
                given = yield from self.evaluate(taken.node)
                if taken.sha256 is not None:
                    self.known[taken.sha256] = given
            arguments.append(given)
        call = call_of(node)
        if call.has_model:
            yield Progress(f"loading {node.request.get('model')}", 1)
            arguments.insert(0, self.load(node))
        results: list[Any] = []
        for step in self.steps(node, call, [*arguments, *call.positional]):
            results += _finished(step)
            if hasattr(step, "total"):
                yield Progress(node.verb, step.total - step.index - 1)
        return _picked(results, call)

    def steps(self, node: Node, call: Call, arguments: list[Any]) -> Iterator[Any]:
        """Run a call with the threads of its record, which are never held across a ``yield``."""
        options = {name: value for name, value in call.options.items() if name != "statistic"}
        if call.function == "simulate":
            options["device"] = self.place(node)
        count = self.count(node)
        if call.function in _AT_ONCE:
            with own_threads(count):
                result = _AT_ONCE[call.function](*arguments, **options)
            yield _AtOnce(result)
            return
        with own_threads(count):
            steps = _STEPS[call.function](*arguments, **options)
        while True:
            with own_threads(count):
                step = next(steps, None)
            if step is None:
                return
            yield step

    def loaded_model(self, node: Node) -> Model | None:
        """Return the model of a record if it is loaded where it is needed."""
        return self.loaded.get((str(node.request.get("weights_sha256")), self.place(node)))

    def load(self, node: Node) -> Model:
        """Return the model of a record on its device."""
        model = self.loaded_model(node)
        if model is None:
            found, place = self.find_model(node), self.place(node)
            model = load_checkpoint(found.path if isinstance(found, Model) else found, place)
            if model.weights_sha256 != node.request["weights_sha256"]:
                raise CheckpointError(f"{model.path}: has other weights than a moment ago: give the file of the record")
            self.keep([model])
        return model


@dataclass(frozen=True)
class _AtOnce:
    """The one step of a verb without steps."""

    result: Any


def _refuse_unknown(taken: Input) -> None:
    """Refuse an input that cannot be computed again."""
    node = taken.node
    mark = "" if taken.sha256 is None else f" (sha256 of its voxels {taken.sha256[:12]})"
    if taken.is_changed:
        raise FileError(
            f"the input, {node.title}, was changed after it was computed: give the file of the changed volume{mark}"
        )
    if not node.is_computed:
        raise FileError(f"the input, {node.title}, is needed{mark}: give that file")


def _gaps(node: Node) -> Iterator[Difference]:
    """Yield what an older record does not say of its request, and what is taken instead."""
    request = node.request
    if node.verb == "generate" and "batch" not in request:
        yield Difference("batch", None, 1, "the record does not say how many volumes were computed at once, now 1")
    if node.verb == "interpolate" and "seeds" in request and "condition" not in request:
        text = "the record does not say which conditions were asked for, now none"
        yield Difference("condition", None, None, text)
    if node.verb in ("encode", "decode") and "max_voxels" not in request:
        text = "the record does not say how large the tiles were, now the default"
        yield Difference("max_voxels", None, None, text)


def models_by_weights(models: Sequence[str | Path | Model]) -> dict[str, Path | Model]:
    """Return all models that are known, by the fingerprint of their weights: their files, or loaded ones."""
    known: dict[str, Path | Model] = {sha256: resolve(name) for sha256, name in bundled_models().items()}
    for given in models:
        if isinstance(given, Model):
            known.setdefault(given.weights_sha256, given)  # its own file may have changed since it was loaded
        else:
            path = resolve(given)
            known[read_header(path).card.weights_sha256] = path
    return known


def _finished(step: Any) -> list[Any]:
    """Return what a step of any verb has finished."""
    for name in ("volumes", "volume", "latent", "result"):
        value = getattr(step, name, None)
        if value is not None:
            return list(value) if name == "volumes" else [value]
    return []


def _picked(results: Sequence[Any], call: Call) -> Any:
    """Return the one result that a record is of."""
    value = results[call.pick or 0]
    if call.function == "uncertainty":
        return getattr(value, str(call.options.get("statistic", "standard_deviation")))
    return value if call.part is None else getattr(value, call.part)


def _is_usable(device: str) -> bool:
    """Whether this machine has a device."""
    kind, _, index = device.partition(":")
    if kind == "cuda":
        return torch.cuda.is_available() and int(index or 0) < torch.cuda.device_count()
    return kind == "cpu" or (kind == "mps" and torch.backends.mps.is_available())


@contextmanager
def own_threads(count: int | None) -> Iterator[None]:
    """Compute with as many threads, and put the number back."""
    before = torch.get_num_threads()
    if count is not None and count != before:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)
