"""Which model is chosen, and its card in words, without a screen and without torch."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest

from napari_vqldm.card import GateResult, Header, read_header
from napari_vqldm.errors import CheckpointError
from napari_vqldm.plugin.inference.engine import ModelSpec
from napari_vqldm.plugin.state.model import DEVICES, ModelState
from napari_vqldm.plugin.tabs.model.card_text import card_text, curve_text, memorization_text
from napari_vqldm.zoo import resolve


@pytest.fixture(scope="module")
def header() -> Header:
    return read_header(resolve("vq-ldm"))


def with_card(header: Header, **changes) -> Header:
    return dataclasses.replace(header, card=header.card.model_copy(update=changes))


def test_opening_tells_the_form_and_the_spec():
    state, heard = ModelState(device="cpu", precision="bf16", threads=3), []
    state.events.name.connect(heard.append)
    state.open("ldm")
    assert heard == ["ldm"]
    assert state.spec() == ModelSpec("ldm", "cpu", "bf16", 3)
    assert (state.can_generate, state.takes_camera, state.is_bundled) == (True, True, True)
    assert "organisation" in state.conditions()


def test_without_a_model():
    state = ModelState()
    assert (state.can_generate, state.takes_camera, state.path, state.conditions()) == (False, False, None, {})


@pytest.mark.parametrize("content", [b"PK\x03\x04 a zip", b"\x80\x04pickle", b"", b"12345678{}"])
def test_a_bad_file_is_refused_and_the_old_choice_stays(tmp_path, content):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    state = ModelState()
    state.open("ldm")
    before = state.header
    with pytest.raises(CheckpointError, match="bad"):
        state.open(path)
    assert (state.name, state.header) == ("ldm", before)


def test_a_newer_format_is_refused_with_its_remedy(tiny_checkpoints, tmp_path):
    content = tiny_checkpoints["ldm"].read_bytes()
    length = int.from_bytes(content[:8], "little")
    text = json.loads(content[8 : 8 + length])
    ours = json.loads(text["__metadata__"]["napari_vqldm"])
    text["__metadata__"]["napari_vqldm"] = json.dumps({**ours, "format_version": 99})
    changed = json.dumps(text).encode()
    path = tmp_path / "newer.safetensors"
    path.write_bytes(len(changed).to_bytes(8, "little") + changed + content[8 + length :])
    with pytest.raises(CheckpointError, match="upgrade napari-vqldm"):
        ModelState().open(path)


def test_a_checkpoint_of_ones_own(tiny_checkpoints):
    state = ModelState()
    state.open(tiny_checkpoints["ldm"])
    assert not state.is_bundled
    assert state.path == tiny_checkpoints["ldm"]
    assert "auto" in DEVICES


def test_choosing_and_reading_cards_brings_no_torch():
    code = (
        "import sys; from napari_vqldm.plugin.state.model import ModelState; "
        "from napari_vqldm.plugin.tabs.model.card_text import card_text; state = ModelState(); state.open('ldm'); "
        "card_text(state.header); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == ["False"]


# --- the card ---------------------------------------------------------------------------------------------------------


def test_facts_say_what_the_checkpoint_holds(header):
    facts = dict(card_text(header).facts)
    assert facts["Voxel size"] == "0.16 to 0.25 × 0.08 to 0.125 × 0.08 to 0.125 µm (z, y, x)"
    assert facts["Window"].startswith("32 × 128 × 128 voxels")
    assert facts["Codebook"] == "1024 codes"
    assert "autoencoder 1.3 M" in facts["Parameters"]
    assert facts["Generates"].startswith("yes")


def test_scores_read_as_on_the_command_line(header, capsys, monkeypatch):
    from napari_vqldm.cli import console, run

    monkeypatch.setattr(console, "PLAIN_WIDTH", 400)  # no line is folded
    assert run(["info", header.card.name]) == 0
    told = " ".join(capsys.readouterr().out.split())
    groups = card_text(header).score_groups
    assert sum(len(group.rows) for group in groups) == len(card_text(header).scorecard) > 20
    for group in groups:
        assert group.heading in told
        for title, text in group.rows:
            assert f" {title} {text} " in told
    assert run(["info", header.card.name, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scorecard"] == header.card.scorecard  # keys and numbers for programs


def test_a_card_that_is_no_card_of_ours_is_shown_all_the_same(header):
    odd = with_card(header, scorecard={"gates": 3, "evaluation": {"x": [1]}}, memorization={"generated": "none"})
    text = card_text(odd)
    assert text.scorecard == ()
    assert "cannot read" in text.memorization


@pytest.mark.parametrize(
    ("low", "high", "words"), [(0.01, 0.02, "more than they should"), (-0.01, 0.02, "no sign"), (-0.02, -0.01, "less")]
)
def test_memorization_is_judged_by_its_interval(header, low, high, words):
    found = {**header.card.memorization, "excess_of_pairs": {"value": (low + high) / 2, "low": low, "high": high}}
    assert words in memorization_text(found)


@pytest.mark.parametrize(
    ("gates", "words"),
    [
        ({}, "no quality gate"),
        ({"autoencoder": ("full", False)}, "missed"),
        ({"autoencoder": ("smoke", True)}, "short trial"),
        ({"autoencoder": ("full", True)}, ""),
    ],
)
def test_checkpoints_of_unknown_quality_carry_a_warning(header, gates, words):
    made = {name: GateResult(kind=kind, passed=passed) for name, (kind, passed) in gates.items()}
    warning = card_text(with_card(header, gates=made)).warning
    assert words in warning
    assert bool(warning) == bool(words)


def test_curves_in_words(header):
    first, last = header.training.curve["denoiser/loss"][0], header.training.curve["denoiser/loss"][-1]
    line = next(line for line in curve_text(header).splitlines() if line.startswith("denoiser/loss:"))
    assert f"{first[1]:.4g} at step {first[0]}" in line
    assert f"{last[1]:.4g} at step {last[0]}" in line
