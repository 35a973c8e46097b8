"""`reproduce`: compute a volume again from its own record, and say whether it is the same."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_vqldm.cli import options as opt
from napari_vqldm.cli.console import Reporter
from napari_vqldm.cli.targets import make_folder, volume_targets
from napari_vqldm.errors import ChoiceError, VolumeError

if TYPE_CHECKING:
    from napari_vqldm.recipe import FileInput, Node
    from napari_vqldm.volume import Volume


def reproduce(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A volume that napari-vqldm computed.")],
    model: Annotated[
        list[Path] | None,
        typer.Option(
            "--model",
            "-m",
            metavar="FILE",
            help="Checkpoint with the recorded weights, where they are not bundled; repeatable.",
            rich_help_panel=opt.MODEL,
        ),
    ] = None,
    given: Annotated[
        list[Path] | None,
        typer.Option(
            "--input",
            "-i",
            metavar="FILE",
            help="File of an input, such as the stack that was reconstructed; repeatable.",
            rich_help_panel=opt.INPUT,
        ),
    ] = None,
    time: opt.Time = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write the volume that was computed again.", rich_help_panel=opt.OUTPUT),
    ] = None,
    script: Annotated[
        bool,
        typer.Option("--script", help="Print the Python program instead of running it.", rich_help_panel=opt.OUTPUT),
    ] = False,
    device: Annotated[
        str | None,
        typer.Option("--device", help="Where to compute; by default where it was computed.", rich_help_panel=opt.MODEL),
    ] = None,
    force: opt.Force = False,
    as_json: opt.AsJson = False,
) -> None:
    """Compute a volume again and compare: identical to the last bit, or why not.

    The number of threads and volumes at once are those of the record. Exit code 0 means identical, 2 not identical.
    """
    reporter = Reporter(as_json)
    from napari_vqldm.files import read_volume
    from napari_vqldm.recipe import read_recipe

    volume = read_volume(file, time=time)
    root = read_recipe(volume.provenance)  # before torch is loaded: a foreign file is answered at once
    inputs = [read for path in given or () for read in _read_as_recorded(path, root)]
    if script:
        _print_script(volume, inputs, model or (), out, reporter)
        return
    target = None if out is None else volume_targets(out, [f"{file.stem}-again"], force=force)[0]
    chosen = None if device is None else opt.pick_device(device)

    from napari_vqldm.files import write_volume
    from napari_vqldm.reproduce import reproduce_steps

    steps = reproduce_steps(volume, models=model or (), inputs=[entry for _, entry in inputs], device=chosen)
    tracked = reporter.track(steps, "computing again")
    result = next(step.result for step in tracked if step.result is not None)
    if target is not None:
        make_folder(target.parent)
        write_volume(target, result.volume, force=force)
    reporter.line(f"{file}: {result.verdict}")
    for difference in result.differences:
        reporter.line(f"  {difference.message}")
    reporter.result(
        {
            "verb": "reproduce",
            "file": file,
            "is_equal": result.is_equal,
            "is_changed": result.is_changed,
            "max_abs_difference": result.max_abs_difference,
            "verdict": result.verdict,
            "differences": [asdict(difference) for difference in result.differences],
            "output": target,
        }
    )
    if not result.is_equal:
        reporter.note(f"not identical: {file}")
        raise typer.Exit(2)


def _print_script(
    volume: Volume, inputs: list[tuple[FileInput, Volume]], models: object, out: Path | None, reporter: Reporter
) -> None:
    """Print the program that computes a volume again from the files that were given."""
    from napari_vqldm.card import read_header
    from napari_vqldm.recipe import python_script
    from napari_vqldm.volume import hash_voxels

    files = {hash_voxels(entry): where for where, entry in inputs}
    files |= {Path(where.path).name: where for where, _ in inputs}  # of records without a fingerprint
    paths = list(models) if isinstance(models, list) else []
    checkpoints = {read_header(path).card.weights_sha256: str(path) for path in paths}
    text = python_script(volume.provenance, files=files, models=checkpoints, out=None if out is None else str(out))
    if not reporter.as_json:
        print(text, end="")
    reporter.result({"verb": "reproduce", "script": text})


def _read_as_recorded(path: Path, root: Node) -> list[tuple[FileInput, Volume]]:
    """Read a file as the inputs of a recipe were read: their channels, time points and voxel sizes."""
    from napari_vqldm.files import read_volume
    from napari_vqldm.recipe import FileInput, walk

    wanted = {FileInput(str(path)): None}
    for node in walk(root):
        for taken in node.inputs:
            for size in (None, taken.voxel_size_um):
                wanted[FileInput(str(path), taken.node.channel, taken.node.time, size)] = None
    found: list[tuple[FileInput, Volume]] = []
    problem: VolumeError | None = None
    for file in wanted:
        try:
            read = read_volume(path, channel=file.channel, time=file.time, voxel_size_um=file.voxel_size_um)
            found.append((file, read))
        except (ChoiceError, VolumeError) as error:
            problem = problem or error
    if not found and problem is not None:
        raise problem
    return found
