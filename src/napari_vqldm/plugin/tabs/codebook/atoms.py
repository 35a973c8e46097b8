"""Measures atoms in the background: of the code that is looked at first, then of those that the gallery wants."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_vqldm.plugin.desk import Desk
from napari_vqldm.plugin.inference.jobs import Job, Priority, Progress
from napari_vqldm.plugin.tabs.codebook.code_work import AtomDone, atoms_work
from napari_vqldm.plugin.tabs.codebook.state import CodebookState, Found

if TYPE_CHECKING:
    from napari_vqldm.inside.atoms import Atom

MEASURING = "Measuring what it paints…"
MEASURING_WHOLE = "Measuring all of it…"
FAILED = "It could not be measured: the message of the dock says why. Choose the code again to try once more."


class AtomMaker(QObject):
    """Atoms of the codes that were counted, each measured once.

    Parameters
    ----------
    desk : Desk
        Of the dock.
    state : CodebookState
        Counts and choice.

    Attributes
    ----------
    atoms, wholes : dict
        By code, those measured so far: what pictures show of them, which takes a third of the time, and the whole
        receptive field.
    """

    made = Signal(object)  # Atom
    made_whole = Signal(object)  # Atom, asked for by `look_whole`
    said_whole = Signal(int, str)  # code, how far `look_whole` is; empty when it has ended
    said = Signal(int, str)  # code, in one line: how far it is, or why there is no atom

    def __init__(self, desk: Desk, state: CodebookState, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.atoms: dict[int, Atom] = {}
        self.wholes: dict[int, Atom] = {}
        self._desk, self._state = desk, state
        self._reasons: dict[int, str] = {}
        self._found: Found | None = None
        self._looked: Job | None = None  # measures the code that is looked at
        self._whole: Job | None = None  # measures the whole receptive field of the code that is looked at
        self._listed: Job | None = None  # measures those of the gallery
        self._wanted: tuple[int, ...] = ()
        self._gives_way = False
        state.counted.connect(self._on_counted)
        desk.runner.queued.connect(self._on_queued)

    def look(self, code: int) -> None:
        """Measure the atom of a code now, or show the one there is."""
        found = self._found
        if found is None or not found.is_complete:
            return
        self.look_away()
        if code in self.atoms:
            self.made.emit(self.atoms[code])
        elif code in self._reasons:
            self.said.emit(code, self._reasons[code])
        else:
            self.said.emit(code, MEASURING)
            self._looked = self._run(f"Atom of code {code}", found, [code], Priority.INTERACTIVE)

    def look_whole(self, code: int) -> None:
        """Measure the whole receptive field of a code, or show what there is of it."""
        found = self._found
        if found is None:
            return
        if not found.is_complete:
            self._desk.noticed.emit("The atom is measured when counting is done: press the button again then.")
            return
        self._stop(self._whole)
        if code in self.wholes:
            self.made_whole.emit(self.wholes[code])
            return
        self.said_whole.emit(code, MEASURING_WHOLE)

        def step(value: Any) -> None:
            if found is not self._found:
                return
            if isinstance(value, Progress):
                self.said_whole.emit(code, f"{MEASURING_WHOLE} {value.index + 1} of {value.total}")
            elif isinstance(value, AtomDone) and value.atom is not None:
                self._keep(value.atom)
                self.made_whole.emit(value.atom)
            elif isinstance(value, AtomDone):
                self._desk.noticed.emit(value.reason)

        def end(_: Any = None) -> None:
            if self._whole is None or self._whole is job:  # else it is measured anew
                self.said_whole.emit(code, "")

        job = self._whole = self._desk.runner.run(
            f"Atom of code {code}, whole",
            atoms_work(self._desk.model.spec(), found, [code], is_whole=True),
            on_step=step,
            on_done=end,
            on_failure=end,
            on_cancelled=end,
            priority=Priority.INTERACTIVE,
            key="codebook-whole-atom",
            show_progress=False,
        )

    def look_away(self) -> None:
        """Stop measuring for `look` and `look_whole`: another code is chosen, or none."""
        for job in (self._looked, self._whole):
            self._stop(job)
        self._looked = self._whole = None

    def want(self, codes: Iterable[int]) -> None:
        """Measure these codes when nothing else is to be done; those that were wanted before no longer."""
        self._wanted = tuple(int(code) for code in codes)
        for code in self._wanted:
            if code in self.atoms:
                self.made.emit(self.atoms[code])
        self._go_on()

    def close(self) -> None:
        """Stop, and let go of everything; safe to call twice."""
        self._forget()
        self._found = None

    # --- inside -------------------------------------------------------------------------------------------------------

    def _on_counted(self) -> None:
        """Other counts: other atoms."""
        found = self._state.found
        if found is self._found:
            return
        self._forget()
        self._found = found

    def _forget(self) -> None:
        for job in (self._looked, self._whole, self._listed):
            self._stop(job)
        self._looked = self._whole = self._listed = None
        self.atoms.clear()
        self.wholes.clear()
        self._reasons.clear()
        self._wanted = ()

    def _go_on(self) -> None:
        """Measure what is wanted and not there yet."""
        found = self._found
        if self._listed is not None or found is None or not found.is_complete:
            return
        missing = [code for code in self._wanted if code not in self.atoms and code not in self._reasons]
        if missing:
            many = f"{len(missing)} code{'' if len(missing) == 1 else 's'}"
            self._gives_way = False
            self._listed = self._run(f"Atoms of {many}", found, missing, Priority.BATCH)

    def _run(self, title: str, found: Found, codes: list[int], priority: Priority) -> Job:
        """Start a job; the runner is asked directly: what went wrong before is not over with it."""
        return self._desk.runner.run(
            title,
            atoms_work(self._desk.model.spec(), found, codes, is_whole=False),
            on_step=partial(self._on_step, found, codes[0] if priority is Priority.INTERACTIVE else None),
            on_done=lambda _: self._ended(found, priority),
            on_failure=lambda _: self._failed(found, codes, priority),
            on_cancelled=lambda: self._ended(found, priority, is_stopped=True),
            priority=priority,
            key="codebook-atom" if priority is Priority.INTERACTIVE else None,
            show_progress=False,
        )

    def _on_step(self, found: Found, looked_at: int | None, step: Any) -> None:
        if found is not self._found:
            return
        if isinstance(step, Progress):
            if looked_at is not None and looked_at not in self.atoms:
                self.said.emit(looked_at, f"{MEASURING} {step.index + 1} of {step.total}")
        elif isinstance(step, AtomDone) and step.atom is not None:
            self.atoms[step.code] = step.atom
            self._keep(step.atom)
            self.made.emit(step.atom)
        elif isinstance(step, AtomDone):
            self._reasons[step.code] = step.reason
            self.said.emit(step.code, step.reason)

    def _keep(self, atom: Atom) -> None:
        if atom.is_whole:
            self.wholes[atom.code] = atom

    def _ended(self, found: Found, priority: Priority, *, is_stopped: bool = False) -> None:
        if found is not self._found or priority is Priority.INTERACTIVE:
            return
        self._listed = None
        if is_stopped and not self._gives_way:  # by the user: no more until more are asked for
            self._wanted = ()
        self._go_on()

    def _failed(self, found: Found, codes: list[int], priority: Priority) -> None:
        """Say so where somebody waits for the atom; why is in the panel of the dock."""
        if found is self._found and priority is Priority.INTERACTIVE:
            self.said.emit(codes[0], FAILED)
        self._ended(found, priority, is_stopped=True)

    def _on_queued(self, job: Job) -> None:
        """Let a job that the user started go first; the rest of the gallery comes after it."""
        if job.priority is Priority.BATCH and self._listed is not None and job is not self._listed:
            self._gives_way = True
            self._listed.cancel()

    @staticmethod
    def _stop(job: Job | None) -> None:
        if job is not None:
            job.cancel()
