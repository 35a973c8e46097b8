"""Write docs/scores.md from results: ``python benchmarks/render_evaluation.py``.

Takes what is there of results/sensitivity.json, the expected numbers of MT-Sim v1, results/tracer.json,
results/features_gate.json and results/evaluate-*.json (the ``scores.json`` of `napari-vqldm evaluate`).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tables import table

from napari_vqldm.metrics.tracer_bias import tracer_bias
from napari_vqldm.report.standards import GENERATION, RECONSTRUCTION

ROOT = Path(__file__).parent
RESULTS = ROOT / "results"
EXPECTED = ROOT.parent / "src" / "napari_vqldm" / "simulate" / "data" / "mt-sim-v1-expected.json"
PAGE = ROOT.parent / "docs" / "scores.md"

SENSITIVITY = (
    ("frechet", "Frechet"),
    ("kid", "kernel"),
    ("spectrum_lateral_db", "lateral spectrum, dB"),
    ("spectrum_axial_db", "axial spectrum, dB"),
    ("intensity_w1", "intensity W1 / sd"),
    ("morphology_frechet", "morphology, Frechet"),
)
RELATIVE = (
    ("length_density_um_per_um3", "length density"),
    ("mean_curvature_per_um", "curvature"),
    ("persistence_length_um", "persistence length"),
    ("width_lateral_um", "width"),
)
FIDELITY = (
    ("psnr_clean_unit_range_db", "PSNR to the truth, dB"),
    ("ssim3d_unit_range", "SSIM"),
    ("ms_ssim3d_unit_range", "MS-SSIM"),
    ("foreground_psnr_unit_range_db", "PSNR in the foreground, dB"),
    ("cutoff_ratio_lateral", "lateral resolution kept"),
    ("cutoff_ratio_axial", "axial resolution kept"),
    ("centre_line_f1", "centre-line F1"),
)


def read(path: Path) -> Any:
    """Content of a JSON file, or None."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def show(value: Any) -> str:
    """A number to three digits; a dash for none."""
    if isinstance(value, dict):
        value = value.get("value")
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def ranged(value: Any, ends: dict[str, Any] | None) -> str:
    """A number and its 95 % interval, where there is one."""
    if value is None or not ends or ends["low"] is None:
        return show(value)
    return f"{show(value)} ({show(ends['low'])} to {show(ends['high'])})"


def percent(value: float | None, ends: dict[str, Any] | None = None) -> str:
    """A relative difference and its 95 % interval, where there is one."""
    if value is None or not ends or ends["low"] is None:
        return "-" if value is None else f"{100 * value:+.0f} %"
    return f"{100 * value:+.0f} % ({100 * ends['low']:+.0f} to {100 * ends['high']:+.0f} %)"


def sensitivity_section(found: dict[str, Any]) -> list[str]:
    """Which number sees which difference."""
    head = ["change", *(title for _, title in SENSITIVITY), *(title for _, title in RELATIVE)]
    rows = [["floor", *(show(found["floors"][key]) for key, _ in SENSITIVITY), *("" for _ in RELATIVE)]]
    for row in found["rows"]:
        rows.append(
            [
                row["change"],
                *(show(row[key]) for key, _ in SENSITIVITY),
                *(percent(row[f"{key}_relative"]) for key, _ in RELATIVE),
            ]
        )
    return [
        "## Which number sees which difference",
        "",
        f"{found['volumes']} volumes of the standard tier a set, each set unlike the reference in one thing "
        "(`benchmarks/sensitivity.py`). The floor is the mean over random halves of two draws.",
        "",
        *table(head, rows),
    ]


def mt_sim_section(found: dict[str, Any]) -> list[str]:
    """What needs no model."""
    lines = ["## MT-Sim v1 without a model", "", "First volumes of each test split (`benchmarks/mt_sim.py`).", ""]
    for name, numbers in found["tiers"].items():
        part = numbers["reconstruction"]
        rows = [
            [title, *(show(part["rows"][row].get(key)) for row in ("noisy", "gaussian", "pooled", "blank", "clean"))]
            for key, title in FIDELITY
        ]
        sigma = ", ".join(f"{s:g}" for s in part["gaussian_sigma_voxels"])
        lines += [
            f"### {name}",
            "",
            f"{part['volumes']} volumes. Gaussian filter of {sigma} voxels (z, y, x), chosen on the val split.",
            "",
            *table(["", "noisy input", "Gaussian filter", "clean, pooled 2 x 4 x 4", "blank", "clean"], rows),
        ]
    return lines


