"""`evaluate`: what a model or a folder of volumes is worth, as JSON and as one page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_vqldm.cli import options as opt
from napari_vqldm.cli.console import Reporter, to_json_text
from napari_vqldm.cli.targets import check_folder, check_targets, folder_target, make_folder
from napari_vqldm.errors import ConfigError

if TYPE_CHECKING:
    from napari_vqldm.checkpoint import Model

REPORT = "--report"
SCORES, PAGE = "scores.json", "report.html"
EFFORT = "Effort"
DEFAULT_REPORT = Path("evaluation")
MOST_BY_DEFAULT = 4  # worker processes that nobody asked for: a laptop's memory is to hold them


def evaluate(
    candidate: Annotated[
        str,
        typer.Argument(
            metavar="MODEL|FOLDER", help="Bundled name, .safetensors file, or a folder of volumes of any program."
        ),
    ],
    against: Annotated[
        str,
        typer.Option(
            "--against",
            metavar="TIER|FOLDER",
            help="sparse, standard or hard of MT-Sim v1 (standard:val for a split), or a folder of real stacks.",
            rich_help_panel=opt.INPUT,
        ),
    ] = "standard",
    report: Annotated[
        Path,
        typer.Option(REPORT, "-o", help="Folder for scores.json and report.html.", rich_help_panel=opt.OUTPUT),
    ] = DEFAULT_REPORT,
    full: Annotated[
        bool,
        typer.Option("--full", help="64 volumes a set, all training volumes: hours on a CPU.", rich_help_panel=EFFORT),
    ] = False,
    count: Annotated[
        int | None,
        typer.Option("--count", min=6, max=500, help="Volumes a set, instead of 16 (64).", rich_help_panel=EFFORT),
    ] = None,
    steps: opt.Steps = None,
    attach: Annotated[
        bool,
        typer.Option("--attach", help="Write the scores into the model's card.", rich_help_panel=opt.OUTPUT),
    ] = False,
    voxel_size: opt.VoxelSize = None,
    device: opt.Device = "auto",
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=1,
            help="Processes that simulate and measure, by default one per core and at most 4; the scores stay the "
            "same. 0.5 GB each.",
            rich_help_panel=EFFORT,
        ),
    ] = None,
    force: opt.Force = False,
    as_json: opt.AsJson = False,
) -> None:
    """Score generated volumes and reconstructions beside floors, wrong sets and simple filters.

    The quick setting takes some minutes on two CPU cores, most of them for sampling a model.
    """
    reporter = Reporter(as_json)
    folder = folder_target(report, option=REPORT)
    targets = [folder / SCORES, folder / PAGE]
    check_targets(targets, force=force, option=REPORT)
    from dataclasses import replace

    from napari_vqldm.metrics.features import load_extractor
    from napari_vqldm.processes import usable_cores
    from napari_vqldm.report.evaluate import FULL, QUICK, evaluate_steps
    from napari_vqldm.report.sets import parse_against

    reference = parse_against(against)
    source = _candidate(candidate, device, reporter)
    if isinstance(source, Path) and attach:
        raise ConfigError("--attach writes into a model's card: give a model, not a folder")
    if attach and not isinstance(source, Path):
        check_folder(source.path.parent, "place for the model")
    effort = FULL if full else QUICK
    if count is not None:
        effort = replace(effort, count=count, reconstructions=min(effort.reconstructions, count))
    extractor = load_extractor(device=opt.pick_device(device) if isinstance(source, Path) else source.device)
    request = evaluate_steps(
        source,
        reference,
        effort,
        extractor=extractor,
        sampling_steps=steps,
        voxel_size_um=voxel_size,
        workers=workers or min(MOST_BY_DEFAULT, usable_cores()),
    )
    found = None
    for step in reporter.track(request, "evaluating"):
        found = step.result
    if found is None:
        raise ConfigError("the evaluation ended without a result")

    from napari_vqldm.files import atomic_path
    from napari_vqldm.report.attach import attach as write_card
    from napari_vqldm.report.evaluation_page import evaluation_page
    from napari_vqldm.report.page import render_html

    page = evaluation_page(found)
    make_folder(folder, REPORT)
    for target, text in zip(targets, (to_json_text(found.scores) + "\n", render_html(page)), strict=True):
        with atomic_path(target, force) as temporary:
            temporary.write_text(text, encoding="utf-8")
    if attach and not isinstance(source, Path):
        write_card(source.path, found.scores)
        reporter.note(f"scores written into the card of {source.path}")
    columns = _columns(found.scores["rows"])
    numbers = list(next(iter(columns.values())))
    reporter.table("", ("", *columns), [(key, *(column[key] for column in columns.values())) for key in numbers])
    reporter.line(page.lead)
    if note := (found.scores.get("noise") or {}).get("note"):
        reporter.line(f"note: {note[0].lower()}{note[1:]}")
    reporter.note(f"page: {targets[1]}")
    reporter.result(
        {"verb": "evaluate", "scores_file": targets[0], "page": targets[1], "attached": attach, **found.scores}
    )


def _columns(rows: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the scorecard of every row by its name; that of the candidate is followed by its verdicts."""
    columns = {}
    for name, row in rows.items():
        columns[name] = row["scorecard"]
        if name == "candidate":
            columns["verdict"] = row["verdicts"]
    return columns


def _candidate(text: str, device: str, reporter: Reporter) -> Model | Path:
    """Return the model or the folder that the argument names; a folder wins over a bundled name."""
    from napari_vqldm.files import READABLE_SUFFIXES

    path = Path(text)
    if path.is_dir() and not path.name.lower().endswith(".zarr"):
        return path
    if path.suffix.lower() in READABLE_SUFFIXES:
        raise ConfigError(f"{text}: a volume: give the folder that holds it")
    from napari_vqldm.cli.models import load_model

    return load_model(text, device, reporter)
