"""The box that shows estimates, and the self-test in the background."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from napari_vqldm.estimate import Estimate, jobs
from napari_vqldm.plugin.desk import Desk
from napari_vqldm.plugin.inference import timing
from napari_vqldm.plugin.inference.engine import Engine
from napari_vqldm.plugin.inference.estimating import TooLarge, generation_ask
from napari_vqldm.plugin.widgets.estimate_box import EstimateBox


@pytest.fixture(autouse=True)
def _enough_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for every question."""
    monkeypatch.setattr(jobs, "available_bytes", lambda *_: 2**34)


# --- box --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def desk(viewer: Any, tiny_checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(timing, "IDLE_MS", 10**7)
    shared = Desk(viewer)
    shared.model.device, shared.model.threads = "cpu", 1
    shared.model.open(tiny_checkpoints["ldm"])
    yield shared
    shared.close()


@pytest.fixture
def box(desk: Desk, qtbot: Any) -> Iterator[EstimateBox]:
    """A box for as many volumes as ``box.count`` says."""
    widget = EstimateBox(desk, "test", lambda: generation_ask({"count": widget.count}) if widget.count else None)
    widget.count = 1
    qtbot.addWidget(widget)
    widget.show()
    yield widget
    widget.close_box()
    widget.close_box()


def is_before_loading(box: EstimateBox) -> bool:
    return box.text.startswith("About ") and "The model is loaded first" in box.text


def is_loaded(box: EstimateBox) -> bool:
    return box.text.startswith("About ") and "loaded first" not in box.text


def load(desk: Desk, wait_until: Callable[..., None]) -> None:
    desk.run("Load", lambda engine: engine.use(desk.model.spec()))
    wait_until(lambda: not desk.runner.is_busy)


def test_the_first_job_is_estimated_before_anything_is_loaded(
    desk: Desk, box: EstimateBox, wait_until: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[Any] = []
    use = Engine.use
    monkeypatch.setattr(Engine, "use", lambda engine, spec: (used.append(spec), use(engine, spec))[1])
    wait_until(lambda: is_before_loading(box))
    assert "16.0 GiB free" in box.text and used == []
    load(desk, wait_until)
    wait_until(lambda: is_loaded(box))


def test_lines_follow_the_request_and_go_with_it(desk: Desk, box: EstimateBox, wait_until: Callable[..., None]) -> None:
    load(desk, wait_until)
    wait_until(lambda: is_loaded(box))
    first = box.text
    assert "16.0 GiB free" in first and "The time is rough" in first
    box.count = 500
    box.refresh()
    wait_until(lambda: box.text not in ("", first))
    box.count = 0
    box.refresh()
    wait_until(lambda: box.text == "")


@pytest.mark.slow
@pytest.mark.both_bindings
def test_another_model_drops_the_lines_at_once(
    desk: Desk, box: EstimateBox, tiny_checkpoints: dict[str, Path], wait_until: Callable[..., None]
) -> None:
    load(desk, wait_until)
    wait_until(lambda: is_loaded(box))
    desk.model.open(tiny_checkpoints["vq-ldm"])
    assert box.text == ""
    wait_until(lambda: is_before_loading(box))
    load(desk, wait_until)
    wait_until(lambda: is_loaded(box))
    desk.free_memory()
    wait_until(lambda: is_before_loading(box))


def test_a_hidden_box_asks_when_it_is_seen(desk: Desk, box: EstimateBox, wait_until: Callable[..., None]) -> None:
    wait_until(lambda: is_before_loading(box))
    box.hide()
    load(desk, wait_until)
    wait_until(lambda: not box._timer.isActive())
    assert is_before_loading(box)
    box.show()
    wait_until(lambda: is_loaded(box))


def test_a_refusal_stays_until_it_is_taken_back(desk: Desk, box: EstimateBox, wait_until: Callable[..., None]) -> None:
    ran = []
    estimate = Estimate(2**40, 1.0, 1, 2**40, 1, True, ("about 1 s", "this does not fit"))
    box.refuse(TooLarge(estimate), lambda: ran.append(1))
    load(desk, wait_until)  # the end of a job asks again, but not over a refusal
    wait_until(lambda: not box._timer.isActive())
    assert box.text == "Nothing was started.\nAbout 1 s\nThis does not fit"
    assert box.anyway_button.isVisible()
    box.anyway_button.click()
    assert ran == [1] and not box.anyway_button.isVisible()
    box.refuse(TooLarge(estimate), lambda: ran.append(2))
    box.refresh()
    assert not box.anyway_button.isVisible()
    wait_until(lambda: box.text.startswith("About ") and "free" in box.text)
    assert ran == [1]


def test_what_the_core_refuses_is_left_to_the_job_and_a_bug_is_shown(
    desk: Desk, box: EstimateBox, wait_until: Callable[..., None]
) -> None:
    failures: list[Any] = []
    desk.failed.connect(failures.append)
    load(desk, wait_until)
    wait_until(lambda: is_loaded(box))
    box.count = -1
    box.refresh()
    wait_until(lambda: box.text == "")
    assert failures == []
    box.count = "many"
    box.refresh()
    wait_until(lambda: failures)


# --- in the background ------------------------------------------------------------------------------------------------


def test_the_first_job_is_followed_by_one_quiet_self_test(
    desk: Desk, box: EstimateBox, wait_until: Callable[..., None], monkeypatch: pytest.MonkeyPatch, qtbot: Any
) -> None:
    monkeypatch.setattr(timing, "IDLE_MS", 20)
    measured, started = [], []
    desk.timing.measured.connect(lambda spec, test: measured.append((spec, test)))
    desk.runner.started.connect(lambda job: started.append(job.title))
    load(desk, wait_until)
    wait_until(lambda: measured)
    assert started == ["Load"]  # no progress, no task
    assert measured[0][0] == desk.model.spec()
    assert measured[0][1].weights_sha256 == desk.model.header.card.weights_sha256
    wait_until(lambda: box.text.startswith("About ") and "rough" not in box.text)
    load(desk, wait_until)
    qtbot.wait(200)
    assert len(measured) == 1


def test_it_gives_way_to_the_next_job_and_comes_again(
    desk: Desk, wait_until: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = import_module("napari_vqldm.self_test")  # the package names the verb so
    monkeypatch.setattr(timing, "IDLE_MS", 20)
    pieces: list[str] = []
    steps = module.self_test_steps

    def watched(*arguments: Any) -> Iterator[Any]:
        for step in steps(*arguments):
            pieces.append(step.name)
            yield step

    monkeypatch.setattr(module, "self_test_steps", watched)
    measured: list[Any] = []
    desk.timing.measured.connect(lambda *found: measured.append(found))
    load(desk, wait_until)
    wait_until(lambda: pieces)
    load(desk, wait_until)
    assert measured == []
    wait_until(lambda: measured)
    assert pieces.count("encode") == 2


def test_closing_stops_it(
    desk: Desk, wait_until: Callable[..., None], monkeypatch: pytest.MonkeyPatch, qtbot: Any
) -> None:
    measured: list[Any] = []
    desk.timing.measured.connect(lambda *found: measured.append(found))
    monkeypatch.setattr(timing, "IDLE_MS", 0)
    load(desk, wait_until)
    desk.timing.close()
    desk.timing.close()
    assert not desk.timing._idle.isActive()
    load(desk, wait_until)
    qtbot.wait(100)  # a timer of 0 ms would have fired
    assert not desk.runner.is_busy and not desk.timing._idle.isActive() and desk.timing._inquiry._job is None
    assert measured == []
