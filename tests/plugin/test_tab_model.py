"""The Model tab with a real viewer: choosing, the card, devices."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QFileDialog, QLabel, QPushButton

from napari_vqldm.plugin.desk import Desk
from napari_vqldm.plugin.tabs.model.tab import ModelTab


@pytest.fixture
def desk(viewer):
    desk = Desk(viewer)
    desk.failures = []
    desk.failed.connect(desk.failures.append)
    desk.model.open("ldm")
    yield desk
    desk.close()


@pytest.fixture
def tab(desk, qtbot):
    tab = ModelTab(desk)
    qtbot.addWidget(tab)
    tab.show()
    yield tab
    tab.close_tab()


def load(desk, wait_until) -> None:
    """Run a job that loads the model."""

    def work(engine):
        yield from engine.use(desk.model.spec())

    done = []
    desk.run("Load", work, on_done=lambda _: done.append(1))
    wait_until(lambda: done)


def scores_shown(tab) -> str:
    return "\n".join(label.text() for label in tab.card.scorecard.findChildren(QLabel) if not label.isHidden())


def test_the_open_model_is_chosen_and_its_card_is_shown(tab, desk):
    assert tab.choice.currentData() == "ldm"
    assert dict(tab.card.facts.rows)["Family"].startswith("ldm")
    assert tab.card.sha256.full == desk.model.header.card.weights_sha256
    assert "MT-Sim" in scores_shown(tab)
    assert "no sign of copies" in tab.card.memorization.text()
    assert "filaments" in tab.card.limits.text()


def test_scores_are_grouped_by_what_they_measure_in_the_words_of_the_report(tab, desk):
    from napari_vqldm.plugin.tabs.model.card_text import card_text
    from napari_vqldm.report.scorecard import GATES
    from napari_vqldm.report.standards import GENERATION, RECONSTRUCTION

    header = desk.model.header
    groups = {group.heading: group for group in card_text(header).score_groups}
    kinds = [heading.split(":")[0] for heading in groups]
    assert kinds == ["Reconstruction", "Reconstruction", "Samples", "Samples", "Size"]
    assert all("simulated track" in heading for heading in groups if not heading.startswith("Size"))
    titles = {
        heading: {name.removesuffix(", sd").removesuffix(", dB") for name, _ in group.rows}
        for heading, group in groups.items()
    }
    data = next(iter(header.card.scorecard["evaluation"]))
    assert titles[f"Reconstruction: {data}, simulated track"] == {s.title for s in RECONSTRUCTION.values()}
    assert titles[f"Samples: {data}, simulated track"] == {s.title for s in GENERATION.values()}
    assert set(header.card.scorecard["gates"]) <= GATES.keys()
    rows = [row for group in groups.values() for row in group.rows]
    assert sorted(rows) == sorted(card_text(header).scorecard)
    shown = scores_shown(tab)
    assert all(f"{name[1:]}\n    {value}" in shown for name, value in rows) and all(h in shown for h in groups)
    assert not re.search(r"[a-z]_[a-z]", shown)  # no raw keys


def test_scores_on_real_stacks_are_a_track_of_their_own(desk):
    from napari_vqldm.plugin.tabs.model.card_text import card_text

    header = desk.model.header
    scorecard = header.card.scorecard
    entry = next(iter(scorecard["evaluation"].values()))
    both = {**scorecard, "evaluation": {**scorecard["evaluation"], "stacks/cells": {"generation": entry["generation"]}}}
    card = header.card.model_copy(update={"scorecard": both})
    headings = [group.heading for group in card_text(replace(header, card=card)).score_groups]
    assert "Samples: stacks/cells, real track" in headings
    assert not any("real track" in heading for heading in headings if "MT-Sim" in heading)


def test_scores_of_another_model_take_their_place(tab, desk, tiny_checkpoints, wait_until):
    desk.model.open(tiny_checkpoints["ldm"])
    wait_until(lambda: scores_shown(tab) == "The card holds no scores.")
    desk.model.open("vq-ldm")
    assert "above pooling to the latent grid, dB" in scores_shown(tab) and "no scores" not in scores_shown(tab)


def test_choosing_a_bundled_model(tab, desk):
    index = tab.choice.findData("vq-ldm")
    tab.choice.setCurrentIndex(index)
    tab.choice.activated.emit(index)
    assert desk.model.name == "vq-ldm"
    assert dict(tab.card.facts.rows)["Codebook"] == "1024 codes"


def test_opening_a_file(tab, desk, tiny_checkpoints, monkeypatch):
    path = str(tiny_checkpoints["ldm"])
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (path, ""))
    tab.open_button.click()
    assert desk.model.name == path
    assert tab.choice.currentData() == path
    assert tab.choice.currentText() == tiny_checkpoints["ldm"].name
    assert "no quality gate" in tab.card.warning.text()
    desk.model.open("ldm")
    assert tab.choice.currentData() == "ldm"


def test_a_bad_file_is_explained_and_the_old_card_stays(tab, desk, tmp_path):
    path = tmp_path / "evil.safetensors"
    path.write_bytes(b"PK\x03\x04" + bytes(20))
    tab.open_checkpoint(path)
    assert "never opened because it can run code" in desk.failures[0].cause
    assert (desk.model.name, tab.choice.currentData()) == ("ldm", "ldm")
    assert dict(tab.card.facts.rows)["Family"].startswith("ldm")


def test_a_checkpoint_that_is_gone_from_its_folder_keeps_its_card(tab, desk, tiny_checkpoints, tmp_path, wait_until):
    path = tmp_path / "mine.safetensors"
    shutil.copy(tiny_checkpoints["ldm"], path)
    tab.open_checkpoint(path)
    load(desk, wait_until)
    path.unlink()
    desk.model.precision = "bf16"  # everything that listens looks at the model again
    assert tab.card.sha256.full == desk.model.header.card.weights_sha256
    assert tab.choice.currentText() == "mine.safetensors"


def test_a_click_copies_the_whole_fingerprint(tab, desk, qtbot):
    notices = []
    desk.noticed.connect(notices.append)
    qtbot.mouseClick(tab.card.sha256, Qt.MouseButton.LeftButton)
    assert QApplication.clipboard().text() == desk.model.header.card.weights_sha256
    assert notices


def test_devices_appear_with_the_first_job(tab, desk, tiny_checkpoints, wait_until):
    assert "first job" in tab.devices.text()
    desk.model.open(tiny_checkpoints["ldm"])
    load(desk, wait_until)
    wait_until(lambda: "CPU" in tab.devices.text())
    assert "GiB free" in tab.devices.text()
    assert tab.compute.rows["device"].widget.choices == ("auto", "cpu")


def test_a_device_that_was_not_found_stays_chosen(tab, desk, tiny_checkpoints, wait_until):
    desk.model.open(tiny_checkpoints["ldm"])
    desk.model.device = "cuda"
    load(desk, wait_until)
    wait_until(lambda: "CPU" in tab.devices.text())
    assert desk.model.device == "cuda"  # the job has said that it used the CPU


def test_how_it_computes_reaches_the_jobs(tab, desk):
    tab.compute.rows["device"].widget.value = "cpu"
    tab.compute.rows["precision"].widget.value = "bf16"
    tab.compute.rows["threads"].widget.value = 2
    spec = desk.model.spec()
    assert (spec.device, spec.precision, spec.threads) == ("cpu", "bf16", 2)


def test_the_self_test_fills_its_lines_and_makes_estimates_measured(tab, desk, tiny_checkpoints, qtbot, wait_until):
    from napari_vqldm.plugin.inference.estimating import generation_ask
    from napari_vqldm.plugin.widgets.estimate_box import EstimateBox

    box = EstimateBox(desk, "test", lambda: generation_ask({"count": 2}))
    qtbot.addWidget(box)
    box.show()
    desk.model.open(tiny_checkpoints["ldm"])
    load(desk, wait_until)
    wait_until(lambda: "rough" in box.text)
    progress = []
    desk.runner.progressed.connect(lambda _job, done, total, *_: progress.append((done, total)))
    assert tab.times.text() == ""
    tab.test_button.click()
    assert not tab.test_button.isEnabled() and "running" in tab.test_button.toolTip()
    wait_until(lambda: tab.test_button.isEnabled())
    lines = tab.times.text().splitlines()
    assert lines[0].startswith("tiny-ldm on ") and any(line.startswith("denoise: ") for line in lines)
    assert progress[-1][0] == progress[-1][1] > 5
    wait_until(lambda: box.text.startswith("About ") and "rough" not in box.text)
    box.close_box()


def test_times_belong_to_a_model_and_how_it_computes(tab, desk, tiny_checkpoints, wait_until):
    desk.model.open(tiny_checkpoints["ldm"])
    tab.test_button.click()
    wait_until(lambda: tab.times.text())
    text = tab.times.text()
    desk.model.open(tiny_checkpoints["vq-ldm"])
    assert tab.times.text() == ""
    desk.model.open(tiny_checkpoints["ldm"])
    assert tab.times.text() == text
    desk.model.threads = 2
    assert tab.times.text() == ""


def test_a_cancelled_self_test_says_nothing(tab, desk, tiny_checkpoints, monkeypatch, wait_until):
    import time
    from importlib import import_module

    module = import_module("napari_vqldm.self_test")  # the package names the verb so
    pieces = module.self_test_steps

    def slow(*arguments):
        for step in pieces(*arguments):
            time.sleep(0.2)
            yield step

    monkeypatch.setattr(module, "self_test_steps", slow)
    desk.model.open(tiny_checkpoints["ldm"])
    tab.test_button.click()
    wait_until(lambda: any(delivery.pace.done for delivery in desk.runner._active.values()))
    desk.runner.cancel_all()
    wait_until(lambda: tab.test_button.isEnabled())
    assert tab.times.text() == ""
    assert desk.failures == []


def test_curves_are_drawn_when_somebody_looks(tab):
    curves = tab.card.curves
    assert curves.plot is None
    assert "denoiser/loss" in curves.text.text()
    tab.card.folds["training"].button.click()
    assert curves.plot is not None
    curves.choice.setCurrentText("denoiser/loss")
    x, y = curves._line.getData()
    points = curves._header.training.curve["denoiser/loss"]
    assert (list(x), list(y)) == ([p[0] for p in points], [p[1] for p in points])


def test_curves_without_pyqtgraph_are_told_in_words(tab, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyqtgraph", None)
    tab.card.folds["training"].button.click()
    assert tab.card.curves.plot is None
    assert "denoiser/loss" in tab.card.curves.text.text()


def test_works_at_320_pixels_with_tooltips(tab):
    for fold in tab.card.folds.values():
        fold.set_open(True)
    assert tab.minimumSizeHint().width() <= 320
    assert all(button.toolTip() for button in (tab.open_button, *tab.compute.findChildren(QPushButton)))


def test_a_closed_tab_hears_nothing(tab, desk, tiny_checkpoints):
    tab.close_tab()
    tab.close_tab()
    desk.model.open(tiny_checkpoints["ldm"])
    assert tab.choice.currentData() == "ldm"


@pytest.mark.slow
def test_the_tabs_bring_no_torch():
    code = (
        "import sys; import napari_vqldm.plugin.tabs.model.tab, napari_vqldm.plugin.tabs.sample.tab; "
        "print([name for name in ('torch', 'pyqtgraph', 'monai') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"
