"""Write the scores of a result file into the card of its model: ``python benchmarks/write_card.py RESULT.json [FILE]``.

The weights and their hash stay as they are. FILE: the checkpoint, by default the bundled model of that name.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from napari_vqldm.checkpoint import load_checkpoint, save_checkpoint
from napari_vqldm.errors import ConfigError, VqldmError
from napari_vqldm.zoo import resolve


def scorecard(result: dict[str, Any], model: dict[str, Any]) -> dict[str, Any]:
    """Every gate of a model, and on how many volumes it was measured."""
    names = ("value", "rule", "limit", "passed")
    return {
        "benchmark": f"benchmarks/bundled.py, {result['spec']['tier']} tier",
        "created": result["environment"]["created"],
        "simulated_volumes": result["spec"]["reference"]["count"],
        "generated_volumes": result["spec"]["generated"]["count"],
        "gates": {gate: {name: verdict[name] for name in names} for gate, verdict in model["gates"].items()},
    }


def write_card(result: dict[str, Any], model: dict[str, Any], path: Path) -> None:
    """Rewrite the header of ``path``.

    Raises
    ------
    ConfigError
        If the scores are of a trial run or of other weights.
    """
    loaded = load_checkpoint(path)
    if result["quick"]:
        raise ConfigError("these scores are of a trial run (--quick): no card holds them")
    if model["weights_sha256"] != loaded.weights_sha256:
        raise ConfigError(f"{path}: these scores are of other weights: run benchmarks/bundled.py again")
    fields = loaded.header.card.model_dump() | {
        "scorecard": scorecard(result, model),
        "memorization": model.get("memorization", {}),
    }
    save_checkpoint(
        path,
        config=loaded.config,
        space=loaded.space,
        denoiser=loaded.denoiser,
        card_fields=fields,
        training=loaded.header.training,
        force=True,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the card of each model in a result file; 0 when done, 2 on a wrong request."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if len(words) not in (1, 2):
        print(__doc__, file=sys.stderr)
        return 2
    try:
        result = json.loads(Path(words[0]).read_text(encoding="utf-8"))
        for model in result["models"]:
            write_card(result, model, Path(words[1]) if len(words) == 2 else resolve(model["name"]))
    except (VqldmError, OSError, ValueError, LookupError) as error:
        print(f"{words[0]}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
