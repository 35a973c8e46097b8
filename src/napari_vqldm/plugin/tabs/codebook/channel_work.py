"""What the Codebook tab asks of the inference thread about channels: generators of steps. torch only when they run."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_vqldm.plugin.inference.engine import Engine, ModelSpec
from napari_vqldm.plugin.inference.jobs import Note, Progress
from napari_vqldm.plugin.inference.tiles import retrying
from napari_vqldm.plugin.layers.source import LayerSource
from napari_vqldm.plugin.tabs.codebook.work import (
    Pause,
    Work,
    file_behind,
    what_of_folder,
    what_of_layers,
)

if TYPE_CHECKING:
    from napari_vqldm.inside.cells import CellImage
    from napari_vqldm.inside.channels import ChannelReport
    from napari_vqldm.recipe import FileInput
    from napari_vqldm.reconstruct import Latent
    from napari_vqldm.volume import Volume


@dataclass(frozen=True, eq=False)
class Channels:
    """How the channels of an `ldm` are used, so far.

    Attributes
    ----------
    model_name, weights_sha256 : str
        Whose latent it is.
    report : ChannelReport
        The numbers.
    what : str
        What was counted, in plain words.
    num_volumes : int
        How many volumes.
    problems : tuple of str
        Why volumes were left out, one line each.
    is_complete : bool
        False while counting goes on.
    """

    model_name: str
    weights_sha256: str
    report: ChannelReport
    what: str
    num_volumes: int
    problems: tuple[str, ...] = ()
    is_complete: bool = True


@dataclass(frozen=True, eq=False)
class ChannelsCounted:
    """Numbers of the channels so far: a step of a job. ``file`` as in `Counted`, for a single layer."""

    index: int
    total: int
    channels: Channels
    file: FileInput | None = None


@dataclass(frozen=True, eq=False)
class ChannelImages:
    """One image for every channel of a latent."""

    images: list[CellImage]
    latent: Latent


def channels_of_layers_work(spec: ModelSpec, sources: Sequence[LayerSource]) -> Work:
    """Return the work that measures the channels of an ``ldm`` over layers, each read when its turn comes.

    It yields notes, `Progress` and `ChannelsCounted`. Layers that cannot be used are left out, as files of a folder
    are; it raises `FileError` if none can be used.
    """

    def work(engine: Engine) -> Generator[Any, None, None]:
        by_path = _numbered(sources)
        kept: list[Volume] = []

        def read(path: Path) -> Volume:
            volume = by_path[path].read()
            kept[:] = [volume] if len(sources) == 1 else []
            return volume

        def file_of() -> FileInput | None:
            return file_behind(sources[0], kept[0]) if kept else None

        def what(count: int, is_last: bool) -> str:
            return what_of_layers(sources, count, is_last)

        yield from _steps(engine, spec, list(by_path), read, what, file_of)

    return work


def channels_of_folder_work(spec: ModelSpec, folder: Path) -> Work:
    """Return the work that measures the channels of an ``ldm`` over a folder; steps as `channels_of_layers_work`."""

    def work(engine: Engine) -> Generator[Any, None, None]:
        from napari_vqldm.files import list_volumes, read_volume

        def what(count: int, is_last: bool) -> str:
            return what_of_folder(folder, count, is_last)

        yield from _steps(engine, spec, list_volumes(folder), read_volume, what)

    return work


def channel_images_work(spec: ModelSpec, source: LayerSource) -> Work:
    """Return the work that encodes a layer, with a model of either family; its result is a `ChannelImages`."""

    def work(engine: Engine) -> Generator[Any, None, Any]:
        from napari_vqldm.inside.codes import channel_images
        from napari_vqldm.reconstruct import encode_steps

        model = yield from engine.use(spec)
        volume, latent = source.read(), None
        for step in retrying(lambda n: encode_steps(model, volume, max_voxels=n)):
            if isinstance(step, Note):
                yield step
                continue
            latent = step.latent
            yield Progress(step.index, step.total)
        return None if latent is None else ChannelImages(channel_images(model, latent), latent)

    return work


def _steps(
    engine: Engine,
    spec: ModelSpec,
    paths: Sequence[Path],
    read: Callable[[Path], Volume],
    what: Callable[[int, bool], str],
    file_of: Callable[[], FileInput | None] = lambda: None,
) -> Iterator[Any]:
    from napari_vqldm.inside.channels import channel_steps

    model = yield from engine.use(spec)
    pause = Pause()
    problems: tuple[str, ...] = ()
    for step in channel_steps(model, paths, read=read):
        problems = (*problems, step.problem) if step.problem else problems
        count, is_last = step.index + 1 - len(problems), step.index == step.total - 1
        if step.report is None or not (pause.is_over() or is_last):
            yield Progress(step.index, step.total)
            continue
        counted = Channels(
            model.name, model.weights_sha256, step.report, what(count, is_last), count, problems, is_complete=is_last
        )
        yield ChannelsCounted(step.index, step.total, counted, file_of() if is_last else None)


def _numbered(sources: Sequence[LayerSource]) -> dict[Path, LayerSource]:
    """Return sources by a path that names them in messages; layers of one name are told apart by a number."""
    found: dict[Path, LayerSource] = {}
    for number, source in enumerate(sources, 1):
        path = Path(source.name)
        found[path if path not in found else Path(f"{source.name} ({number})")] = source
    return found
