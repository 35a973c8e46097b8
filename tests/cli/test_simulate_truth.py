"""`simulate --labels --swc --csv`: the same truth as in Python, and nothing half written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import napari_vqldm as nv
from napari_vqldm.files import read_centre_lines, read_volume

SCENE = ["simulate", "--count", 2, "--seed", 5, "--shape", 6, 20, 16]


def expected(count: int = 2) -> Any:
    from napari_vqldm.simulate import tier

    return nv.simulate(count, 5, config=tier().model_copy(update={"shape": (6, 20, 16)}))


def test_files_are_called_what_the_page_calls_them(command: Callable[..., Any], tmp_path: Path) -> None:
    command("simulate", *SCENE[3:], "--labels", "--swc", "--csv", "--out", tmp_path / "s")
    page = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| `…(\S+)`", page, re.MULTILINE)
    assert sorted(told) == sorted(path.name.partition("-000")[2] for path in (tmp_path / "s").iterdir())


def test_labels_and_centre_lines_are_those_of_python(command: Callable[..., Any], tmp_path: Path) -> None:
    report = command(*SCENE, "--labels", "--swc", "--csv", "--out", tmp_path / "s", "--json").json
    for entry, result in zip(report["volumes"], expected(), strict=True):
        with tifffile.TiffFile(entry["labels"]) as tif:
            assert tif.series[0].axes == "ZYX" and tif.series[0].dtype == np.int32
            np.testing.assert_array_equal(tif.asarray(), result.labels)
        labels = read_volume(entry["labels"])
        assert labels.voxel_size_um == result.clean.voxel_size_um
        assert labels.provenance["request"]["seed"] == 5
        truth = json.loads(Path(entry["truth"]).read_text())
        assert truth["instances"] == result.instances
        for kind in ("swc", "csv"):
            lines = read_centre_lines(entry[kind])
            assert lines.instances == result.instances
            for a, b in zip(lines.lines, result.centre_lines, strict=True):
                np.testing.assert_allclose(a, b, atol=1e-6, rtol=0)
    files = {
        Path(entry[k]).name for entry in report["volumes"] for k in ("clean", "noisy", "truth", "labels", "swc", "csv")
    }
    assert files == {path.name for path in (tmp_path / "s").iterdir()} and len(files) == 12
    again = command(*SCENE, "--labels", "--swc", "--csv", "--out", tmp_path / "t", "--json").json
    for first, second in zip(report["volumes"], again["volumes"], strict=True):
        for kind in ("swc", "csv"):
            assert Path(first[kind]).read_bytes() == Path(second[kind]).read_bytes()


def test_only_what_is_asked_for_is_written(command: Callable[..., Any], tmp_path: Path) -> None:
    entry = command(*SCENE, "--swc", "--out", tmp_path, "--json").json["volumes"][0]
    assert "swc" in entry and not {"labels", "csv"} & set(entry)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json"] * 2 + [".swc"] * 2 + [".tif"] * 4


def test_an_existing_truth_file_is_refused_before_anything_is_written(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    kept = tmp_path / "simulated-seed5-001-lines.swc"
    kept.write_text("mine")
    command(*SCENE, "--labels", "--swc", "--out", tmp_path).refused("exists already")
    assert [path.name for path in tmp_path.iterdir()] == [kept.name] and kept.read_text() == "mine"
    assert command(*SCENE, "--labels", "--swc", "--out", tmp_path, "--force").code == 0
    assert len(read_centre_lines(kept).lines) == len(expected()[1].centre_lines)


@pytest.mark.slow
def test_haze_and_a_detector_come_from_the_file(command: Callable[..., Any], tmp_path: Path) -> None:
    scene = tmp_path / "scene.toml"
    scene.write_text(
        "shape = [6, 20, 16]\n[haze]\nlevel = [0.3, 0.3]\n[illumination]\nbleaching = [0.1, 0.3]\n"
        "[camera]\nexcess_noise = 1.2\nread_noise_e = 0.0\nbit_depth = 12\n"
        '[optics]\nspecimen_index = 1.38\ndepth_um = 5.0\nmodality = "confocal"\n',
        encoding="utf-8",
    )
    entry = command("simulate", "--config", scene, "--out", tmp_path / "s", "--json").json["volumes"][0]
    assert entry["parameters"]["haze_level"] == 0.3 and 0.1 <= entry["parameters"]["bleaching"] <= 0.3
    clean, noisy = read_volume(entry["clean"]), read_volume(entry["noisy"])
    assert 0.15 < float(noisy.data.mean() - clean.data.mean()) < 0.35
    scene.write_text("shape = [6, 20, 16]\n[haze]\nlevel = [0.4, 0.3]\n", encoding="utf-8")
    command("simulate", "--config", scene, "--out", tmp_path / "r").refused("haze", "low <= high")
    assert not (tmp_path / "r").exists()
