"""Write docs/scores.md from results: ``python benchmarks/render_evaluation.py``.

Takes what is there of results/evaluate-*.json (the ``scores.json`` of `napari-vqldm evaluate`), folders.json,
added_value.json, sensitivity.json, tracer.json and features_gate.json, and the expected numbers of MT-Sim v1.
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

RESTORED = ("psnr_clean_unit_range_db", "ssim3d_unit_range", "foreground_psnr_unit_range_db", "centre_line_f1")


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
        "(`benchmarks/sensitivity.py`). The floor is the mean over random halves of two draws. The changed sets "
        "are the third seed, each with one change: read their relative differences against that row, which has 12 % "
        "less filament than the reference by chance.",
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


def folders_section(found: dict[str, Any]) -> list[str]:
    """Sets whose rank is known, as files of another program."""
    rows = [
        [name, *(f"{show(v)}, {part['verdicts'][key]}" for key, v in part["scorecard"].items())]
        for name, part in found["folders"].items()
    ]
    keys = next(iter(found["folders"].values()))["scorecard"]
    return [
        "## Folders whose rank is known",
        "",
        f"{found['volumes']} volumes of each as OME-TIFF that says nothing of their origin or brightness, against the "
        f"{found['against']} tier (`benchmarks/folders.py`). The first is as good as can be, the others "
        "are wrong on purpose: read which number tells them from it. Differences of 3 between good sets are "
        "chance at this size.",
        "",
        *table(["folder", *(GENERATION[key].title for key in keys)], rows),
    ]


def added_sections(found: dict[str, Any]) -> list[str]:
    """What a model does that the simulator cannot."""
    lines = ["## What a model adds over the simulator", "", "`benchmarks/added_value.py`; what it means is said in "
             "[evaluation](evaluation.md#what-a-generative-model-adds-over-the-simulator).", ""]  # fmt: skip
    body, sizes, again, adapted = [], [], [], []
    for model, parts in found["models"].items():
        for tier in ("sparse", "standard", "hard"):
            rows = parts["restoration"][tier]
            for name in ("noisy", "gaussian", "model"):
                title = {"noisy": "noisy input", "gaussian": "Gaussian filter", "model": model}[name]
                body.append([tier, title, *(ranged(rows[name][key], rows[name][key]) for key in RESTORED)])
        part = parts["latents"]
        sizes.append(f"{model} {show(part['latent_bytes'] / 1024)} KiB, 1/{part['ratio']:.0f}")
        part = parts["regeneration"]
        for strength in (key for key in part if key not in ("device", "count")):
            keys = ("kept_f1", "alike_f1", "length_ratio")
            again.append([model, strength, *(ranged(part[strength][key], part[strength][key]) for key in keys)])
        part = parts["adaptation"]
        for title, row in (("as it is", parts["restoration"]["hard"]["model"]), ("trained on", part["model"])):
            adapted.append([f"{model}, {title}", *(ranged(row[key], row[key]) for key in RESTORED)])
    first = next(iter(found["models"].values()))
    heads = [title for key in RESTORED for known, title in FIDELITY if known == key]
    seen, unlike = set(), []
    for row in body:  # input and filter are the same for every model
        if tuple(row) not in seen:
            unlike.append(row)
            seen.add(tuple(row))
    lines += [f"### Restoration, {first['restoration']['count']} test volumes of each tier", ""]
    lines += table(["tier", "", *heads], sorted(unlike, key=lambda row: ("sparse", "standard", "hard").index(row[0])))
    lines += ["### Latents", "", "A 16-bit stack of the standard tier has 1024 KiB, its latent file "
              f"{'; '.join(sizes)} of it.", ""]  # fmt: skip
    lines += [
        f"### Regeneration, {first['regeneration']['count']} volumes of the standard tier, two draws of each",
        "",
        *table(["", "strength", "filaments kept, F1", "alike in two draws, F1", "length over true length"], again),
        "### Adaptation to the hard tier",
        "",
        *(
            f"- {model}: {part['steps']} steps on {part['volumes']} simulated volumes, {part['seconds'] / 60:.0f} "
            f"minutes on one thread of a CPU."
            for model, part in ((m, parts["adaptation"]) for m, parts in found["models"].items())
        ),
        "",
        *table(["", *heads], adapted),
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
        (RESULTS / "folders.json", folders_section),
        (RESULTS / "added_value.json", added_sections),
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
