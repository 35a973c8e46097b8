"""While the Sample tab works: previews, cancelling, failures, and estimates before a run."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
from tests.plugin.sample.helpers import SHAPE, names, run

import napari_vqldm as nv
from napari_vqldm.plugin.layers import provenance_of

# --- preview, cancel, errors ------------------------------------------------------------------------------------------


def slow_model(monkeypatch, seconds: float = 0.05) -> None:
    """Make every denoising step take a moment."""
    import time

    generate = import_module("napari_vqldm.generate")  # the package names the verb so
    steps = generate.sample_starts

    def slow(*args):
        for step in steps(*args):
            time.sleep(seconds)
            yield step

    monkeypatch.setattr(generate, "sample_starts", slow)


@pytest.mark.slow
@pytest.mark.both_bindings
def test_a_preview_is_shown_while_denoising_and_goes_away(tab, desk, monkeypatch, wait_until):
    slow_model(monkeypatch, 0.3)
    tab.button.click()
    wait_until(lambda: any("preview" in name for name in names(desk)))
    layer = desk.viewer.layers[0]
    first = layer.data.copy()
    assert layer.data.shape == SHAPE
    wait_until(lambda: not np.array_equal(first, layer.data))
    wait_until(lambda: not desk.runner.is_busy)
    assert names(desk) == ["tiny-ldm-seed5-000"]


@pytest.mark.slow
@pytest.mark.both_bindings
def test_a_preview_that_the_user_deletes_stays_away(tab, desk, monkeypatch, wait_until):
    slow_model(monkeypatch, 0.3)
    tab.button.click()
    wait_until(lambda: any("preview" in name for name in names(desk)))
    desk.viewer.layers.clear()
    seen = []
    desk.viewer.layers.events.inserted.connect(lambda event: seen.append(event.value.name))
    wait_until(lambda: not desk.runner.is_busy)
    assert seen == ["tiny-ldm-seed5-000"]


@pytest.mark.slow
@pytest.mark.both_bindings
def test_preview_can_be_switched_off_and_changes_no_bit(tab, desk, model, monkeypatch, wait_until):
    slow_model(monkeypatch, 0.3)
    seen = []
    desk.viewer.layers.events.inserted.connect(lambda event: seen.append(event.value.name))
    tab.state.shows_preview = False
    run(tab, wait_until)
    tab.state.shows_preview = True
    run(tab, wait_until)
    assert sum("preview" in name for name in seen) == 1
    first, second = desk.viewer.layers
    np.testing.assert_array_equal(first.data, second.data)


def test_cancel_leaves_complete_volumes_alone_and_says_so(tab, desk, monkeypatch, wait_until):
    slow_model(monkeypatch, 0.1)
    notices = []
    desk.noticed.connect(notices.append)
    tab.state.count = 50
    tab.button.click()
    wait_until(lambda: "tiny-ldm-seed5-000" in names(desk) and any("preview" in name for name in names(desk)))
    desk.runner.cancel_all()
    wait_until(lambda: tab.button.isEnabled())
    assert not any("preview" in name for name in names(desk))
    assert notices[-1].startswith(f"Cancelled: {len(names(desk))} of 50 volumes")
    desk.undo.undo()
    assert names(desk) == []


def test_cancel_before_the_first_volume_leaves_nothing(tab, desk, monkeypatch, wait_until):
    slow_model(monkeypatch)
    notices = []
    desk.noticed.connect(notices.append)
    tab.state.steps = 500
    tab.button.click()
    wait_until(lambda: any("preview" in name for name in names(desk)))
    desk.runner.cancel_all()
    wait_until(lambda: tab.button.isEnabled())
    assert names(desk) == []
    assert notices[-1] == "Cancelled: nothing was added."


def test_a_failure_is_told_and_the_button_comes_back(tab, desk, monkeypatch, wait_until):
    def broken(*_args):
        raise RuntimeError("broken denoiser")

    monkeypatch.setattr(import_module("napari_vqldm.generate"), "sample_starts", broken)
    failures = []
    desk.failed.connect(failures.append)
    run(tab, wait_until)
    assert "broken denoiser" in failures[0].cause
    assert names(desk) == []


@pytest.mark.slow
@pytest.mark.both_bindings
def test_out_of_memory_goes_on_with_smaller_batches(tab, desk, monkeypatch, wait_until):
    generate = import_module("napari_vqldm.generate")  # the package names the verb so
    steps = generate.sample_starts

    def hungry(model, starts, sampling):
        if len(starts) > 1:
            raise RuntimeError("CUDA out of memory. Tried to allocate 7 GiB")
        yield from steps(model, starts, sampling)

    monkeypatch.setattr(generate, "sample_starts", hungry)
    notes = []
    desk.runner.noted.connect(lambda _job, text: notes.append(text))
    tab.state.count, tab.state.batch = 4, 4
    run(tab, wait_until)
    assert [provenance_of(layer)["request"]["index"] for layer in desk.viewer.layers] == [0, 1, 2, 3]
    assert [note for note in notes if "Not enough memory" in note] == [
        "Not enough memory for 4 volumes at once: trying 2.",
        "Not enough memory for 2 volumes at once: trying 1.",
    ]


# --- estimates --------------------------------------------------------------------------------------------------------


def set_free(monkeypatch, num_bytes: int) -> None:
    """Let estimates believe that so much memory is free."""
    monkeypatch.setattr(import_module("napari_vqldm.estimate.jobs"), "available_bytes", lambda *_: num_bytes)


def test_what_does_not_fit_is_refused_and_runs_anyway_with_the_same_seed(tab, desk, model, monkeypatch, wait_until):
    set_free(monkeypatch, 1)
    tab.seed_box.keep_box.setChecked(False)
    run(tab, wait_until)
    seed = tab.state.seed
    assert names(desk) == [] and desk.undo.title == ""
    assert tab.estimate.text.startswith("Nothing was started.") and "does not fit" in tab.estimate.text
    assert tab.estimate.anyway_button.isVisible()
    tab.estimate.anyway_button.click()
    assert not tab.button.isEnabled()
    wait_until(lambda: not desk.runner.is_busy and tab.button.isEnabled())
    (layer,) = desk.viewer.layers
    assert provenance_of(layer)["request"]["seed"] == tab.state.seed == seed
    np.testing.assert_array_equal(layer.data, nv.generate(model, **tab.state.to_request())[0].data)


def test_another_request_takes_the_refusal_back(tab, desk, monkeypatch, wait_until):
    set_free(monkeypatch, 1)
    run(tab, wait_until)
    assert tab.estimate.anyway_button.isVisible()
    set_free(monkeypatch, 2**34)
    tab.state.count = 2
    assert not tab.estimate.anyway_button.isVisible()
    wait_until(lambda: tab.estimate.text.startswith("About "))
    run(tab, wait_until)
    assert len(names(desk)) == 2


@pytest.mark.slow
@pytest.mark.both_bindings
def test_the_line_follows_count_and_size(tab, desk, monkeypatch, wait_until):
    set_free(monkeypatch, 2**34)
    wait_until(lambda: "The model is loaded first" in tab.estimate.text)
    run(tab, wait_until)
    wait_until(lambda: tab.estimate.text.startswith("About ") and "loaded first" not in tab.estimate.text)
    seen = [tab.estimate.text]
    tab.state.count = 1000
    wait_until(lambda: tab.estimate.text not in ("", *seen))
    seen.append(tab.estimate.text)
    tab.state.size_z, tab.state.size_y, tab.state.size_x = 2, 2, 2
    wait_until(lambda: tab.estimate.text not in ("", *seen))
    tab.state.count = 3
    wait_until(lambda: tab.estimate.text not in ("", *seen))


def test_nothing_is_estimated_that_cannot_run(tab, desk, monkeypatch, wait_until):
    import dataclasses

    set_free(monkeypatch, 2**34)
    run(tab, wait_until)
    wait_until(lambda: tab.estimate.text.startswith("About "))
    header = desk.model.header
    desk.model.header = dataclasses.replace(header, config=header.config.model_copy(update={"denoiser": None}))
    wait_until(lambda: not tab.estimate._timer.isActive())
    assert tab.estimate.text == ""


def test_the_viewer_may_lose_the_tab_in_the_middle_of_a_job(tab, desk, monkeypatch, wait_until):
    slow_model(monkeypatch)
    tab.state.count = 50
    tab.button.click()
    wait_until(lambda: any("preview" in name for name in names(desk)))
    tab.close_tab()
    tab.close_tab()
    desk.close()
    assert not any("preview" in name for name in names(desk))
