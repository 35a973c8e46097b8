"""The Training tab with a real viewer: runs that grow, vanish or hang, and how the tab looks."""

from __future__ import annotations

import shutil
import sys
import threading
import time

import numpy as np
from qtpy.QtWidgets import QAbstractButton, QFileDialog
from tests.plugin.training.helpers import add_samples, append, drawn, make_run

from napari_vqldm.plugin.tabs.training import following, recent
from napari_vqldm.plugin.tabs.training.looker import NAME
from napari_vqldm.plugin.tabs.training.tab import TrainingTab
from napari_vqldm.training.follow import RunFollower


def test_nothing_is_followed_at_first(tab):
    assert "No run is followed" in tab.state.text()
    assert not tab.samples.isEnabled() and not tab.open_button.isEnabled() and not tab.start_box.stop.isEnabled()
    assert [thread for thread in threading.enumerate() if thread.name == NAME] == []


def test_a_run_that_grows(tab, run, wait_until):
    append(run, "autoencoder", 10, loss=2.0, kl=0.5, seconds=1.0)
    tab.follow(run)
    wait_until(lambda: "loss" in tab.curves.lines)
    assert drawn(tab, "loss") == ([10], [2.0])
    assert tab.curves.lines["loss"].opts["symbol"] == "o"  # one point is no line
    assert "tiny: running" in tab.state.text() and "step 10 of 40" in tab.state.text()
    append(run, "autoencoder", 20, loss=1.0, kl=0.25, seconds=2.0)
    wait_until(lambda: drawn(tab, "loss") == ([10, 20], [2.0, 1.0]))
    assert "10 steps/s" in tab.state.text()
    assert set(tab.curves.lines) == {"loss"}  # the others are a tick away
    tab.curves.terms["kl"].setChecked(True)
    assert drawn(tab, "kl") == ([10, 20], [0.5, 0.25])
    assert tab.curves.lines["loss"].opts["symbol"] is None
    append(run, "denoiser", 5, loss=0.5)
    wait_until(lambda: tab.curves.stage.currentText() == "denoiser")  # moves on with the training
    assert set(tab.curves.terms) == {"loss"} and drawn(tab, "loss") == ([5], [0.5])
    tab.curves.stage.setCurrentText("autoencoder")
    assert tab.curves.terms["kl"].isChecked()  # as it was ticked
    append(run, "denoiser", 6, loss=0.4)
    wait_until(lambda: tab.history.curves["denoiser"]["loss"] == [(5, 0.5), (6, 0.4)])
    assert tab.curves.stage.currentText() == "autoencoder"  # the user chose it


def test_terms_of_the_stage_before_are_gone_at_once(tab, wait_until):
    first = {"autoencoder": {"loss": [(1, 1.0)], "kl": [(1, 1.0)]}}
    tab.curves.show_curves(first)
    before = list(tab.curves.terms.values())
    wait_until(lambda: all(box.isVisible() for box in before))
    tab.curves.show_curves({**first, "denoiser": {"loss": [(1, 0.5)]}})
    assert not any(box.isVisible() for box in before)  # although Qt deletes them later


def test_a_logarithmic_scale_leaves_out_what_has_no_logarithm(tab, run, wait_until):
    for step, loss in ((1, 10.0), (2, 0.0), (3, float("nan")), (4, 0.1)):
        append(run, "denoiser", step, loss=loss)
    tab.follow(run)
    wait_until(lambda: "loss" in tab.curves.lines)
    tab.curves.is_log.setChecked(True)
    np.testing.assert_array_equal(drawn(tab, "loss")[1], [10.0, np.nan, np.nan, 0.1])
    assert tab.curves.plot.getAxis("left").logMode
    tab.curves.is_log.setChecked(False)
    np.testing.assert_array_equal(drawn(tab, "loss")[1], [10.0, 0.0, np.nan, 0.1])


def test_watchers_are_heard(tab, run, wait_until):
    append(run, "autoencoder", 10, watcher="scale_drift", message="latents are 9 times too large: restart", value=9)
    tab.follow(run)
    wait_until(lambda: tab.troubles.text())
    assert tab.troubles.text() == "! autoencoder, step 10: scale_drift: latents are 9 times too large: restart"
    assert tab.troubles.isVisible()


