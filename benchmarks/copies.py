"""Search for copies of training volumes; as `samples`, the result may be made on one machine and used on another."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from samples import differences
from scores import Scores, memorization_scores
from standard64 import Array, Standard, simulated_twins, training_bank

from napari_vqldm.checkpoint import Model
from napari_vqldm.errors import ConfigError
from napari_vqldm.files.atomic import atomic_path
from napari_vqldm.metrics.memorization import nearest_patches


def counted(items: Iterable[Array], total: int, what: str) -> Iterator[Array]:
    """Say now and then how far a long loop is."""
    for number, item in enumerate(items, start=1):
        if number % max(1, total // 8) == 0:
            print(f"    {what} {number}/{total}", file=sys.stderr)
        yield item


def copies_scores(
    model: Model, standard: Standard, samples: Sequence[Array], count: int, device: str, cache: Path | None
) -> Scores:
    """Compare ``samples`` and as many simulated volumes of the same parameters with all ``count`` training volumes."""
    twins = simulated_twins(standard, standard.spec["generated"]["condition_seed"], len(samples))
    bank = counted(training_bank(model, count, device, cache), count, "training volumes")
    found = nearest_patches([*samples, *twins], bank, device)
    return memorization_scores(found, len(samples)) | {
        "training_volumes": count,
        "generated_volumes": len(samples),
        "held_out_volumes": len(twins),
    }


def copies_file(folder: Path, model: Model) -> Path:
    """File of the scores in ``folder``."""
    return folder / f"{model.name}-copies.json"


def keep_copies(path: Path, scores: Scores, description: dict[str, str]) -> None:
    """Write scores beside the ``description`` of the samples that they belong to."""
    with atomic_path(path, True) as temporary:
        temporary.write_text(json.dumps({"scores": scores, **description}, indent=1) + "\n", encoding="utf-8")


def kept_copies(path: Path, description: dict[str, str], queries: int, count: int) -> Scores:
    """Read scores; refuses those of other samples or of fewer volumes.

    Raises
    ------
    ConfigError
        If the file was made for other samples, or for other numbers of them or of training volumes.
    """
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        scores: Scores = known["scores"]
        numbers = (scores["generated_volumes"], scores["training_volumes"])
        different = differences(known["samples"], description["samples"])
    except (ValueError, LookupError, TypeError):
        raise ConfigError(f"{path}: damaged: make it again with --keep-samples") from None
    if different:
        raise ConfigError(f"{path}: made for other {', '.join(different)}: make it again with --keep-samples")
    if numbers != (queries, count):
        raise ConfigError(
            f"{path}: {numbers[0]} samples were compared with {numbers[1]} training volumes, "
            f"wanted {queries} and {count}: make it again with --keep-samples"
        )
    return scores
