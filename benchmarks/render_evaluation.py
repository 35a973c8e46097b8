"""Write docs/scores.md from results: ``python benchmarks/render_evaluation.py``.

Takes what is there of results/evaluate-*.json (the ``scores.json`` of `napari-vqldm evaluate`), folders.json,
added_value.json, sensitivity.json, micro_ms3im.json, tracer.json and features_gate.json, and the expected numbers of
MT-Sim v1.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from render_features import floor_section, gate_section, sensitivity_section
from tables import percent, ranged, show, table

from napari_vqldm.metrics.tracer_bias import tracer_bias
from napari_vqldm.report.scores import withheld
from napari_vqldm.report.standards import GENERATION, NO_VERDICT, RECONSTRUCTION

ROOT = Path(__file__).parent
RESULTS = ROOT / "results"
EXPECTED = ROOT.parent / "src" / "napari_vqldm" / "simulate" / "data" / "mt-sim-v1-expected.json"
PAGE = ROOT.parent / "docs" / "scores.md"

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


def evaluation_sections(found: list[dict[str, Any]]) -> list[str]:
    """The scorecards of evaluations."""
    lines = []
    for stored in found:
        real = "another seed" if stored["track"] == "simulated" else "other half"
        scores = withheld(stored, real)
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
            *_remarks(scores),
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


def micro_section(found: dict[str, Any]) -> list[str]:
    """MicroMS3IM of volumes that know nothing of the truth, or little."""
    rows = [
        [
            name,
            *(
                f"{show(rows[key]['mean'])} ({show(rows[key]['lowest'])} to {show(rows[key]['highest'])})"
                for key in ("blank", "noisy", "gaussian")
            ),
        ]
        for name, rows in found["tiers"].items()
    ]
    return [
        "## What MicroMS3IM gives to nothing",
        "",
        f"Mean and range over the first {found['volumes']} test volumes of each tier, microssim {found['microssim']} "
        "(`benchmarks/micro_ms3im.py`). A constant has no structure at all.",
        "",
        *table(["tier", "a constant", "noisy input", "Gaussian filter"], rows),
    ]


def _remarks(scores: dict[str, Any]) -> list[str]:
    """What a reader must know of one evaluation: numbers without verdict, the windows of real stacks, the time."""
    lines = []
    if blind := [GENERATION[key].title for key in scores["no_verdict"]]:
        lines.append(f"No verdict on {', '.join(blind)}: {NO_VERDICT}.")
    lines += [note.removeprefix("Reference: ") for note in scores["notes"] if note.startswith("Reference: ")]
    if "seconds" in scores:
        lines.append(
            f"It took {scores['seconds'] / 60:.0f} minutes with {scores['workers']} "
            f"worker{'s' if scores['workers'] > 1 else ''} on {scores['candidate'].get('device', 'cpu')}."
        )
    return [" ".join(lines), ""] if lines else []


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
    lines += evaluation_sections(evaluations) + floor_section(evaluations)
    for path, section in (
        (RESULTS / "folders.json", folders_section),
        (RESULTS / "added_value.json", added_sections),
        (RESULTS / "sensitivity.json", sensitivity_section),
        (EXPECTED, mt_sim_section),
        (RESULTS / "micro_ms3im.json", micro_section),
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
