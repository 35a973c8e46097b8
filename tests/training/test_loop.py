"""The loop: parts of a batch, recomputed blocks, a loss that is no number, two averages, watchers."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from rich.console import Console
from torch import Tensor, nn

import napari_vqldm.training.loop as loop_module
import napari_vqldm.training.resume as resume_module
from napari_vqldm.errors import ConfigError, TrainingError
from napari_vqldm.training.accumulation import merged
from napari_vqldm.training.config import DenoiserStage, StageName, TrainConfig
from napari_vqldm.training.context import Run
from napari_vqldm.training.folder import RunFolder, read_metrics
from napari_vqldm.training.interrupt import StopRequest
from napari_vqldm.training.loop import train
from napari_vqldm.training.lr_schedule import learning_rate
from napari_vqldm.training.progress import RunLog
from napari_vqldm.training.resume import load_state


class Crash(Exception):
    """Stands for a process that dies."""


class ToyTask(nn.Module):
    """Regression in double precision, with the terms that stages have."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.network = nn.Sequential(nn.Linear(3, 5), nn.SiLU(), nn.Linear(5, 2)).double()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return the loss of a batch (B, 3)."""
        out = self.network(x)
        target = torch.stack([x.sum(dim=1), x.prod(dim=1)], dim=1)
        return {"loss": (out - target).square().mean(), "kl_channels": out.mean(dim=0), "latent": out}


@dataclass
class Toy:
    """A stage that trains in no time; ``bad`` steps give no number once each, ``always_bad`` ones every time."""

    context: Run
    bad: frozenset[int] = frozenset()
    always_bad: frozenset[int] = frozenset()
    spoil: int | None = None  # step whose weights are spoilt once
    scores: Callable[[nn.Module], float] | None = None
    name: StageName = "denoiser"
    channels_last: bool = False

    def __post_init__(self) -> None:
        self.task: nn.Module = ToyTask()
        self.left, self.seen, self.begun = set(self.bad), [], []  # type: ignore[var-annotated]

    @property
    def config(self) -> DenoiserStage:
        """Settings of the stage."""
        return self.context.config.denoiser

    def batch(self, step: int) -> Tensor:
        """Draw a batch by its step."""
        generator = torch.Generator().manual_seed(step)
        return torch.randn(self.config.batch_size, 3, generator=generator, dtype=torch.float64)

    def split(self, batch: Tensor, parts: int) -> list[Tensor]:
        """Cut in equal parts."""
        return list(batch.chunk(parts))

    def losses(self, task: nn.Module, batch: Tensor, step: int) -> dict[str, Tensor]:
        """Run the task."""
        terms: dict[str, Tensor] = task(batch)
        if step in self.left or step in self.always_bad:
            self.left.discard(step)
            terms["loss"] = terms["loss"] * math.nan
        return terms

    def before_step(self, step: int, batch: Tensor, average: nn.Module) -> None:
        """Note the step."""
        self.begun.append(step)

    def after_step(self, step: int, terms: dict[str, Tensor], average: nn.Module) -> dict[str, float]:
        """Keep the terms, spoil the weights when asked."""
        self.seen.append({name: tensor.detach().clone() for name, tensor in terms.items()})
        terms.pop("latent")
        if step == self.spoil:
            self.spoil = None
            next(self.task.parameters()).data.view(-1)[0] = math.inf
        return {}

    def check(self, step: int, network: nn.Module, average: nn.Module) -> dict[str, float]:
        """Score the average."""
        return {"held_out_loss": self.scores(average)} if self.scores is not None else {}

    def picture(self, step: int, average: nn.Module) -> None:
        """Draw nothing."""

    def extra_state(self) -> dict[str, Tensor]:
        """Keep nothing."""
        return {}

    def load_extra_state(self, tensors: dict[str, Tensor]) -> None:
        """Take nothing back."""


