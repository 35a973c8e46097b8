"""`evaluate`: a model, or a folder of volumes that any program made, against simulated volumes or real stacks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_vqldm.checkpoint import Model
from napari_vqldm.errors import ConfigError
from napari_vqldm.metrics.features import FeatureExtractor, load_extractor
from napari_vqldm.metrics.uncertainty import Spread
from napari_vqldm.report import fidelity
from napari_vqldm.report.copies import Copies, search_copies
from napari_vqldm.report.evaluation import Evaluation, EvaluationStep
from napari_vqldm.report.featured import featured
from napari_vqldm.report.folders import folder_windows, in_estimated_units
from napari_vqldm.report.noise import compared_noise
from napari_vqldm.report.parallel import Workers
from napari_vqldm.report.plan import FULL, QUICK, QUICK_BANK, SAMPLE_SEED, Effort, Plan
from napari_vqldm.report.profile import Profile, in_unit, measure
from napari_vqldm.report.rows import degraded, denser, other_split, real_references, recorded, simulated
from napari_vqldm.report.samples import askable, model_samples
from napari_vqldm.report.scores import LEAST_VOLUMES, score_rows
from napari_vqldm.report.sets import VOXEL_SIZE_UM, Array, VolumeSet, as_set
from napari_vqldm.report.standards import RECONSTRUCTION
from napari_vqldm.simulate import Simulator
from napari_vqldm.simulate.mt_sim import Split, mt_sim_split
from napari_vqldm.volume import Float3

__all__ = ["FULL", "QUICK", "Effort", "Evaluation", "EvaluationStep", "evaluate", "evaluate_steps"]


def evaluate_steps(
    candidate: Model | Path,
    against: Split | Path,
    effort: Effort = QUICK,
    *,
    extractor: FeatureExtractor | None = None,
    sampling_steps: int | None = None,
    voxel_size_um: Float3 | None = None,
    workers: int = 1,
) -> Iterator[EvaluationStep]:
    """Compare a candidate with a reference set and with what stands beside every such number.

    Parameters
    ----------
    candidate : Model or Path
        A model, which samples and reconstructs; or a folder of volumes, of whatever program.
    against : Split or Path
        A split of MT-Sim v1, or a folder of real stacks.
    effort : Effort
        ``QUICK`` takes minutes on a CPU, ``FULL`` hours.
    extractor : FeatureExtractor, optional
        The current release by default, on the device of a model.
    sampling_steps : int, optional
        Of the model's sampler; the checkpoint's by default.
    voxel_size_um : tuple of float, optional
        Of files that do not state it.
    workers : int
        Processes of one thread each that simulate and measure on the CPU; 1: no other than this. No score depends on
        it to the last bit. They are spawned: a script needs an ``if __name__ == "__main__"`` around the call.

    Yields
    ------
    EvaluationStep
        Per volume or so; the last one holds the `Evaluation`.

    Raises
    ------
    ConfigError
        If a folder holds too few volumes, a model without denoiser is compared with real stacks, or ``workers`` is
        below 1.
    WorkerError
        If one of several workers dies.
    """
    if extractor is None:
        extractor = load_extractor(device=candidate.device if isinstance(candidate, Model) else "cpu")
    plan = Plan(candidate, against, effort, extractor, sampling_steps, voxel_size_um)
    with Workers(workers) as pool:
        yield from _Run(plan, pool).steps()


def evaluate(candidate: Model | Path, against: Split | Path, effort: Effort = QUICK, **options: Any) -> Evaluation:
    """Run `evaluate_steps` to the end and return what it found; parameters and errors are the same."""
    result = None
    for step in evaluate_steps(candidate, against, effort, **options):
        result = step.result
    if result is None:
        raise ConfigError("the evaluation ended without a result")
    return result


class _Run:
    """One evaluation under way."""

    def __init__(self, plan: Plan, workers: Workers) -> None:
        self.plan, self.workers = plan, workers
        self.candidate, self.against, self.effort = plan.candidate, plan.against, plan.effort
        self.split, self.is_simulated, self.real_name = plan.split, plan.is_simulated, plan.real_name
        self.size = plan.effort.count
        # Where the brightness of files was estimated, that of simulated volumes is too: the same error on both sides.
        self.is_estimated = not plan.is_simulated
        self.index, self.total = 0, self.size * (9 if isinstance(self.candidate, Model) else 8)
        self.has_own_camera = False  # the candidate: files that someone recorded
        self.notes: list[str] = []
        self.rows: dict[str, VolumeSet] = {}
        self.measured: dict[str, list[Profile]] = {}
        self.scores: dict[str, Any] = {}
        self.copies: Copies | None = None
        self.spread: Spread | None = None
        self.shown: tuple[Array, ...] = ()

    def done(self, doing: str) -> EvaluationStep:
        """Count one piece of work; how many there are is known only roughly before the last."""
        self.index += 1
        self.total = max(self.total, self.index + 1)
        return EvaluationStep(self.index - 1, self.total, doing)

    def steps(self) -> Iterator[EvaluationStep]:
        """Do all of it."""
        start = time.perf_counter()
        self.plan.check()
        self.read_candidate()
        yield from self.make_references()
        yield from self.sample_candidate()
        self.make_other_rows()
        self.compare_noise()
        yield from self.measure()
        self.scores |= score_rows(self.measured, self.real_name)
        if isinstance(self.candidate, Model):
            if self.is_simulated and self.candidate.config.target == "clean":
                yield from self.reconstruct(self.candidate)
            elif self.is_simulated:
                self.notes.append("The model learned noisy stacks: its reconstructions have no noise-free truth here.")
            if "candidate" in self.rows and self.candidate.config.simulation is not None:
                yield from self.search_copies(self.candidate)
            self.scores["card_memorization"] = dict(self.candidate.header.card.memorization)
        self.scores |= self.plan.about(self.size, self.notes)
        self.scores |= {"seconds": round(time.perf_counter() - start, 1), "workers": self.workers.count}
        sets = {"reference": self.reference} | self.rows
        found = Evaluation(self.scores, sets, self.measured, self.copies, self.spread, self.shown)
        yield EvaluationStep(self.index, self.index + 1, "done", found)

    def read_candidate(self) -> None:
        """Read a folder first: it says how many volumes can be compared."""
        if isinstance(self.candidate, Model):
            return
        if isinstance(self.against, Path) and self.candidate.resolve() == self.against.resolve():
            raise ConfigError(f"{self.candidate}: expected another folder than that of --against: it would be compared "
                              "with itself")  # fmt: skip
        found = folder_windows(self.candidate, self.size, self.plan.voxel_size_um)
        if len(found.windows) < LEAST_VOLUMES:
            raise ConfigError(
                f"{self.candidate}: expected at least {LEAST_VOLUMES} windows of 6.4 x 12.8 x 12.8 um to compare, got "
                f"{len(found.windows)}: add volumes"
            )
        self.size, self.is_estimated = len(found.windows), self.is_estimated or found.estimated
        windows, notes = found.windows, list(found.notes)
        self.has_own_camera = not found.noise_free
        if found.noise_free:
            windows = recorded(windows, other_split(self.split), self.workers)
            notes.append("They are noise-free, by their own record, and were recorded by the tier's camera.")
        self.rows["candidate"] = VolumeSet(str(self.candidate), windows, "files", notes=tuple(notes))
        self.notes += [f"Candidate: {note}" for note in notes]

    def make_references(self) -> Iterator[EvaluationStep]:
        """Make the reference, another draw of it, and the simulator's volumes; all sets get one size."""
        if not isinstance(self.against, Split):
            self.reference, self.second = real_references(self.against, self.size, self.plan.voxel_size_um)
            self.size = len(self.reference.volumes)
            self.notes += [f"Reference: {note}" for note in self.reference.notes]
        drawn = []
        for volume in simulated(self.split, self.size, self.workers):
            drawn.append(volume)
            yield self.done("simulating")
        self.simulator = as_set(f"MT-Sim v1, {self.split.tier} tier, {self.split.name} split", drawn)
        if self.is_simulated:
            other = mt_sim_split(self.split.tier, "val" if self.split.name != "val" else "test")
            more = []
            for volume in simulated(other, self.size, self.workers):
                more.append(volume)
                yield self.done("simulating another seed")
            self.reference, self.second = self.simulator, as_set(f"{other.name} split", more)

    def sample_candidate(self) -> Iterator[EvaluationStep]:
        """Sample the model with conditions of volumes that are in no other set, and record with the tier's camera."""
        if not isinstance(self.candidate, Model):
            name = "candidate"
            self.rows[name] = replace(self.rows[name], volumes=self.rows[name].volumes[: self.size])
            return
        if self.candidate.denoiser is None:
            self.notes.append("The model has no denoiser, so it generates nothing.")
            return
        source = other_split(self.split)
        simulator = Simulator(source.simulation)
        asked, moved = [], 0
        for index in range(self.size):
            wanted = simulator.draw_parameters(source.seed, index).condition_values()
            conditions, was_moved = askable(self.candidate, wanted)
            asked.append(conditions)
            moved += was_moved
        clean: list[Array] = []
        for volume in model_samples(self.candidate, SAMPLE_SEED, asked, self.plan.sampling_steps):
            clean.append(volume)
            yield self.done(f"sampling {self.candidate.name}")
        noisy = recorded(clean, source, self.workers)
        self.rows["candidate"] = VolumeSet(self.candidate.name, noisy, "simulated", clean)
        self.notes.append(
            f"{len(clean)} samples with the conditions of volumes of the {source.name} split, not of the reference, "
            "recorded by the tier's camera."
        )
        if moved:
            self.notes.append(f"{moved} of them were asked for the nearest conditions that the model was trained for.")
        if not self.is_simulated:
            self.notes.append("The stacks have another camera: spectra, intensities and features see that first.")

    def make_other_rows(self) -> None:
        """Add what stands beside the candidate."""
        self.rows[self.real_name] = self.second
        if self.is_simulated:
            self.rows["25 % more filament"] = denser(self.split, self.size, self.workers)
        else:
            self.rows["the simulator itself"] = self.simulator
        self.rows |= degraded(self.reference, self.split if self.is_simulated else None, self.workers)

    def compared(self, chosen: VolumeSet) -> Iterator[Array]:
        """Volumes of a set in the units in which they are compared."""
        is_estimated = self.is_estimated and chosen.track == "simulated"
        return (in_estimated_units(v) if is_estimated else v for v in chosen.volumes)

    def compare_noise(self) -> None:
        """Say where recorded files have another noise than the reference: every distance sees it."""
        if not self.has_own_camera:
            return
        self.scores["noise"] = compared_noise(self.rows["candidate"].volumes, self.compared(self.reference))
        if self.scores["noise"]["note"]:
            self.notes.append(f"Candidate: {self.scores['noise']['note']}")

    def measure(self) -> Iterator[EvaluationStep]:
        """Measure every volume once: the features here, on the device of their network, the rest by the workers."""
        extractor = self.plan.extractor
        for name, chosen in ({"reference": self.reference} | self.rows).items():
            rows = featured(self.compared(chosen), extractor)
            known = ((v, in_unit(row[None], extractor)[0]) for v, row in rows)
            self.measured[name] = []
            for found in self.workers.map(_measure, known):
                self.measured[name].append(found)
                yield self.done(f"measuring: {name}")

    def reconstruct(self, model: Model) -> Iterator[EvaluationStep]:
        """Reconstruct simulated volumes, and say what noise alone decides in one of them."""
        truths = self.simulator.simulated[: self.effort.reconstructions]
        for table in fidelity.fidelity_scores(model, truths, self.split, self.workers):
            yield self.done("reconstructing")
            if table is not None:
                card = fidelity.scorecard(table)
                verdicts = {name: RECONSTRUCTION[name].judge(value) for name, value in card.items()}
                self.scores["reconstruction"] = table | {"scorecard": card, "verdicts": verdicts}
        self.spread, self.shown, self.scores["uncertainty"] = fidelity.uncertainty(model, truths[0], self.split)
        yield self.done("uncertainty")

    def search_copies(self, model: Model) -> Iterator[EvaluationStep]:
        """Search the training volumes for the samples, and for unseen volumes of the very conditions."""
        known = model.header.training.num_volumes
        wanted = self.effort.bank or known or QUICK_BANK
        samples = self.rows["candidate"].clean[: self.effort.queries]
        held_out = [volume.clean for volume in simulated(other_split(self.split), len(samples), self.workers)]
        yield self.done("simulating unseen volumes")
        count, extractor = min(wanted, known or wanted), self.plan.extractor
        for found in search_copies(model, samples, held_out, count, extractor, self.workers):
            yield self.done("searching for copies")
            self.copies = found
        if self.copies is not None:
            self.scores["memorization"] = self.copies.scores


def _measure(known: tuple[Array, npt.NDArray[np.float32]]) -> Profile:
    """Measure a volume whose features are known, in a process of its own."""
    volume, features = known
    return measure(volume, features, VOXEL_SIZE_UM)
