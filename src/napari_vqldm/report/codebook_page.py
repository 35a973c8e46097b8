"""The page, tables and pictures of the inside of a model: use and atoms of its codes, or use of its channels."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from napari_vqldm.codebook import CodebookUsage
from napari_vqldm.inside.atoms import MIDDLE, OCCURRENCES, Atom
from napari_vqldm.inside.channels import ACTIVE_VARIANCE, ChannelReport
from napari_vqldm.inside.table import usage_rows
from napari_vqldm.pictures import Gray, Panel, contact_sheet, orthogonal_projections
from napari_vqldm.report.charts import Curve, line_chart
from napari_vqldm.report.page import Page, Picture, Section, Table

BAR_WIDTH, BAR_HEIGHT, BAR_LEFT = 1040, 180, 64
ATOM_WIDTH = 168
A_ROW = 6  # atoms of the contact sheet
FAINT = 0.05  # filament units: an atom that is fainter is drawn as faint as it is, not as noise
IMPLICIT = "implicit codes: points of a fixed grid, no table is learned"
SHOWN_ROWS = 30  # of the usage table on the page; the CSV file has all


@dataclass(frozen=True)
class Counted:
    """What was looked at: name of the model, number of volumes, why files were left out, whether codes are implicit."""

    model: str
    num_volumes: int
    problems: tuple[str, ...] = ()
    is_implicit: bool = False

    @property
    def facts(self) -> tuple[tuple[str, str], ...]:
        """For the head of a page."""
        left = (("files left out", str(len(self.problems))),) if self.problems else ()
        kind = (("codes", IMPLICIT),) if self.is_implicit else ()
        return (("model", self.model), ("volumes", str(self.num_volumes)), *kind, *left)


def usage_csv(usage: CodebookUsage) -> str:
    """Return one line per code: code, rank, filament cells, background cells, share, dead."""
    rows = (
        (r.code, r.rank, r.filament_cells, r.background_cells, f"{r.share:.8g}", int(r.is_dead))
        for r in usage_rows(usage)
    )
    return _csv(("code", "rank", "filament_cells", "background_cells", "share", "is_dead"), rows)


def channels_csv(report: ChannelReport) -> str:
    """Return one line per channel: mean and sd (raw and standardised), KL, whether it is active."""
    columns = (
        report.mean,
        report.sd,
        report.standardised_mean,
        report.standardised_sd,
        report.kl_nats,
    )
    rows = (
        (channel, *(f"{column[channel]:.8g}" for column in columns), int(report.is_active[channel]))
        for channel in range(len(report.mean))
    )
    names = ("channel", "mean", "sd", "standardised_mean", "standardised_sd", "kl_nats_per_cell", "is_active")
    return _csv(names, rows)


def usage_picture(usage: CodebookUsage) -> Gray:
    """Draw the cells of every code, most used code first, over filament cells and background cells apart."""
    order = np.argsort(-usage.everywhere.counts, kind="stable")
    rows = []
    for name, part in (("filament cells", usage.filament), ("background cells", usage.background)):
        title = f"{part.total} cells, {len(part.counts) - part.dead_codes} of {len(part.counts)} codes used"
        panel = Panel(bars(part.counts[order]), title, (f"perplexity {part.perplexity:.1f}; counts on a log scale",))
        rows.append((f"Codes by use: {name}", [panel]))
    return contact_sheet(rows)


def atom_sheet(atoms: Sequence[Atom], title: str = "What the codes paint that filaments use most") -> Gray:
    """Draw the atoms as one contact sheet, in the order given."""
    panels = [Panel(p.image, p.title, tuple(f"{n}: {v}" for n, v in p.facts)) for p in map(_atom_picture, atoms)]
    rows = [("", panels[start : start + A_ROW]) for start in range(0, len(panels), A_ROW)]
    return contact_sheet(rows, title=title)


def codebook_page(counted: Counted, usage: CodebookUsage, atoms: Sequence[Atom], files: Sequence[str]) -> Page:
    """Lay out how the codes of a `vq-ldm` are used; ``files`` are the names of what lies beside the page."""
    parts = usage.to_dict()
    codes = "implicit codes" if counted.is_implicit else "codes"
    lead = (
        f"{parts['filament']['codes_used']} of {len(usage.filament.counts)} {codes} describe filaments "
        f"(perplexity {parts['filament']['perplexity']:.1f}), {parts['background']['codes_used']} describe background "
        f"({parts['background']['perplexity']:.1f}); {parts['everywhere']['dead_codes']} are never used."
    )
    table = Table(
        ("cells", "count", "codes used", "dead codes", "perplexity"),
        tuple(
            (name, str(p["cells"]), str(p["codes_used"]), str(p["dead_codes"]), f"{p['perplexity']:.1f}")
            for name, p in parts.items()
        ),
        note="A cell is a block of voxels with one code. It is a filament cell when the reconstruction in it exceeds "
        "0.3 of a filament's peak.",
    )
    sections = (
        Section(
            "Use", "How many cells there are, and how many codes share them.", table=table, missing=counted.problems
        ),
        _curves(usage),
        _gallery(atoms),
        _most_used(usage),
    )
    notes = (
        "Perplexity is the number of equally used codes that would be as varied: 1 when one code does everything.",
        "A decoder answers to the surroundings of a code, too: an atom is a mean over real surroundings.",
    )
    return Page(f"Codebook of {counted.model}", lead, sections, (*counted.facts, ("files", ", ".join(files))), notes)


def channels_page(counted: Counted, report: ChannelReport, files: Sequence[str]) -> Page:
    """Lay out how the channels of an `ldm` are used."""
    active, channels = int(report.is_active.sum()), len(report.is_active)
    lead = f"{active} of {channels} channels vary with the volume; {report.kl_nats.sum():.1f} nats per cell in all."
    table = Table(
        ("channel", "mean", "sd", "mean, standardised", "sd, standardised", "KL, nats per cell", "active"),
        tuple(
            (
                str(c),
                f"{report.mean[c]:.3g}",
                f"{report.sd[c]:.3g}",
                f"{report.standardised_mean[c]:.3g}",
                f"{report.standardised_sd[c]:.3g}",
                f"{report.kl_nats[c]:.3g}",
                "yes" if report.is_active[c] else "no",
            )
            for c in range(channels)
        ),
        note=f"Active: the posterior mean varies by more than {ACTIVE_VARIANCE:g} of the prior's variance over cells "
        "(Burda et al. 2016, arXiv:1509.00519).",
    )
    missing = tuple(line for line in (report.warning, *counted.problems) if line)
    text = f"Posterior of {report.num_cells} cells against the prior N(0, 1); standardised as files hold it."
    sections = (Section("Channels", text, table=table, missing=missing),)
    return Page(f"Channels of {counted.model}", lead, sections, (*counted.facts, ("files", ", ".join(files))))


def bars(counts: npt.NDArray[np.int64], width: int = BAR_WIDTH, height: int = BAR_HEIGHT) -> Gray:
    """Draw counts (K,) as bars on a log scale, black on white, with round numbers at the left; 0 has no bar."""
    decades = max(1, int(np.ceil(np.log10(max(2, int(counts.max()) + 1)))))
    sheet = Image.new("L", (width, height), 255)
    pen = ImageDraw.Draw(sheet)
    top, bottom, right = 8, height - 4, width - 4
    step = (bottom - top) / (decades + 0.3)  # the lowest part is for a count of 1
    for power in range(decades + 1):
        y = round(bottom - (power + 0.3) * step)
        pen.line((BAR_LEFT, y, right, y), fill=215)
        pen.text((BAR_LEFT - 6, y), f"{10**power}", fill=90, font=ImageFont.load_default(11), anchor="rm")
    edges = np.linspace(BAR_LEFT, right, len(counts) + 1).round().astype(int)
    for count, start, stop in zip(counts.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        if count:
            y = round(bottom - (np.log10(count) + 0.3) * step)
            pen.rectangle((start, y, max(start, stop - 1), bottom), fill=60)
    return np.asarray(sheet, np.uint8)


def _curves(usage: CodebookUsage) -> Section:
    curves = []
    for name, part in (("filament", usage.filament), ("background", usage.background)):
        counts = np.sort(part.counts)[::-1]
        used = counts[counts > 0]
        curves.append(Curve(name, list(range(1, len(used) + 1)), np.log10(used).tolist()))
    chart = line_chart(curves, "code, most used first", "cells, log10")
    text = "A steep fall: a few codes do the work. A line that ends early: the other codes are dead there."
    return Section("Codes by use", text, charts=(chart,) if chart else ())


def _gallery(atoms: Sequence[Atom]) -> Section:
    text = (
        "The mean change of the decoded volume when a code takes the place of the commonest background code, brightest "
        f"along z, x and y; those that filaments use most first, over {OCCURRENCES} places in real surroundings where "
        f"there are as many. The pictures show {MIDDLE} cells on each side of that of the code."
    )
    if not atoms:
        return Section("Atoms", text, missing=("No atoms were made.",))
    return Section("Atoms", text, tuple(map(_atom_picture, atoms)))


def _atom_picture(atom: Atom) -> Picture:
    peak, lowest = float(atom.volume.data.max()), float(atom.volume.data.min())
    image = orthogonal_projections(atom.middle, width=ATOM_WIDTH, limits=(0.0, max(peak, FAINT)))
    places = f"{atom.num_occurrences} of {atom.num_found}"
    facts = (("brightest", f"{peak:+.2f}"), ("darkest", f"{lowest:+.2f}"), ("places", places))
    return Picture(image, f"code {atom.code}", facts)


def _most_used(usage: CodebookUsage) -> Section:
    rows = sorted(usage_rows(usage), key=lambda row: row.rank)[:SHOWN_ROWS]
    table = Table(
        ("rank", "code", "filament cells", "background cells", "share"),
        tuple(
            (str(r.rank), str(r.code), str(r.filament_cells), str(r.background_cells), f"{r.share:.2%}") for r in rows
        ),
    )
    return Section("Most used codes", "All codes are in the table beside this page.", table=table)


def _csv(names: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)
    return stream.getvalue()