@pytest.fixture
def toy(tmp_path: Path, tiny: SimpleNamespace) -> Callable[..., Toy]:
    """Make a toy stage in a run folder; settings of the stage are keyword arguments."""

    def make(folder: str = "run", out: io.StringIO | None = None, *, spoil: int | None = None, **options: Any) -> Toy:
        own = {name: options.pop(name) for name in ("bad", "always_bad", "scores") if name in options}
        settings = {"steps": 12, "save_every": 4, "learning_rate": 1e-2, "crop_probability": 1.0} | options
        changes = {f"denoiser__{name}": value for name, value in settings.items()}
        config: TrainConfig = tiny.config(precision="64-true", **changes)
        paths = RunFolder(tmp_path / folder, tmp_path / "cache")
        paths.path.mkdir(exist_ok=True)
        console = Console(quiet=True) if out is None else Console(file=out, width=400)
        fabric = Fabric(accelerator="cpu", devices=1)
        return Toy(Run(config, paths, fabric, RunLog(paths, console), StopRequest()), spoil=spoil, **own)

    return make


def same(a: nn.Module, b: nn.Module) -> bool:
    """Whether all weights have equal bits."""
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def lines(stage: Toy) -> list[dict[str, Any]]:
    """Metrics without what depends on the clock."""
    found = read_metrics(stage.context.folder.metrics)
    return [{name: value for name, value in line.items() if name != "seconds"} for line in found]


# --- parts of a batch ---


@pytest.mark.parametrize("parts", [2, 4])
def test_parts_of_a_batch_equal_the_whole(toy: Callable[..., Toy], parts: int) -> None:
    whole, cut = toy("whole", batch_size=8), toy("cut", batch_size=8, accumulate=parts)
    a, b = train(whole.context, whole), train(cut.context, cut)
    for x, y in zip(a.parameters(), b.parameters(), strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=1e-10)
    assert not same(a, ToyTask())
    for one, other in zip(whole.seen, cut.seen, strict=True):
        assert one.keys() == other.keys() and other["latent"].shape == (8, 2) and other["kl_channels"].shape == (2,)
        for name in one:
            torch.testing.assert_close(one[name], other[name], rtol=0, atol=1e-10)


def test_a_whole_batch_is_not_split(toy: Callable[..., Toy], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Toy, "split")
    stage = toy(steps=2)
    train(stage.context, stage)


def test_parts_must_be_equal(tiny: SimpleNamespace) -> None:
    with pytest.raises(ConfigError, match=r"accumulate: expected a divisor of batch_size = 4, got 3"):
        tiny.config(denoiser__batch_size=4, denoiser__accumulate=3)


def test_terms_of_parts_are_merged() -> None:
    parts = [
        {"loss": torch.tensor(x), "kl_channels": torch.tensor([x, 2 * x]), "z": torch.full((1, 2), x)}
        for x in (1.0, 3.0)
    ]
    out = merged(parts)
    assert float(out["loss"]) == 2.0 and out["kl_channels"].tolist() == [2.0, 4.0]
    assert out["z"].tolist() == [[1.0, 1.0], [3.0, 3.0]]


# --- a loss that is no number ---


def test_one_bad_step_goes_back_and_on_with_half_the_rate(toy: Callable[..., Toy]) -> None:
    out = io.StringIO()
    stage = toy(bad={6}, out=out)
    train(stage.context, stage)
    assert stage.begun == [*range(7), *range(4, 12)]  # step 6 failed, state 4 was the last
    state = load_state(stage.context.folder.state("denoiser"))
    assert state is not None and state.record["step"] == 12
    assert state.record["rewinds"] == [{"from": 7, "to": 4, "until": 207}]
    found = lines(stage)
    rates = {line["step"]: line["lr"] for line in found if "lr" in line}
    assert list(rates) == list(range(1, 13)) and len([line for line in found if "lr" in line]) == 12
    for step, rate in rates.items():
        assert rate == pytest.approx(learning_rate(stage.config, step - 1) * (1.0 if step <= 4 else 0.5), abs=1e-8)
    (note,) = [line for line in found if line.get("watcher") == "not_a_number"]
    assert note["rewind"] == state.record["rewinds"][0] and note["step"] == 4 and "learning_rate" in note["message"]
    assert out.getvalue().count("not_a_number: the loss") == 1  # said once, then in the progress line
    assert "half the learning rate until 207" in out.getvalue().splitlines()[-1]


