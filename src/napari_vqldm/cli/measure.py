"""`measure`: filaments of volumes in micrometres, and two groups of volumes compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_vqldm.cli import options as opt
from napari_vqldm.cli.console import Reporter
from napari_vqldm.cli.inputs import read_input
from napari_vqldm.cli.targets import check_targets, folder_target, make_folder, stem_of
from napari_vqldm.errors import FileError, VqldmError
from napari_vqldm.memory import is_out_of_memory

if TYPE_CHECKING:
    from napari_vqldm.measure import GroupComparison, Measurement

VERB = "measure"


def measure(
    sources: Annotated[
        list[Path], typer.Argument(metavar="FILES|FOLDERS...", help="Volumes, and folders of them: group A.")
    ],
    against: Annotated[
        list[Path] | None,
        typer.Option(
            "--against",
            metavar="FILE|FOLDER",
            help="A volume or a folder of group B, which group A is compared with; repeatable.",
            rich_help_panel=opt.INPUT,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Folder for tables: filaments.csv, volumes.csv, comparison.csv, and remarks.txt.",
            rich_help_panel=opt.OUTPUT,
        ),
    ] = None,
    swc: Annotated[
        bool,
        typer.Option("--swc", help="Also write the traced centre lines there, as SWC.", rich_help_panel=opt.OUTPUT),
    ] = False,
    channel: opt.Channel = None,
    time: opt.Time = None,
    voxel_size: opt.VoxelSize = None,
    crop: opt.Crop = None,
    intensity: opt.Intensity = None,
    force: opt.Force = False,
    as_json: opt.AsJson = False,
) -> None:
    """Trace the filaments of volumes: lengths, curvature, directions, density, widths, in micrometres.

    With --against, each number of group A is compared with that of group B, with a 95 % interval. Folders are worked
    through to their end: unreadable files are reported.
    """
    reporter = Reporter(as_json)
    reading: dict[str, Any] = {"channel": channel, "time": time, "voxel_size_um": voxel_size}
    reading["box"] = opt.parse_box(crop)
    if swc and out is None:
        raise FileError("--swc: no folder to write to: give --out FOLDER")
    groups = {"A": _files(sources), "B": _files(against or [])}
    files = [path for paths in groups.values() for path in paths]
    stems = _stems(files)
    targets = _targets(out, stems if swc else [], is_compared=against is not None, force=force)

    from napari_vqldm.measure import compare_measurements
    from napari_vqldm.metrics.tracer_bias import tracer_bias

    entries = _measure_all(groups, stems, reading, opt.coding_of(intensity, None), reporter)
    found = [entry["found"] for entry in entries if "found" in entry]
    if not found:
        raise VqldmError("; ".join(f"{entry['file']}: {entry['reason']}" for entry in entries[:3]))
    sides = [[e["found"] for e in entries if e["group"] == name and "found" in e] for name in groups]
    comparison = compare_measurements(*sides) if against and all(sides) else None
    if comparison is None:
        targets.pop("comparison.csv", None)
    if against and comparison is None:
        reporter.note("not compared: no volume of one of the groups could be measured")
    if out is not None:
        _write(targets, found, comparison, force)
    _show(entries, comparison, reporter)
    for line in tracer_bias().lines():
        reporter.line(line)
    for path in targets.values():
        reporter.note(f"written: {path}")
    failed = sum("found" not in entry for entry in entries)
    reporter.result(
        {
            "verb": VERB,
            "done": len(found),
            "failed": failed,
            "files": [_plain(entry) for entry in entries],
            "comparison": None if comparison is None else comparison.to_dict(),
            "written": list(targets.values()),
        }
    )
    if failed:
        raise typer.Exit(2)


def _files(sources: Sequence[Path]) -> list[Path]:
    """Return the files that are meant, those of folders one by one."""
    from napari_vqldm.files import list_volumes
    from napari_vqldm.files.atomic import is_zarr_folder

    files: list[Path] = []
    for source in sources:
        files += list_volumes(source) if source.is_dir() and not is_zarr_folder(source) else [source]
    return files


def _stems(files: Sequence[Path]) -> list[str]:
    """Names of the volumes in tables, and of their centre lines; equal names get the folder, then a number."""
    names = [stem_of(path) for path in files]
    for better in (lambda path: path.name, lambda path: f"{path.resolve().parent.name}-{path.name}"):
        often = Counter(names)
        names = [better(path) if often[name] > 1 else name for path, name in zip(files, names, strict=True)]
    often, seen = Counter(names), Counter[str]()
    for index, name in enumerate(names):
        seen[name] += 1
        names[index] = f"{name}-{seen[name]}" if often[name] > 1 else name
    return names


def _targets(out: Path | None, stems: Sequence[str], *, is_compared: bool, force: bool) -> dict[str, Path]:
    """Return the files to write, by what they hold; checked before anything is computed."""
    if out is None:
        return {}
    folder = folder_target(out)
    names = ["filaments.csv", "volumes.csv", *(["comparison.csv"] if is_compared else []), "remarks.txt"]
    targets = {name: folder / name for name in names} | {f"{stem}.swc": folder / f"{stem}.swc" for stem in stems}
    check_targets(list(targets.values()), force=force)
    return targets


def _measure_all(
    groups: dict[str, list[Path]],
    stems: Sequence[str],
    reading: dict[str, Any],
    coding: dict[str, Any],
    reporter: Reporter,
) -> list[dict[str, Any]]:
    """Measure file after file; a failure is noted and the next file follows. One volume is in memory at a time."""
    from dataclasses import replace

    from napari_vqldm.measure import measure_steps

    entries: list[dict[str, Any]] = []
    listed = [(group, path) for group, paths in groups.items() for path in paths]
    for number, ((group, path), stem) in enumerate(zip(listed, stems, strict=True), 1):
        if len(listed) > 1:
            reporter.note(f"[{number}/{len(listed)}] {path.name}")
        entry: dict[str, Any] = {"group": group, "file": path}
        try:
            volume = replace(read_input(path, **reading), name=stem)
            steps = reporter.track(measure_steps(volume, **coding), f"measuring {path.name}")
            entry["found"] = next(step.result for step in steps if step.result is not None)
        except VqldmError as error:
            entry["reason"] = str(error)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            entry["reason"] = "not enough memory"
        entries.append(entry)
    return entries


def _write(targets: dict[str, Path], found: list[Measurement], comparison: GroupComparison | None, force: bool) -> None:
    """Write the tables, and the centre lines of what was measured."""
    from napari_vqldm.files import write_centre_lines
    from napari_vqldm.measure import write_comparison, write_filaments, write_remarks, write_volumes

    make_folder(targets["filaments.csv"].parent)
    write_filaments(targets["filaments.csv"], found, force=force)
    write_volumes(targets["volumes.csv"], found, force=force)
    if comparison is not None:
        write_comparison(targets["comparison.csv"], comparison, force=force)
    write_remarks(targets["remarks.txt"], found, comparison, force=force)
    measured = {one.name: one for one in found}
    for name in [name for name in targets if name.endswith(".swc")]:
        one = measured.get(name.removesuffix(".swc"))
        if one is None:  # it could not be read
            del targets[name]
        else:
            write_centre_lines(targets[name], one.lines, force=force)


def _show(entries: Sequence[dict[str, Any]], comparison: GroupComparison | None, reporter: Reporter) -> None:
    from napari_vqldm.measure import VOLUME_QUANTITIES

    for entry in entries:
        if "found" not in entry:
            reporter.note(f"{entry['file']}: {entry['reason']}")
            continue
        found: Measurement = entry["found"]
        missing = found.missing()
        rows = []
        for quantity in VOLUME_QUANTITIES:
            value = found.number(quantity.name)
            said = f"{value:.4g} {quantity.unit}".strip() if value == value else "-"
            rows.append((quantity.label, said, missing.get(quantity.name) or quantity.remark))
        reporter.table(str(entry["file"]), ("", "", ""), rows)
        for note in found.notes:
            reporter.line(note)
    if comparison is None:
        return
    reporter.line("")
    reporter.line(f"group A, {comparison.num_a} volumes, against group B, {comparison.num_b}:")
    for row in comparison.rows:
        reporter.line(row.sentence)
    for note in comparison.notes:
        reporter.line(note)


def _plain(entry: dict[str, Any]) -> dict[str, Any]:
    """Return what JSON says of a file."""
    found = entry.get("found")
    if found is None:
        return {"status": "failed", **entry}
    return {"status": "done", "group": entry["group"], "file": entry["file"], **found.to_dict()}