def test_a_folder_that_is_deleted_meanwhile_and_comes_back(tab, run, wait_until):
    append(run, "denoiser", 5, loss=0.5)
    add_samples(run, 5)
    tab.follow(run)
    wait_until(lambda: "loss" in tab.curves.lines)
    tab.show_samples()
    wait_until(lambda: len(tab.desk.viewer.layers) == 1)
    shutil.rmtree(run)
    wait_until(lambda: "is not there" in tab.state.text())
    assert drawn(tab, "loss") == ([5], [0.5])  # what was seen stays
    assert len(tab.desk.viewer.layers) == 1
    assert not tab.samples.isEnabled() and not tab.start_box.stop.isEnabled()
    make_run(run)
    append(run, "denoiser", 1, loss=0.75)
    wait_until(lambda: drawn(tab, "loss") == ([1], [0.75]))
    assert tab.desk.failures == []


def test_a_file_system_that_hangs_holds_up_nothing(tab, run, tmp_path, monkeypatch, wait_until):
    answers = threading.Event()
    poll = RunFollower.poll

    def hang(self):
        if self.folder.path == run:
            answers.wait(30)
        return poll(self)

    monkeypatch.setattr(RunFollower, "poll", hang)
    monkeypatch.setattr(following, "SLOW_S", 0.2)
    other = tmp_path / "other"
    make_run(other)
    append(other, "denoiser", 5, loss=0.5)
    try:
        began = time.monotonic()
        tab.follow(run)
        assert time.monotonic() - began < 1.0
        wait_until(lambda: "has not answered" in tab.state.text())
        hung = tab.following.looker
        tab.follow(other)  # its own thread
        wait_until(lambda: "loss" in tab.curves.lines)
        tab.close_tab()
        assert hung.is_alive
    finally:
        answers.set()
    wait_until(lambda: not hung.is_alive)


def test_a_closed_tab_looks_at_nothing(tab, run, wait_until):
    tab.follow(run)
    wait_until(lambda: tab.news is not None)
    thread = tab.following.looker
    tab.close_tab()
    tab.close_tab()
    wait_until(lambda: not thread.is_alive)
    tab.follow(run)
    assert tab.following.looker is None


def test_a_tab_that_qt_deletes_leaves_no_thread(desk, run, wait_until):
    tab = TrainingTab(desk)
    tab.follow(run)
    thread = tab.following.looker
    tab.deleteLater()
    del tab
    wait_until(lambda: not thread.is_alive)


def test_runs_that_were_followed_are_offered_again(tab, run, tmp_path, monkeypatch, wait_until):
    other = tmp_path / "other"
    make_run(other)
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(run))
    tab.choose.click()
    tab.follow(other)
    assert [tab.recent.itemText(i) for i in range(tab.recent.count())] == ["other", "my-run"]
    assert recent.recent_runs() == [str(other), str(run)]
    tab.recent.activated.emit(1)
    assert tab.following.path == run
    assert tab.recent.currentText() == "my-run"


def test_without_pyqtgraph_the_numbers_are_told_in_words(tab, run, monkeypatch, wait_until):
    monkeypatch.setitem(sys.modules, "pyqtgraph", None)
    append(run, "denoiser", 5, loss=0.5)
    tab.follow(run)
    wait_until(lambda: tab.curves.text.text() == "loss 0.5 at step 5")
    assert tab.curves.plot is None


def test_works_at_320_pixels_with_tooltips(tab, run, wait_until):
    for term in ("loss", "held_out_psnr_unit_range_db", "discriminator_feature_matching_loss", "perplexity_batch"):
        append(run, "autoencoder", 5, **{term: 0.5})
    tab.follow(run)
    tab.start_fold.set_open(True)
    wait_until(lambda: "loss" in tab.curves.lines)
    assert tab.minimumSizeHint().width() <= 320
    assert [b.objectName() for b in tab.findChildren(QAbstractButton) if not b.toolTip()] == []
