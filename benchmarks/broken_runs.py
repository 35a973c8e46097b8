"""Which watcher notices which broken training, and when: ``python benchmarks/broken_runs.py [--render]``.

Runs every training of broken_cases.py on the CPU, some minutes in all, and writes results/broken_runs.json; the table
goes into docs/training.md between two markers. ``--render`` writes the page from the results alone.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from broken_cases import BROKEN, CASES, HEALTHY, Case
from rich.console import Console
from tables import table

from napari_vqldm.errors import TrainingError
from napari_vqldm.files.atomic import atomic_path
from napari_vqldm.training.folder import read_metrics
from napari_vqldm.training.run import run_training

RESULTS = Path(__file__).parent / "results" / "broken_runs.json"
PAGE = Path(__file__).parents[1] / "docs" / "training.md"
PAGE_WIDTH = 132
BEGIN, END = "<!-- broken runs: begin -->", "<!-- broken runs: end -->"
WATCHERS = (
    "posterior_collapse",
    "codebook_collapse",
    "adversarial_instability",
    "dead_discriminator",
    "scale_drift",
    "overfit",
    "not_a_number",
)


@dataclass(frozen=True)
class Report:
    """First report of a watcher in a stage."""

    stage: str
    step: int
    watcher: str


@dataclass(frozen=True)
class Outcome:
    """What a run said: first reports in their order, the lines on the console, the error that stopped it or ""."""

    reports: tuple[Report, ...]
    lines: tuple[str, ...]
    error: str = ""
    seconds: float = 0.0


def run_case(case: Case, folder: Path, cache: Path) -> Outcome:
    """Train in ``folder`` until the end or the error; ``cache``: simulated volumes."""
    screen, error, began = io.StringIO(), "", time.perf_counter()
    console, config = Console(file=screen), case.config()
    parts = [case.stages] if case.between is None else [case.stages[:-1], case.stages[-1:]]
    try:
        with case.broken():
            for i, stages in enumerate(parts):
                if i and case.between is not None:
                    case.between(folder)
                run_training(config, folder, stages=stages, cache=cache, console=console)
    except TrainingError as stopped:
        error = str(stopped)
    first: dict[tuple[str, str], Report] = {}
    for line in read_metrics(folder / "metrics.jsonl"):
        if "watcher" in line:
            step = line["rewind"]["from"] if "rewind" in line else line["step"]
            first.setdefault((line["stage"], line["watcher"]), Report(line["stage"], step, line["watcher"]))
    return Outcome(tuple(first.values()), tuple(screen.getvalue().splitlines()), error, time.perf_counter() - began)


def complaints(case: Case, outcome: Outcome) -> list[str]:
    """Return what differs from what the case expects; empty when the right watcher spoke, first, with its remedy."""
    found, names = [], [report.watcher for report in outcome.reports]
    if names[:1] != ([case.watcher] if case.watcher else []):
        found.append(f"expected {case.watcher or 'no watcher'} first, got {names}")
    unexpected = set(names) - {case.watcher, *case.also}
    if unexpected:
        found.append(f"expected no word of {sorted(unexpected)}")
    lines = {name: [line for line in outcome.lines if f": ! {name}: " in line] for name in WATCHERS}
    if {name for name in WATCHERS if lines[name]} != set(names):
        found.append(f"console and metrics.jsonl differ: {lines}, {names}")
    if case.watcher and not all(case.remedy in line for line in lines[case.watcher]):
        found.append(f"expected {case.remedy!r} in {lines[case.watcher]}")
    if len(lines["not_a_number"]) > 1:
        found.append("went back more than once")
    if bool(case.stops) != bool(outcome.error) or case.stops not in outcome.error:
        found.append(f"expected the error {case.stops!r}, got {outcome.error!r}")
    return found


def record(case: Case, outcome: Outcome) -> dict[str, Any]:
    """Return a row for the results."""
    return {
        "expected": case.watcher,
        "stages": list(case.stages),
        "steps": {stage: getattr(case.config(), stage).steps for stage in case.stages if stage != "latents"},
        "reports": [vars(report) for report in outcome.reports],
        "stopped": outcome.error,
        "complaints": complaints(case, outcome),
        "seconds": round(outcome.seconds, 1),
    }


def section(rows: dict[str, Any]) -> str:
    """Return the block of the page."""

    def cells(name: str) -> list[str]:
        reports = {r["watcher"]: r for r in reversed(rows[name]["reports"])}
        texts = []
        for watcher in WATCHERS:
            report = reports.get(watcher)
            text = "" if report is None else str(report["step"])
            text += " (denoiser)" if report is not None and report["stage"] == "denoiser" else ""
            texts.append(f"**{text}**" if text and watcher == rows[name]["expected"] else text)
        steps = " + ".join(str(n) for n in rows[name]["steps"].values())
        return [CASES[name].what, steps, *texts, "yes" if rows[name]["stopped"] else ""]

    head = ["training", "steps", *(f"`{watcher}`" for watcher in WATCHERS), "stops"]
    text = (
        f"{len(BROKEN)} trainings broken on purpose and {len(HEALTHY)} healthy ones, on tiny networks. A number in the "
        "column of a watcher is the step of its first report, of stage 1 unless it says otherwise; bold: the watcher "
        "that must notice. Where two speak, the first names the cause."
    )
    lines = [
        BEGIN,
        "",
        *textwrap.wrap(text, PAGE_WIDTH),
        "",
        *table(head, [cells(name) for name in BROKEN]),
        *table(["healthy training", *head[1:]], [cells(name) for name in HEALTHY]),
        "`python benchmarks/broken_runs.py` repeats this on a CPU; `pytest -m slow tests/training/test_broken_runs.py` "
        "insists on it.",
        "",
        END,
    ]
    return "\n".join(lines)


def render(rows: dict[str, Any]) -> None:
    """Replace the block of the page; a page without one gets it, with its heading, at its end."""
    text, block = PAGE.read_text(encoding="utf-8"), section(rows)
    if BEGIN in text:
        text = text[: text.index(BEGIN)] + block + text[text.index(END) + len(END) :]
    else:
        text = f"{text.rstrip()}\n\n## When a training goes wrong\n\n{block}\n"
    with atomic_path(PAGE, force=True) as temporary:
        temporary.write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, write, render; 1 when a watcher missed its case or accused a healthy one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--render", action="store_true", help="write the page from the results alone")
    options = parser.parse_args(arguments)
    if options.render:
        render(json.loads(RESULTS.read_text(encoding="utf-8"))["runs"])
        return 0
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as parent:
        for name, case in CASES.items():
            rows[name] = record(case, run_case(case, Path(parent) / name, Path(parent) / "bank"))
            print(
                f"{name}, {rows[name]['seconds']:.0f} s: {rows[name]['reports']} {rows[name]['complaints']}", flush=True
            )
    for row in rows.values():
        del row["seconds"]  # of this machine alone
    with atomic_path(RESULTS, force=True) as temporary:
        temporary.write_text(json.dumps({"torch": torch.__version__, "runs": rows}, indent=1) + "\n", encoding="utf-8")
    render(rows)
    return int(any(row["complaints"] for row in rows.values()))


if __name__ == "__main__":
    sys.exit(main())