def gate_section(found: dict[str, Any]) -> list[str]:
    """The release gate of the features."""
    rows = [
        [name.replace("_", " "), *(show(v) for v in part["excess"][1:]), "yes" if part["passed"] else "**no**"]
        for name, part in found["monotone"].items()
    ]
    worst = [[name.replace("_", " "), show(part["distance"])] for name, part in found["collapsed"].items()]
    models = [[name, show(value)] for name, value in found["models"].items()]
    return [
        "## The features: release gate of MTFeat-64",
        "",
        f"Two draws of {found['count']['other']} volumes (`benchmarks/features_gate.py`, on {found['device']}). Each "
        "change, done to either draw, must raise the Frechet distance to the other one above its floor at all of three "
        f"strengths. Rank correlation of two trainings over all sets: {show(found.get('spearman_of_seeds'))}.",
        "",
        *table(["change", "weak", "middle", "strong", "rises"], rows),
        f"Models and sets that no score may prefer to a model, {found['compared_size']} volumes each:",
        "",
        *table(["set", "Frechet distance"], [*models, *worst]),
    ]


def evaluation_sections(found: list[dict[str, Any]]) -> list[str]:
    """The scorecards of evaluations."""
    lines = []
    for scores in found:
        rows = scores["rows"]
        names = list(rows)
        body = []
        for key, standard in GENERATION.items():
            cells = []
            for name in names:
                text = ranged(rows[name]["scorecard"][key], rows[name].get("scorecard_intervals", {}).get(key))
                cells.append(f"{text}, {rows[name]['verdicts'][key]}" if name == "candidate" else text)
            body.append([standard.title, *cells])
        lines += [
            f"## {scores['candidate']['name']} against {scores['against']}",
            "",
            f"Track: {scores['track']}; {scores['volumes_per_set']} volumes a set, {scores['effort']} setting. In "
            "standard deviations of another draw of the reference: about 0 is as good as real. In parentheses 95 % "
            "intervals over volumes.",
            "",
            *table(["", *names], body),
        ]
        lines += [
            "Candidate over reference: "
            + ", ".join(
                f"{name.replace('_', ' ')} {percent(value, rows['candidate'].get('relative_intervals', {}).get(name))}"
                for name, value in rows["candidate"]["relative_to_reference"].items()
            )
            + ".",
            "",
        ]
        if "reconstruction" in scores:
            part = scores["reconstruction"]
            ends = part.get("scorecard_intervals", {})
            lines += table(
                [f"reconstruction of {part['volumes']} volumes", "value", "verdict"],
                [
                    [RECONSTRUCTION[k].title, ranged(v, ends.get(k)), part["verdicts"][k]]
                    for k, v in part["scorecard"].items()
                ],
            )
        if "memorization" in scores:
            m = scores["memorization"]
            lines += [
                f"Copies, {m['samples']} samples in {m['training_volumes_searched']} of {m['training_volumes']} "
                f"training volumes: nearest patch {show(m['patch_correlation'])}, of unseen volumes "
                f"{show(m['patch_correlation_held_out'])}.",
                "",
            ]
    return lines


def main() -> int:
    """Write the page."""
    lines = [
        "# Measured scores",
        "",
        "Written by `benchmarks/render_evaluation.py`. What each number means: [evaluation](evaluation.md).",
        "",
    ]
    evaluations = [read(path) for path in sorted(RESULTS.glob("evaluate-*.json"))]
    lines += evaluation_sections(evaluations)
    for path, section in (
        (RESULTS / "sensitivity.json", sensitivity_section),
        (EXPECTED, mt_sim_section),
        (RESULTS / "features_gate.json", gate_section),
    ):
        content = read(path)
        if content is not None:
            lines += section(content)
    lines += ["## The tracer", "", *(f"- {line}" for line in tracer_bias().lines()), ""]
    PAGE.write_text("\n".join(lines), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
