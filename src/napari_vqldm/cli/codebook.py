"""`codebook`: which codes of a vq-ldm a set of volumes uses; with --report what they paint, or what channels do."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_vqldm.cli import codebook_report as reports
from napari_vqldm.cli import options as opt
from napari_vqldm.cli.console import Reporter
from napari_vqldm.cli.targets import file_target, make_folder
from napari_vqldm.errors import ConfigError

if TYPE_CHECKING:
    from napari_vqldm.codebook import CodebookStep, CodebookUsage
    from napari_vqldm.inside.survey import SurveyStep
    from napari_vqldm.volume import Volume


def codebook(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILES|FOLDER...", help="Volumes whose codes are counted, or folders of volumes."),
    ],
    model: opt.Model = "vq-ldm",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="CSV file with the counts of every code.", rich_help_panel=opt.OUTPUT),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            reports.REPORT,
            help="Folder for a page with tables and pictures: use and atoms of the codes, or use of the channels of an "
            "ldm.",
            rich_help_panel=opt.OUTPUT,
        ),
    ] = None,
    atoms: Annotated[
        int,
        typer.Option(
            "--atoms",
            min=0,
            help="How many codes, those that filaments use most, have their atoms drawn in the report.",
            rich_help_panel=opt.OUTPUT,
        ),
    ] = 12,
    channel: opt.Channel = None,
    time: opt.Time = None,
    voxel_size: opt.VoxelSize = None,
    device: opt.Device = "auto",
    force: opt.Force = False,
    as_json: opt.AsJson = False,
) -> None:
    """Count codes, perplexity and dead codes, over filament cells and background cells apart.

    Files of a folder that cannot be read are named and passed over. Volumes are read one by one: a folder may be larger
    than the memory.
    """
    reporter = Reporter(as_json)
    target = None if out is None else file_target(out, "codebook", ".csv", force=force)
    plan = None if report is None else reports.plan_report(report, model, atoms, force=force)
    from napari_vqldm.cli.models import load_model
    from napari_vqldm.files import atomic_path, read_volume

    def read(path: Path) -> Volume:
        return read_volume(path, channel=channel, time=time, voxel_size_um=voxel_size)

    inputs = Inputs(files, read)
    loaded = load_model(model, device, reporter)
    if plan is not None and loaded.config.family == "ldm":
        if out is not None:
            raise ConfigError(f"--out {out}: for counts of codes, and {loaded.name} is an ldm: leave it out")
        reports.report_channels(loaded, inputs, read, plan, reporter)
        return

    from napari_vqldm.codebook import codebook_steps

    steps: Iterator[CodebookStep] | Iterator[SurveyStep]
    step: Any  # of either
    if plan is None:
        steps = codebook_steps(loaded, inputs, read=read)
    else:
        from napari_vqldm.inside.survey import survey_steps

        steps = survey_steps(loaded, inputs, read=read)
    skipped = []
    for step in reporter.track(steps, "counting codes"):
        if step.problem:
            reporter.note(f"left out: {step.problem}")
            skipped.append(step.problem)
    usage: CodebookUsage = step.usage
    size, count = len(usage.filament.counts), len(inputs) - len(skipped)
    parts = usage.to_dict()
    reporter.table(
        f"{size} {'implicit codes' if loaded.space.quantizer.is_implicit else 'codes'}, {count} volumes",
        ("cells", "count", "codes used", "dead codes", "perplexity"),
        [(name, p["cells"], p["codes_used"], p["dead_codes"], f"{p['perplexity']:.1f}") for name, p in parts.items()],
    )
    if target is not None:
        make_folder(target.parent)
        with atomic_path(target, force) as temporary:
            temporary.write_text(_counts_as_csv(usage), encoding="utf-8")
        reporter.note(f"counts of every code: {target}")
    result = {
        "verb": "codebook",
        "model": loaded.name,
        "codebook_size": size,
        "files": inputs.paths,
        "skipped": skipped,
        **parts,
        "counts_file": target,
    }
    if plan is not None:
        result |= reports.report_codes(loaded, step, count, skipped, plan, result, reporter)
    reporter.result(result)


class Inputs:
    """Volumes read when their turn comes: a named file must be readable, one of a folder may be passed over.

    Parameters
    ----------
    files : sequence of Path
        Files and folders.
    read : callable
        Reads one file.

    Raises
    ------
    FileError
        If a named file is missing, foreign or damaged, or a folder holds no volume.
    """

    def __init__(self, files: Sequence[Path], read: Callable[[Path], Volume]) -> None:
        from napari_vqldm.files import list_volumes, open_stack
        from napari_vqldm.files.atomic import is_zarr_folder

        self._read = read
        self._found: list[tuple[Path, bool]] = []
        for path in files:
            if path.is_dir() and not is_zarr_folder(path):
                self._found += [(member, False) for member in list_volumes(path)]
            else:
                open_stack(path)  # a wrong file is answered at once
                self._found.append((path, True))

    @property
    def paths(self) -> list[Path]:
        """All files, those of folders included."""
        return [path for path, _ in self._found]

    def __len__(self) -> int:
        return len(self._found)

    def __iter__(self) -> Iterator[Volume | Path]:
        for path, is_named in self._found:
            yield self._read(path) if is_named else path


def _counts_as_csv(usage: CodebookUsage) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("code", "filament_cells", "background_cells"))
    writer.writerows(enumerate_counts(usage))
    return stream.getvalue()


def enumerate_counts(usage: CodebookUsage) -> list[tuple[int, int, int]]:
    """Return (code, filament cells, background cells) of every code."""
    pairs = zip(usage.filament.counts.tolist(), usage.background.counts.tolist(), strict=True)
    return [(code, filament, background) for code, (filament, background) in enumerate(pairs)]