def test_without_trouble_nothing_is_different(toy: Callable[..., Toy]) -> None:
    stage = toy()
    train(stage.context, stage)
    assert stage.begun == list(range(12))
    assert not [line for line in lines(stage) if "watcher" in line]


@pytest.mark.parametrize("step", [0, 2])
def test_a_bad_step_before_the_first_save_goes_back_to_the_start(toy: Callable[..., Toy], step: int) -> None:
    stage, careful = toy(bad={step}), toy("never")
    train(stage.context, stage)
    assert stage.begun == [*range(step + 1), *range(12)]
    state = load_state(stage.context.folder.state("denoiser"))
    assert state is not None and state.record["rewinds"][0]["to"] == 0
    with pytest.MonkeyPatch.context() as patch:  # from the first step on with half the rate, and nothing else differs
        patch.setattr(loop_module, "learning_rate", lambda config, at: 0.5 * learning_rate(config, at))
        train(careful.context, careful)
    again = load_state(careful.context.folder.state("denoiser"))
    assert again is not None
    for name, tensor in again.tensors.items():
        assert torch.equal(tensor, state.tensors[name]), name


def test_a_second_bad_step_stops(toy: Callable[..., Toy]) -> None:
    stage = toy(always_bad={6})
    with pytest.raises(TrainingError, match=r"no number at step 7 again.*learning_rate"):
        train(stage.context, stage)
    for _ in range(2):  # the same command again finds the same
        again = toy(always_bad={6})
        with pytest.raises(TrainingError, match="no number at step 7 again"):
            train(again.context, again)
    state = load_state(stage.context.folder.state("denoiser"))
    assert state is not None and state.record["step"] == 4
    assert all(tensor.isfinite().all() for tensor in state.tensors.values())
    assert len([line for line in lines(again) if "rewind" in line]) == 1


