"""The folder that `codebook --report` writes: one page, its table, its pictures, and all numbers as JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_vqldm.cli.console import Reporter, to_json_text
from napari_vqldm.cli.targets import check_targets, folder_target, make_folder
from napari_vqldm.errors import FileError

if TYPE_CHECKING:
    from napari_vqldm.checkpoint import Model
    from napari_vqldm.cli.codebook import Inputs
    from napari_vqldm.inside.atoms import Atom
    from napari_vqldm.inside.survey import SurveyStep
    from napari_vqldm.pictures import Gray
    from napari_vqldm.report.page import Page
    from napari_vqldm.volume import Volume

REPORT = "--report"
TABLES = {"vq-ldm": "codes.csv", "ldm": "channels.csv"}
PICTURES = {"vq-ldm": ("usage.png", "atoms.png"), "ldm": ()}
PAGE, NUMBERS = "report.html", "report.json"


@dataclass(frozen=True)
class ReportPlan:
    """Where a report goes: folder, whether files there are overwritten, and how many atoms it draws."""

    folder: Path
    force: bool
    num_atoms: int


def plan_report(folder: Path, model: str, num_atoms: int, *, force: bool) -> ReportPlan:
    """Check the files of a report before the work, from the card of the model alone.

    Raises
    ------
    CheckpointError, FileError
        If there is no such model, or a file exists already or cannot be written.
    """
    from napari_vqldm.card import read_header
    from napari_vqldm.zoo import resolve

    family = read_header(resolve(model)).config.family
    folder = folder_target(folder, option=REPORT)
    names = (TABLES[family], *PICTURES[family], PAGE, NUMBERS)
    check_targets([folder / name for name in names], force=force, option=REPORT)
    return ReportPlan(folder, force, num_atoms)


def report_codes(
    model: Model,
    survey: SurveyStep,
    count: int,
    skipped: Sequence[str],
    plan: ReportPlan,
    numbers: dict[str, Any],
    reporter: Reporter,
) -> dict[str, Any]:
    """Make atoms of the codes that filaments use most, write the report and return what is new to say."""
    from napari_vqldm.inside.table import usage_rows
    from napari_vqldm.report.codebook_page import Counted, atom_sheet, codebook_page, usage_csv, usage_picture

    atoms = _atoms(model, survey, plan.num_atoms, reporter)
    pictures = {"usage.png": usage_picture(survey.usage)} | ({"atoms.png": atom_sheet(atoms)} if atoms else {})
    names = (TABLES["vq-ldm"], *pictures, NUMBERS)
    counted = Counted(model.name, count, tuple(skipped), model.space.quantizer.is_implicit)
    page = codebook_page(counted, survey.usage, atoms, names)
    facts = [
        {
            "code": atom.code,
            "occurrences": atom.num_occurrences,
            "occurrences_found": atom.num_found,
            "background_code": atom.background_code,
            "brightest": float(atom.volume.data.max()),
            "darkest": float(atom.volume.data.min()),
        }
        for atom in atoms
    ]
    found = {"page": plan.folder / PAGE, "atoms": facts}
    codes = {"codes": [vars(row) for row in usage_rows(survey.usage)]}
    _write(plan, {TABLES["vq-ldm"]: usage_csv(survey.usage)}, pictures, page, numbers | found | codes)
    reporter.note(f"page: {plan.folder / PAGE}")
    return found


def report_channels(
    model: Model, inputs: Inputs, read: Callable[[Path], Volume], plan: ReportPlan, reporter: Reporter
) -> None:
    """Count the channels of an `ldm` over all inputs, write the report and print it."""
    from napari_vqldm.inside.channels import channel_steps
    from napari_vqldm.report.codebook_page import Counted, channels_csv, channels_page

    skipped = []
    for step in reporter.track(channel_steps(model, inputs, read=read), "counting channels"):
        if step.problem:
            reporter.note(f"left out: {step.problem}")
            skipped.append(step.problem)
    found = step.report
    if found is None:  # refused by the steps already
        return
    count = len(inputs) - len(skipped)
    page = channels_page(Counted(model.name, count, tuple(skipped)), found, (TABLES["ldm"], NUMBERS))
    numbers = {
        "verb": "codebook",
        "model": model.name,
        "files": inputs.paths,
        "skipped": skipped,
        **vars(found),
        "warning": found.warning,
        "page": plan.folder / PAGE,
    }
    _write(plan, {TABLES["ldm"]: channels_csv(found)}, {}, page, numbers)
    rows = zip(found.mean, found.sd, found.kl_nats, found.is_active, strict=True)
    reporter.table(
        f"{len(found.mean)} channels, {count} volumes",
        ("channel", "mean", "sd", "KL, nats per cell", "active"),
        [(c, float(m), float(s), float(kl), "yes" if a else "no") for c, (m, s, kl, a) in enumerate(rows)],
    )
    if found.warning:
        reporter.line(f"warning: {found.warning}")
    reporter.note(f"page: {plan.folder / PAGE}")
    reporter.result(numbers)


def _atoms(model: Model, survey: SurveyStep, most: int, reporter: Reporter) -> list[Atom]:
    """Make atoms of the codes that filaments use most, of those in the stacks kept; none where nothing is background.

    The codes that stand most often anywhere are those of empty space, which paint nothing.
    """
    import numpy as np

    from napari_vqldm.errors import VolumeError
    from napari_vqldm.inside.atoms import MIDDLE, atom_steps, commonest_background
    from napari_vqldm.inside.table import usage_rows

    try:
        background = commonest_background(survey.contexts)
    except VolumeError as error:
        reporter.note(f"no atoms: {error}")
        return []
    kept = set(np.concatenate([np.unique(context.codes) for context in survey.contexts]).tolist())
    ranked = sorted(usage_rows(survey.usage), key=lambda row: (-row.filament_cells, row.rank))
    codes = [row.code for row in ranked if row.code in kept and row.code != background][:most]
    atoms: list[Atom] = []
    for code in codes:
        steps = atom_steps(model, code, survey.contexts, reach=MIDDLE, background_code=background)
        doing = f"atom {len(atoms) + 1} of {len(codes)}"
        atoms += [step.result for step in reporter.track(steps, doing) if step.result is not None]
    return atoms


def _write(
    plan: ReportPlan, texts: dict[str, str], pictures: dict[str, Gray], page: Page, numbers: dict[str, Any]
) -> None:
    from napari_vqldm.files import atomic_path
    from napari_vqldm.pictures import png_bytes
    from napari_vqldm.report.page import render_html

    texts = {**texts, NUMBERS: to_json_text(numbers) + "\n", PAGE: render_html(page)}
    files = {name: text.encode() for name, text in texts.items()}
    files |= {name: png_bytes(picture) for name, picture in pictures.items()}
    make_folder(plan.folder, REPORT)
    is_again = (plan.folder / NUMBERS).is_file()
    for name, data in files.items():
        with atomic_path(plan.folder / name, plan.force) as temporary:
            temporary.write_bytes(data)
    if is_again and plan.force:
        _remove_stale(plan.folder, set(files))


def _remove_stale(folder: Path, written: set[str]) -> None:
    """Remove what the report before left and this one has not: a picture beside the page would be taken for its own."""
    names = {*TABLES.values(), *(name for pictures in PICTURES.values() for name in pictures)}
    for name in names - written:
        try:
            (folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise FileError(f"{folder / name}: cannot remove the file of the report before: {error.strerror}") from None
