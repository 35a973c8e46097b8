"""The section on real stacks of docs/bundled.md, from the result of ``real_stacks.py``."""

from __future__ import annotations

from typing import Any

from tables import table

from napari_vqldm.cli.baselines import ROWS


def real_stacks_section(result: dict[str, Any]) -> list[str]:
    """Markdown lines."""
    stacks, limit = result["stacks"], result["minimum_correlation"]
    lines = [
        "## Real stacks",
        "",
        "Through `napari-vqldm reconstruct`, compared with the input itself: there is no truth. A high correlation "
        "says that the structure survives, not that the noise is gone; the simple rows beside it say what it is worth.",
        "",
    ]
    lines += [f"- {name}: {text}" for name, text in ROWS.items()] + [""]
    lines += table(
        ["stack, model", "grid", "voxel size, um", "file", *ROWS, "wanted"],
        [
            [
                f"{s['stack']}, {s['model']}",
                _times(s["grid"]),
                _times(s["voxel_size_um"]),
                s["dtype"],
                *(f"{s['correlation'][row]:.4f}" for row in ROWS),
                f">= {limit:g}: {_yes(s['passed'])}" if s["gated"] else "printed",
            ]
            for s in stacks
        ],
    )
    lines += [
        "The latent was saved to a file and decoded in a new process. Same bits: as the output of `reconstruct`.",
        "",
    ]
    lines += table(
        ["stack, model", "latent file, bytes", "codes near a tie", "same bits", "same grid and voxel size", "seconds"],
        [
            [
                f"{s['stack']}, {s['model']}",
                str(s["latent_bytes"]),
                f"{s['near_ties']} of {s['cells']}" if s["near_ties"] is not None else "no codes",
                _yes(s["same_bits"]),
                _yes(s["same_geometry"]),
                f"{s['seconds']:.1f}",
            ]
            for s in stacks
        ],
    )
    for refused in result["refused"]:
        lines += [
            f"`{refused['stack']}` states no voxel size. Without `--voxel-size` the command ends with exit code "
            f"{refused['exit_code']} and says: {refused['message']}",
            "",
        ]
    return lines


def _times(values: list[float]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)


def _yes(value: bool) -> str:
    return "yes" if value else "**no**"