def test_spoilt_weights_are_never_saved(toy: Callable[..., Toy], monkeypatch: pytest.MonkeyPatch) -> None:
    save, saved = resume_module.save_state, []

    def check_and_save(path: Path, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
        assert all(tensor.isfinite().all() for tensor in tensors.values())
        saved.append(record["step"])
        save(path, tensors, record)

    monkeypatch.setattr(loop_module, "save_state", check_and_save)
    stage = toy(spoil=7)  # after the last optimizer step before a save
    train(stage.context, stage)
    assert saved == [0, 4, 4, 8, 12]


@pytest.mark.parametrize("where", ["before the state", "after the state", "after the note", "5", "7", "9"])
def test_a_crash_around_a_rewind_leaves_no_trace(
    where: str, toy: Callable[..., Toy], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = toy("whole", bad={6}), toy(bad={6})
    expected = train(whole.context, whole)
    with monkeypatch.context() as patch:
        crash_where(patch, where, broken)
        with pytest.raises(Crash):
            train(broken.context, broken)
    resumed = toy(bad={6} if where == "before the state" else set())
    assert same(train(resumed.context, resumed), expected)
    states = [load_state(stage.context.folder.state("denoiser")) for stage in (whole, resumed)]
    assert states[0] is not None and states[1] is not None
    for name, tensor in states[0].tensors.items():
        assert torch.equal(tensor, states[1].tensors[name])
    assert states[0].record["rewinds"] == states[1].record["rewinds"]
    assert sorted(map(repr, lines(resumed))) == sorted(map(repr, lines(whole)))


def crash_where(patch: pytest.MonkeyPatch, where: str, stage: Toy) -> None:
    """Let the toy run die at a moment of its rewind, or at a step after it."""
    save, forget, write = resume_module.save_state, RunLog.forget_after, RunLog.write

    def save_or_die(path: Path, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
        if record["rewinds"] and where == "before the state":
            raise Crash
        save(path, tensors, record)

    def forget_or_die(self: RunLog, name: str, step: int, notes: Any = ()) -> None:
        if notes and where == "after the state":
            raise Crash
        forget(self, name, step, notes)
        if notes and where == "after the note":
            raise Crash

    def write_or_die(self: RunLog, name: str, step: int, *args: Any, **extra: Any) -> None:
        write(self, name, step, *args, **extra)
        if str(step) == where and len(stage.begun) > 7:
            raise Crash

    patch.setattr(loop_module, "save_state", save_or_die)
    patch.setattr(RunLog, "forget_after", forget_or_die)
    patch.setattr(RunLog, "write", write_or_die)


# --- two averages ---


@pytest.mark.parametrize("best", [0, 1])
def test_the_average_that_checks_best_is_the_result(toy: Callable[..., Toy], best: int) -> None:
    def score(average: nn.Module) -> float:
        """Short averages have run farther from the start."""
        start = ToyTask().state_dict()
        far = sum(float((tensor - start[name]).norm()) for name, tensor in average.state_dict().items())
        return -far if best == 0 else far

    settings: dict[str, Any] = {"ema": "power", "ema_lengths": [0.05, 0.25], "steps": 30, "scores": score}
    out = io.StringIO()
    stage = toy(out=out, **settings)
    result = train(stage.context, stage)
    state = load_state(stage.context.folder.state("denoiser"))
    assert state is not None
    chosen = ["0.05", "0.25"][best]
    assert state.record["ema_length"] == chosen and set(state.record["scores"]) == {"0.05", "0.25"}
    assert min(state.record["scores"], key=state.record["scores"].__getitem__) == chosen
    assert score(result) == state.record["scores"][chosen]
    assert f"length {chosen}" in out.getvalue()
    assert [line["ema_length"] for line in lines(stage) if "ema_length" in line] == [chosen]
    again = toy(**settings)
    assert same(train(again.context, again), result) and not again.begun
    crashed = toy("crashed", **settings)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Crash):
        write = RunLog.write

        def write_or_die(self: RunLog, name: str, step: int, *args: Any, **extra: Any) -> None:
            write(self, name, step, *args, **extra)
            if step == 14:
                raise Crash

        patch.setattr(RunLog, "write", write_or_die)
        train(crashed.context, crashed)
    resumed = toy("crashed", **settings)
    assert same(train(resumed.context, resumed), result)


# --- watchers ---


def test_watchers_are_heard_and_change_nothing(toy: Callable[..., Toy], monkeypatch: pytest.MonkeyPatch) -> None:
    out, forward = io.StringIO(), ToyTask.forward
    healthy = toy("healthy", steps=90, save_every=25)
    expected = train(healthy.context, healthy)

    def with_std(self: ToyTask, x: Tensor) -> dict[str, Tensor]:
        return forward(self, x) | {"latent_std": torch.tensor(3.0)}

    monkeypatch.setattr(ToyTask, "forward", with_std)
    stage = toy(out=out, steps=90, save_every=25)
    assert same(train(stage.context, stage), expected)
    found = [line for line in lines(stage) if line.get("watcher") == "scale_drift"]
    assert found and found[0]["step"] == 20 and found[0]["value"] == 3.0 and found[-1]["step"] == 90
    assert "--stage latents --fresh" in found[0]["message"]
    assert out.getvalue().count("step 20: ! scale_drift") == 1 and out.getvalue().count("--stage latents") == 1
    assert "! scale_drift: the standardised latents" in out.getvalue().splitlines()[-1]  # the progress line
    crashed = toy("crashed", steps=90, save_every=25)
    with monkeypatch.context() as patch, pytest.raises(Crash):
        write = RunLog.write

        def write_or_die(self: RunLog, name: str, step: int, *args: Any, **extra: Any) -> None:
            write(self, name, step, *args, **extra)
            if step == 63:
                raise Crash

        patch.setattr(RunLog, "write", write_or_die)
        train(crashed.context, crashed)
    out = io.StringIO()
    resumed = toy("crashed", out=out, steps=90, save_every=25)
    train(resumed.context, resumed)
    assert lines(resumed) == lines(stage)
    assert "--stage latents" not in out.getvalue()  # said before
