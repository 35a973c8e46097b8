"""What the Codebook tab asks of the inference thread about single codes: generators of steps; torch when they run."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_vqldm.errors import CheckpointError, ConfigError, VolumeError
from napari_vqldm.plugin.inference.engine import Engine, ModelSpec
from napari_vqldm.plugin.inference.jobs import Note, Progress
from napari_vqldm.plugin.inference.tiles import retrying
from napari_vqldm.plugin.tabs.codebook.state import Found
from napari_vqldm.plugin.tabs.codebook.work import Work

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from napari_vqldm.checkpoint import Model
    from napari_vqldm.inside.atoms import Atom


@dataclass(frozen=True, eq=False)
class AtomDone:
    """The atom of a code, or why there is none: a step of a job."""

    code: int
    atom: Atom | None
    reason: str = ""


@dataclass(frozen=True, eq=False)
class PlaneDone:
    """Codes in a plane (K, 2), or why there is none."""

    method: str
    plane: npt.NDArray[np.float64] | None
    reason: str = ""


def atoms_work(spec: ModelSpec, found: Found, codes: Sequence[int], *, is_whole: bool) -> Work:
    """Return the work that measures what codes paint: of the whole receptive field, or what pictures show of it.

    It yields notes, `Progress` for every occurrence and an `AtomDone` for every code; a code without atom has a reason.
    """

    def work(engine: Engine) -> Generator[Any, None, None]:
        from napari_vqldm.inside.atoms import MIDDLE, OCCURRENCES, atom_steps

        model = yield from engine.use(spec)
        many = len(codes) * OCCURRENCES
        asked = {"reach": None if is_whole else MIDDLE, "background_code": found.background_code}
        for number, code in enumerate(codes):
            atom = None
            try:
                for step in retrying(_atom_maker(atom_steps, model, code, found, asked)):
                    if isinstance(step, Note):
                        yield step
                        continue
                    atom = step.result
                    yield Progress(number * OCCURRENCES + step.index * OCCURRENCES // step.total, many)
            except (CheckpointError, VolumeError) as error:
                yield AtomDone(code, None, str(error))
                continue
            yield AtomDone(code, atom)

    return work


def plane_work(found: Found, method: str) -> Work:
    """Return the work that lays the codes out in a plane; its result is a `PlaneDone`."""

    def work(_engine: Engine) -> Generator[Any, None, PlaneDone]:
        from napari_vqldm.inside.plane import codebook_plane

        yield Note("Laying the codes out in a plane...")
        try:
            return PlaneDone(method, codebook_plane(found.vectors, method))  # type: ignore[arg-type]
        except ConfigError as error:
            return PlaneDone(method, None, str(error))

    return work


def _atom_maker(
    atom_steps: Callable[..., Iterator[Any]], model: Model, code: int, found: Found, asked: dict[str, Any]
) -> Callable[[int], Iterator[Any]]:
    return lambda n: atom_steps(model, code, found.contexts, **asked, max_voxels=n)
