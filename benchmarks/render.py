"""Write docs/bundled.md from results of ``bundled.py``: ``python benchmarks/render.py [RESULT ...] [--out FILE]``.

The result of ``real_stacks.py`` becomes a section of its own, where there is one.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from render_real import real_stacks_section
from tables import number, table

from napari_vqldm.report.scorecard import gate_title

ROOT = Path(__file__).parent
RESULTS = ROOT / "results"
PREDICTED_MINUTES = ROOT / "data" / "predicted_minutes.json"  # model -> what was planned before it was trained
REAL_STACKS_RESULT = RESULTS / "real_stacks.json"
DEFAULT_PAGE = ROOT.parent / "docs" / "bundled.md"

FIDELITY_NAMES = {
    "blank": "blank (best constant)",
    "noisy": "noisy input",
    "gaussian": "Gaussian filter of the noisy input",
    "pooled": "clean, pooled to the latent grid",
    "model": "",
    "model_estimated_intensity": ", intensity estimated",
}
SET_NAMES = {
    "length_density_um_per_um3": "traced length density, um/um³",
    "median_length_um": "median length of connected traced filaments, um",
    "length_weighted_median_um": "length-weighted median, um",
    "spectrum_distance_db": "lateral spectrum distance, dB",
    "intensity_w1_per_sd": "intensity W1 / sd",
    "diversity": "diversity (mean pairwise 1 - correlation)",
}


def render(
    results: Sequence[dict[str, Any]],
    real_stacks: dict[str, Any] | None = None,
    predicted_minutes: Mapping[str, str] | None = None,
) -> str:
    """The page as markdown. The simulated rows come from the first result; all must share one specification."""
    first, models = results[0], [m for r in results for m in r["models"]]
    if any(r["spec"] != first["spec"] for r in results):
        raise SystemExit("expected results of one specification: run bundled.py again with the same options")
    spec, simulated = first["spec"], first["simulated"]
    count, quick = spec["reference"]["count"], any(r["quick"] for r in results)
    names = [m["name"] for m in models]
    lines = ["# Bundled models in numbers", ""]
    lines += ["This page is written by `benchmarks/render.py` from the output of `benchmarks/bundled.py`.", ""]
    if quick:
        lines += ["**A trial run on few volumes: these numbers prove nothing.**", ""]
    lines += [
        f"{count} simulated volumes of the {spec['tier']} tier that no model was trained on, and "
        f"{spec['generated']['count']} samples per model. Brackets are 95 % bootstrap intervals over volumes. Simulated"
        " volumes say nothing about a real microscope.",
        "",
        "## Models",
        "",
    ]
    facts = [
        ("family", "family"),
        ("preset", "preset"),
        ("parameters", "parameters"),
        ("file, MiB", "file_mib"),
        ("latent channels", "latent_channels"),
        ("downsampling (z, y, x)", "downsampling_factor"),
        ("training steps", "training_steps"),
        ("minutes spent", "training_minutes"),
        ("trained on", "training_device"),
        ("sampler", "sampler"),
        ("sampling steps", "steps"),
        ("sampled and scored in", "sampling_precision"),
        ("weights SHA-256", "weights_sha256"),
    ]
    rows = [[title, *(_fact(m[key]) for m in models)] for title, key in facts]
    predicted = ["minutes predicted", *((predicted_minutes or {}).get(m["name"], "none") for m in models)]
    rows.insert([title for title, _ in facts].index("minutes spent"), predicted)
    lines += table(["", *names], rows)
    lines += [
        "## Verdicts",
        "",
        "A gate compares one number with a limit that was fixed before the models were trained.",
        "",
    ]
    for model in models:
        lines += [f"### {model['name']}", ""]
        lines += table(
            ["gate", "value", "limit", "passed"],
            [
                [
                    gate_title(name),
                    _value(g),
                    f"{g['rule']} {number(g['limit'])}",
                    "yes" if g["passed"] else "**no**",
                ]
                for name, g in model["gates"].items()
            ],
        )
    lines += _fidelity(simulated, models) + _sets(spec, simulated, models, names) + _rest(simulated, models)
    lines += real_stacks_section(real_stacks) if real_stacks is not None else []
    lines += ["## How it ran", ""]
    for result in results:
        where = result["environment"]
        versions = ", ".join(f"{k} {v}" for k, v in where["versions"].items())
        lines += [
            f"- {', '.join(m['name'] for m in result['models'])}: {where['device_name']} ({where['device']}), "
            f"{sum(result['seconds'].values()):.0f} s, {where['created']}, Python {where['python']}, {versions}."
        ]
    return "\n".join([*lines, ""])


def _value(verdict: dict[str, Any]) -> str:
    """The number that is judged, and those of which it is the lowest."""
    parts = ", ".join(f"{what} {number(value)}" for what, value in verdict.get("parts", {}).items())
    return number(verdict["value"]) + (f" ({parts})" if parts else "")


def _fact(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {number(v)}" for k, v in value.items()) or "not recorded"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return (
        (f"`{value[:12]}`" if len(value) == 64 else value or "not recorded")
        if isinstance(value, str)
        else number(value)
    )


def _fidelity(simulated: dict[str, Any], models: Sequence[dict[str, Any]]) -> list[str]:
    sigma = ", ".join(f"{s:g}" for s in simulated["gaussian_sigma_voxels"])
    lines = [
        "## Reconstruction",
        "",
        "Noisy volume in, compared with the clean one. PSNR over the range from the 0.1 to the 99.9 percentile of "
        f"the clean volume, nothing clipped. Gaussian: sigma ({sigma}) voxels, the best of a grid on other volumes. "
        "Pooled: the clean volume averaged over 2 x 4 x 4 voxels, enlarged with cubic splines.",
        "",
    ]
    rows = [(FIDELITY_NAMES[key], row) for key, row in simulated["fidelity"].items()]
    rows += [(m["name"] + FIDELITY_NAMES[key], row) for m in models for key, row in m["fidelity"].items()]
    cells = [[name, number(row["psnr_unit_range_db"]), number(row["pearson"])] for name, row in rows]
    return lines + table(["", "PSNR (p0.1-p99.9), dB", "Pearson"], cells)


def _sets(
    spec: dict[str, Any], simulated: dict[str, Any], models: Sequence[dict[str, Any]], names: Sequence[str]
) -> list[str]:
    camera = spec["camera"]
    lines = [
        "## Samples",
        "",
        f"All sets recorded by one camera: {camera['photons']:g} photons at the peak of a filament, background "
        f"{camera['background']:g}. The second simulated set is the floor: two sets of one distribution differ by it.",
        "",
    ]
    sampled = [m for m in models if "generated" in m]
    columns = [simulated["reference"], simulated["second"], *(m["generated"] for m in sampled)]
    head = ["", "simulated", "simulated, second set", *(m["name"] for m in sampled)]
    lines += table(head, [[title, *(number(c[key]) for c in columns)] for key, title in SET_NAMES.items()])
    tracer = simulated["tracer"]
    kinds = ", ".join(f"{k} {v:+.0%}" for k, v in tracer["length_bias_by_organisation"].items())
    lines += [
        f"The tracer itself finds {tracer['length_bias']:+.1%} of the true length of the simulated set ({kinds}); true "
        f"median length {number(tracer['truth']['median_length_um'])} um; Spearman of true and traced density "
        f"{tracer['spearman_true_traced']:.3f}.",
        "",
    ]
    return lines


def _rest(simulated: dict[str, Any], models: Sequence[dict[str, Any]]) -> list[str]:
    lines: list[str] = []
    copied = [m for m in models if "memorization" in m]
    if copied:
        lines += [
            "## Copies of training volumes",
            "",
            "Best correlation of 16 x 48 x 48 patches with any place of any training volume, flips and 90-degree turns "
            "included, mean over volumes. Held-out: simulated with the parameters that the samples were asked for.",
            "",
        ]
        lines += table(
            [
                "",
                "training volumes",
                "volumes compared",
                "generated",
                "held-out simulated",
                "difference of pairs",
                "highest, generated",
                "highest, held-out",
            ],
            [
                [
                    m["name"],
                    str(m["memorization"]["training_volumes"]),
                    f"{m['memorization']['generated_volumes']} and {m['memorization']['held_out_volumes']}",
                    *(
                        number({"value": p["mean"], **p})
                        for p in (m["memorization"]["generated"], m["memorization"]["held_out"])
                    ),
                    number(m["memorization"]["excess_of_pairs"]) if "excess_of_pairs" in m["memorization"] else "-",
                    *(number(m["memorization"][p]["max"]) for p in ("generated", "held_out")),
                ]
                for m in copied
            ],
        )
    steered = [m for m in models if "control" in m]
    if steered:
        levels = steered[0]["control"]["levels"]
        lines += ["## Requested and traced length density", ""]
        lines += table(
            ["requested, um/um³", *(f"{v:g}" for v in levels), "Spearman, volumes", "Spearman, levels"],
            [
                [
                    m["name"],
                    *(number(v) for v in m["control"]["traced_mean"]),
                    number(m["control"]["spearman_volumes"]),
                    number(m["control"]["spearman_levels"]),
                ]
                for m in steered
            ],
        )
    coded = [m for m in models if "code_usage" in m]
    if coded:
        lines += [
            "## Code usage",
            "",
            "A latent cell is a filament cell when its brightest clean voxel exceeds 0.3 filament peaks.",
            "",
        ]
        lines += table(
            ["", "cells", "codes used", "dead codes", "perplexity"],
            [
                [
                    f"{m['name']}, {part} (K = {m['codebook_size']})",
                    str(u["cells"]),
                    str(u["codes_used"]),
                    str(u["dead_codes"]),
                    number(u["perplexity"]),
                ]
                for m in coded
                for part, u in m["code_usage"].items()
            ],
        )
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Render; several result files of one specification become one page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", nargs="*", type=Path, help="default: every results/bundled*.json")
    parser.add_argument("--out", type=Path, default=DEFAULT_PAGE)
    parser.add_argument(
        "--real-stacks", type=Path, help=f"default {REAL_STACKS_RESULT.name} beside the results, if any"
    )
    options = parser.parse_args(arguments)
    real_path = options.real_stacks or (REAL_STACKS_RESULT if REAL_STACKS_RESULT.is_file() else None)
    real_stacks = None if real_path is None else json.loads(real_path.read_text(encoding="utf-8"))
    paths = options.results or sorted(RESULTS.glob("bundled*.json"))
    results = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    predicted = json.loads(PREDICTED_MINUTES.read_text(encoding="utf-8"))
    options.out.write_text(render(results, real_stacks, predicted), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
