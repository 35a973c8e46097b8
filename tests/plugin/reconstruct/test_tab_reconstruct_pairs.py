"""What happens to a comparison while its maps are computed: other models, other voxels, other wishes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.plugin.reconstruct.helpers import SIZE, add, stack

from napari_vqldm.intensity import IntensityScale
from napari_vqldm.plugin.layers import provenance_of
from napari_vqldm.plugin.tabs.reconstruct.tab import ReconstructTab
from napari_vqldm.volume import Volume

Hold = Callable[[], Callable[[], None]]


@pytest.fixture
def compared(viewer: Any, tab: ReconstructTab, idle: Callable[[], None]) -> tuple[Any, Any]:
    """Input and reconstruction."""
    source = add(viewer)
    tab.state.draws = 2
    tab.start()
    idle()
    return source, viewer.layers[-1]


# --- another model ----------------------------------------------------------------------------------------------------


def test_the_uncertainty_map_is_made_as_the_reconstruction_was(
    viewer: Any, tab: ReconstructTab, idle: Callable[[], None], failures: list[Any], tiny_checkpoints: dict[str, Path]
) -> None:
    import torch

    from napari_vqldm.checkpoint import load_checkpoint
    from napari_vqldm.uncertainty import uncertainty

    source, panel = add(viewer), tab.compare_panel
    tab.state.draws, tab.state.kind = 2, "posterior"
    tab.state.background, tab.state.scale = 90.0, 50.0
    tab.start()
    idle()
    assert panel.controls.reason.text() == "" and panel.maps.uncertainty_ask(panel.pair) is not None
    tab.desk.model.open(tiny_checkpoints["vq-ldm"])
    tab.state.background, tab.state.scale = 10.0, 500.0
    assert panel.controls.uncertainty_button.isEnabled()  # what vq-ldm cannot do is not asked of it
    assert panel.controls.reason.text().startswith("The uncertainty map is made with tiny-ldm")
    assert panel.maps.uncertainty_ask(panel.pair) is None  # an estimate would be that of the other model
    panel.make_uncertainty()
    idle()
    assert failures == []
    torch.set_num_threads(tab.desk.model.threads)
    model = load_checkpoint(tiny_checkpoints["ldm"], "cpu")
    given = IntensityScale(90.0, 50.0)
    wanted = uncertainty(model, Volume(source.data, SIZE), draws=2, kind="posterior", intensity=given)
    layer = viewer.layers["cell (uncertainty)"]
    assert np.array_equal(layer.data, wanted.data)
    record = provenance_of(layer)
    assert record is not None and record["request"]["weights_sha256"] == model.weights_sha256
    tab.desk.model.open(tiny_checkpoints["ldm"])
    assert panel.controls.reason.text() == ""


def test_a_model_file_with_other_weights_makes_no_map(
    viewer: Any, tab: ReconstructTab, idle: Callable[[], None], failures: list[Any], tiny_checkpoints: dict[str, Path],
    tmp_path: Path,
) -> None:  # fmt: skip
    path = tmp_path / "mine.safetensors"
    shutil.copy(tiny_checkpoints["ldm"], path)
    tab.desk.model.open(path)
    add(viewer)
    tab.start()
    idle()
    shutil.copy(tiny_checkpoints["vq-ldm"], path)
    tab.compare_panel.make_uncertainty()
    idle()
    (failure,) = failures
    assert "other weights" in failure.cause and "reconstruct it again" in f"{failure.cause} {failure.remedy}"
    assert len(viewer.layers) == 2 and not tab.compare_panel.maps.is_busy


# --- other voxels -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["input", "reconstruction"])
def test_replaced_voxels_end_the_comparison(
    viewer: Any, tab: ReconstructTab, idle: Callable[[], None], compared: tuple[Any, Any], which: str
) -> None:
    source, result = compared
    panel, told = tab.compare_panel, []
    tab.desk.noticed.connect(told.append)
    panel.side_by_side()
    idle()
    assert panel.modes.name == "side"
    changed = source if which == "input" else result
    changed.data = stack(5)
    assert panel.pair is None and panel.modes.name == "" and "PSNR" not in panel.controls.numbers.text()
    assert panel.pair_of(source) is None and panel.pair_of(result) is None
    assert told == [f"The voxels of {changed.name!r} were replaced: its comparison ended."]
    count = len(viewer.layers)
    tab.compare(source)
    idle()
    assert panel.pair is not None and panel.modes.name == "side"  # reconstructed again
    assert len(viewer.layers) == count + 2
    assert np.array_equal(viewer.layers[-1].data, source.data - panel.pair.reconstruction.data)


def test_voxels_that_are_replaced_while_the_job_runs_are_not_compared(
    viewer: Any, tab: ReconstructTab, idle: Callable[[], None], failures: list[Any], hold: Hold
) -> None:
    source, told = add(viewer), list[str]()
    tab.desk.noticed.connect(told.append)
    release = hold()
    tab.compare(source)
    source.data = stack(5)
    release()
    idle()
    assert failures == [] and [layer.name for layer in viewer.layers] == ["cell", "cell (ldm)"]
    assert tab.compare_panel.pair is None
    assert told == ["The voxels of 'cell' were replaced meanwhile: there is no comparison with it."]


def test_a_closed_panel_lets_the_layers_go(tab: ReconstructTab, compared: tuple[Any, Any]) -> None:
    callbacks = [len(layer.events.data.callbacks) for layer in compared]
    tab.compare_panel.close_panel()
    assert [len(layer.events.data.callbacks) for layer in compared] == [number - 1 for number in callbacks]
    tab.close_tab = lambda: None  # type: ignore[method-assign]  # closed already


# --- other layers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "job"),
    [
        # Each change meets one job in every run, the others in the slow one.
        pytest.param(what, job, marks=() if index % 4 == number % 4 else [pytest.mark.slow, pytest.mark.both_bindings])
        for index, what in enumerate(["rename", "delete input", "delete result", "delete all", "replace"])
        for number, job in enumerate(["residual", "uncertainty", "wipe", "side"])
    ],
)
def test_layers_change_while_a_map_is_computed(
    viewer: Any, tab: ReconstructTab, idle: Callable[[], None], failures: list[Any], compared: tuple[Any, Any],
    hold: Hold, job: str, what: str,
) -> None:  # fmt: skip
    source, result = compared
    panel, data = tab.compare_panel, source.data
    release = hold()
    if job in ("wipe", "side"):
        panel.open_view(job)
    else:
        (panel.controls.residual_button if job == "residual" else panel.controls.uncertainty_button).click()
    if what == "rename":
        source.name = "other"
    elif what == "replace":
        source.data = stack(5)
    elif what == "delete all":
        viewer.layers.clear()
    else:
        viewer.layers.remove(source if what == "delete input" else result)
    release()
    idle()
    assert failures == [] and not panel.maps.is_busy and panel.views.waiting == ""
    names = [layer.name for layer in viewer.layers]
    if what == "rename":
        kind = {"wipe": "wipe", "side": "cell (residual)"}.get(job, f"cell ({job})")
        assert names == ["other", "cell (ldm)", kind]
        assert panel.modes.name == (job if job in ("wipe", "side") else "") and panel.pair is not None
        if job in ("residual", "side"):
            assert np.array_equal(viewer.layers[-1].data, data - result.data)
    else:
        left = {"delete input": ["cell (ldm)"], "delete result": ["cell"], "delete all": []}
        assert names == left.get(what, ["cell", "cell (ldm)"]) and panel.pair is None and panel.modes.name == ""
        assert all(layer.visible for layer in viewer.layers)


# --- other wishes -----------------------------------------------------------------------------------------------------


def residuals(viewer: Any) -> list[str]:
    return [layer.name for layer in viewer.layers if "residual" in layer.name]


def test_the_latest_view_counts(
    viewer: Any, tab: ReconstructTab, idle: Callable[[], None], compared: tuple[Any, Any], hold: Hold
) -> None:
    panel, controls = tab.compare_panel, tab.compare_panel.controls
    release = hold()
    controls.side_button.click()
    assert controls.side_button.isChecked() and controls.note.text() == "Computing the residual..."
    assert panel.modes.name == ""
    controls.blink_button.click()
    assert panel.modes.name == "blink" and controls.blink_button.isChecked() and not controls.side_button.isChecked()
    release()
    idle()
    assert panel.modes.name == "blink" and residuals(viewer) == [] and controls.note.text() == ""


def test_clicks_while_a_residual_is_computed_give_one_residual(
    viewer: Any, tab: ReconstructTab, idle: Callable[[], None], compared: tuple[Any, Any], hold: Hold
) -> None:
    controls = tab.compare_panel.controls
    release = hold()
    for button in (controls.side_button, controls.canvases_button, controls.wipe_button, controls.side_button):
        button.click()
    release()
    idle()
    assert tab.compare_panel.modes.name == "side" and residuals(viewer) == ["cell (residual)"]


def test_a_second_click_takes_the_wish_back(
    viewer: Any, tab: ReconstructTab, idle: Callable[[], None], compared: tuple[Any, Any], hold: Hold
) -> None:
    controls = tab.compare_panel.controls
    release = hold()
    controls.side_button.click()
    controls.side_button.click()
    assert not controls.side_button.isChecked() and controls.note.text() == ""
    release()
    idle()
    assert tab.compare_panel.modes.name == "" and residuals(viewer) == []


def test_a_view_waits_for_the_residual_that_was_asked_for(
    viewer: Any, tab: ReconstructTab, idle: Callable[[], None], compared: tuple[Any, Any], hold: Hold
) -> None:
    controls = tab.compare_panel.controls
    release = hold()
    controls.residual_button.click()
    controls.side_button.click()
    assert controls.side_button.isChecked()
    release()
    idle()
    assert tab.compare_panel.modes.name == "side" and residuals(viewer) == ["cell (residual)"]


def test_a_cancelled_view_waits_no_more(
    viewer: Any, tab: ReconstructTab, idle: Callable[[], None], compared: tuple[Any, Any], hold: Hold
) -> None:
    panel = tab.compare_panel
    release = hold()
    panel.side_by_side()
    tab.desk.runner.cancel_all()
    release()
    idle()
    assert not panel.controls.side_button.isChecked() and panel.views.waiting == "" and not panel.maps.is_busy
    panel.side_by_side()
    idle()
    assert panel.modes.name == "side"


def test_maps_are_busy_until_the_last_job_ends(
    tab: ReconstructTab,
    idle: Callable[[], None],
    compared: tuple[Any, Any],
    hold: Hold,
    wait_until: Callable[..., None],
) -> None:
    def work(_engine: Any) -> Any:
        yield from ()
        return 1

    maps, done = tab.compare_panel.maps, []
    maps.run("One", work, done.append)
    release = hold()
    maps.run("Two", work, done.append)
    wait_until(lambda: done)
    assert done == [1] and maps.is_busy and not tab.compare_panel.controls.residual_button.isEnabled()
    release()
    idle()
    assert done == [1, 1] and not maps.is_busy and tab.compare_panel.controls.residual_button.isEnabled()


def test_a_view_that_cannot_open_is_told_and_leaves_the_others_usable(
    tab: ReconstructTab, failures: list[Any], compared: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_vqldm.plugin.compare import modes

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("no canvas")

    controls = tab.compare_panel.controls
    monkeypatch.setattr(modes, "Blink", broken)
    controls.blink_button.click()
    assert len(failures) == 1 and not controls.blink_button.isChecked()
    monkeypatch.undo()
    controls.blink_button.click()
    assert tab.compare_panel.modes.name == "blink"
