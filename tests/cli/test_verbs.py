"""Verbs do what their Python twins do, and say so to people and to machines."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import napari_vqldm as nv
from napari_vqldm.diffusion import SAMPLERS
from napari_vqldm.files import read_volume

WINDOW = (8, 16, 16)  # of the tiny models
Command = Callable[..., Any]
MakeStack = Callable[..., Path]


@pytest.fixture(params=["ldm", "vq_ldm"])
def model(request: pytest.FixtureRequest) -> Path:
    """Both families in turn."""
    path: Path = request.getfixturevalue(request.param)
    return path


def test_simulate_writes_what_python_simulates(command: Command, tmp_path: Path) -> None:
    words = ["simulate", "--count", 2, "--seed", 5, "--shape", 6, 20, 16, "--out", tmp_path / "s", "--json"]
    report = command(*words).json
    expected = nv.simulate(2, 5, config=sim_config((6, 20, 16)))
    for entry, result in zip(report["volumes"], expected, strict=True):
        clean, noisy = read_volume(entry["clean"]), read_volume(entry["noisy"])
        assert result.noisy is not None
        assert np.array_equal(clean.data, result.clean.data)
        assert np.array_equal(noisy.data, result.noisy.data)
        assert clean.voxel_size_um == pytest.approx(result.clean.voxel_size_um, rel=1e-6)
        truth = json.loads(Path(entry["truth"]).read_text())
        assert len(truth["centre_lines_um_zyx"]) == len(result.centre_lines)
        assert truth["parameters"]["seed"] == 5
    again = command(*words)
    again.refused("exists already")


def sim_config(shape: tuple[int, int, int]) -> object:
    from napari_vqldm.simulate import tier

    return tier().model_copy(update={"shape": shape})


def test_simulate_through_a_camera_gives_gray_values(command: Command, tmp_path: Path) -> None:
    report = command(
        "simulate", "--shape", 6, 20, 16, "--photons", 50, "--offset", 400, "--out", tmp_path, "--json"
    ).json
    noisy = read_volume(report["volumes"][0]["noisy"]).data
    assert noisy.min() > 380
    assert 400 < np.median(noisy) < 500


def test_generate_equals_python_and_names_every_volume(command: Command, model: Path, tmp_path: Path) -> None:
    done = command("generate", "--model", model, "--count", 2, "--start", 1, "--seed", 3, "--out", tmp_path, "--json")
    assert done.code == 0
    expected = nv.generate(nv.load(model), count=2, seed=3, start=1)
    assert [entry["index"] for entry in done.json["volumes"]] == [1, 2]
    for entry, volume in zip(done.json["volumes"], expected, strict=True):
        written = read_volume(entry["file"])
        assert np.array_equal(written.data, volume.data)
        assert written.shape == WINDOW
        assert written.provenance["request"]["seed"] == 3


def test_generate_hands_every_option_on(command: Command, ldm: Path, tmp_path: Path) -> None:
    out = tmp_path / "one.ome.tif"
    done = command(
        "generate", "--model", ldm, "--shape", 4, 8, 8, "--steps", 3, "--sampler", "heun", "--guidance", 1.5,
        "--condition", "organisation=aster", "--condition", "length_density_um_per_um3=0.3",
        "--photons", 80, "--background", 0.3, "--read-noise", 2, "--offset", 50, "--blur", 0.05, "--out", out,
    )  # fmt: skip
    assert done.code == 0, done.err
    written = read_volume(out)
    request = written.provenance["request"]
    assert written.shape == (4, 8, 8)
    assert (request["steps"], request["sampler"], request["guidance_scale"]) == (3, "heun", 1.5)
    assert request["conditions"]["organisation"] == "aster"
    assert request["conditions"]["length_density_um_per_um3"] == 0.3
    camera = request["camera"]
    given = {"photons": 80, "background": 0.3, "read_noise_e": 2, "offset_adu": 50, "blur_um": 0.05}
    assert {name: camera[name] for name in given} == given


def test_reconstruct_reports_and_equals_python(command: Command, model: Path, stack: Path, tmp_path: Path) -> None:
    report = command("reconstruct", stack, "--model", model, "--out", tmp_path / "r", "--json").json
    source, output = read_volume(stack), read_volume(report["output"])
    assert np.array_equal(output.data, nv.reconstruct(nv.load(model), source).data)
    assert (output.shape, output.voxel_size_um) == (source.shape, source.voxel_size_um)
    rows = report["correlation"]
    assert rows["reconstruction"] == pytest.approx(
        np.corrcoef(source.data.ravel(), output.data.ravel())[0, 1], abs=1e-6
    )
    assert rows["identity-resample"] > rows["gaussian"] > rows["pooled"] > 0.1  # each throws away more
    assert ("near_ties" in report) == (report["family"] == "vq-ldm")
    assert report["scale"] > 0


def test_reconstruct_speaks_to_people(command: Command, vq_ldm: Path, stack: Path, tmp_path: Path) -> None:
    done = command("reconstruct", stack, "--model", vq_ldm, "--out", tmp_path / "r")
    for words in ("voxel size um", "background", "near tie", "identity-resample", "sigma 1 voxel", "pooled"):
        assert words in done.out
    assert "Traceback" not in done.err
    assert "\x1b[" not in done.err  # no progress bar and no color where there is no terminal


def test_reconstruct_a_folder_skips_and_continues(
    command: Command, ldm: Path, make_stack: MakeStack, tmp_path: Path
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for index in range(2):
        make_stack(folder / f"good{index}.tif", index)
    assert command("reconstruct", folder, "--model", ldm, "--out", out).code == 0
    (folder / "bad.tif").write_text("no image")
    make_stack(folder / "good2.tif", 2)
    before = (out / f"good0-{ldm.stem}.ome.tif").stat().st_mtime_ns
    done = command("reconstruct", folder, "--model", ldm, "--out", out, "--json")
    assert done.code == 2
    assert (done.json["done"], done.json["skipped"], done.json["failed"]) == (1, 2, 1)
    states = {Path(entry["file"]).name: entry["status"] for entry in done.json["files"]}
    assert states == {"bad.tif": "failed", "good0.tif": "skipped", "good1.tif": "skipped", "good2.tif": "done"}
    assert (out / f"good0-{ldm.stem}.ome.tif").stat().st_mtime_ns == before
    record = out / f"report-{ldm.stem}.json"
    assert len(list(out.iterdir())) == 4
    assert record in out.iterdir()
    written = json.loads(record.read_text())
    assert {Path(entry["file"]).name: entry["status"] for entry in written["files"]} == states
    # What was measured when an output was made stays on record when it is skipped.
    kept = {Path(entry["file"]).name for entry in written["files"] if "correlation" in entry}
    assert kept == {"good0.tif", "good1.tif", "good2.tif"}
    table = command("reconstruct", folder, "--model", ldm, "--out", out, "--force")
    assert table.code == 2
    assert "3 done, 0 skipped, 1 failed" in table.out
    assert "bad.tif" in table.out
    record.write_text("my own words")
    command("reconstruct", folder, "--model", ldm, "--out", out).refused(record.name, "--force")
    assert record.read_text() == "my own words"


def test_a_folder_that_takes_the_outputs_too_is_not_fed_with_them(
    command: Command, ldm: Path, vq_ldm: Path, make_stack: MakeStack, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    make_stack(folder / "a.tif")
    (folder / "bad.tif").write_text("no image")
    words = ["reconstruct", folder, "--out", tmp_path / "in" / ".." / "in", "--json"]
    assert "left out" not in command(*words, "--model", ldm).err
    again = command(*words, "--model", ldm)
    assert [Path(entry["file"]).name for entry in again.json["files"]] == ["a.tif", "bad.tif"]
    assert again.json["skipped"] == 1
    assert "left out as outputs of earlier runs: 1 of the 3 volumes" in again.err
    other = command(*words, "--model", vq_ldm)
    assert (other.json["done"], other.json["failed"]) == (1, 1)
    # The record of an output is lost, its name is not; the record of another survives a new name.
    output = folder / f"a-{ldm.stem}.ome.tif"
    voxels = read_volume(output)
    output.unlink()
    nv.write_volume(output, nv.Volume(voxels.data, voxels.voxel_size_um))
    (folder / f"a-{vq_ldm.stem}.ome.tif").rename(folder / "mine.tif")
    last = command(*words, "--model", ldm, "--force")
    assert [Path(entry["file"]).name for entry in last.json["files"]] == ["a.tif", "bad.tif"]
    assert "2 of the 4 volumes" in last.err
    elsewhere = tmp_path / "elsewhere"  # asked for from outside, an output is a stack like any other
    words = ["reconstruct", folder, "--model", ldm, "--out", elsewhere, "--json"]
    assert command(*words).json["done"] == 3
    command("reconstruct", elsewhere, "--model", ldm, "--out", elsewhere).refused("only outputs")


def test_files_that_differ_in_their_ending_alone_do_not_collide(
    command: Command, ldm: Path, make_stack: MakeStack, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    make_stack(folder / "a.tif")
    np.save(folder / "a.npy", read_volume(folder / "a.tif").data)
    words = ["reconstruct", folder, "--model", ldm, "--out", tmp_path / "out", "--voxel-size", 0.2, 0.1, 0.1, "--json"]
    assert command(*words).json["done"] == 2
    assert len(list((tmp_path / "out").glob("*.ome.tif"))) == 2


@pytest.mark.slow
def test_decode_of_encode_is_reconstruct_through_a_file_and_a_new_process(
    command: Command, vq_ldm: Path, stack: Path, tmp_path: Path
) -> None:
    latent, decoded = tmp_path / "latent.safetensors", tmp_path / "decoded.ome.tif"
    report = command("encode", stack, "--model", vq_ldm, "--out", latent, "--json").json
    assert report["bytes"] == latent.stat().st_size
    call = "import sys; from napari_vqldm.cli import main; main(sys.argv[1:])"
    words = [sys.executable, "-c", call, "decode", latent, "--model", vq_ldm, "--out", decoded, "--device", "cpu"]
    subprocess.run([str(word) for word in words], check=True, capture_output=True, timeout=120)
    assert np.array_equal(read_volume(decoded).data, nv.reconstruct(nv.load(vq_ldm), read_volume(stack)).data)
    described = command("info", latent, "--json").json
    assert described["kind"] == "latent"
    assert described["content"] == "code indices"


def test_interpolation_ends_are_the_endpoints(
    command: Command, model: Path, stack: Path, make_stack: MakeStack, tmp_path: Path
) -> None:
    other = make_stack("other.ome.tif", 1)
    latent = tmp_path / "other.safetensors"
    assert command("encode", other, "--model", model, "--out", latent).code == 0
    loaded = nv.load(model)
    ends = [nv.reconstruct(loaded, read_volume(path)).data for path in (stack, other)]
    done = command(
        "interpolate", "--model", model, "--a", stack, "--b", latent, "--frames", 3, "--kind", "slerp", "--no-snap",
        "--out", tmp_path / "path", "--json",
    )  # fmt: skip
    frames = done.json["frames"]
    assert [frame["t"] for frame in frames] == [0.0, 0.5, 1.0]
    assert done.json["snap"] is False
    assert np.array_equal(read_volume(frames[0]["file"]).data, ends[0])
    assert np.array_equal(read_volume(frames[2]["file"]).data, ends[1])


def test_interpolation_between_seeds_starts_at_generate(command: Command, ldm: Path, tmp_path: Path) -> None:
    done = command("interpolate", "--model", ldm, "--a", 1, "--b", 2, "--frames", 2, "--out", tmp_path, "--json")
    loaded = nv.load(ldm)
    for seed, frame in zip((1, 2), done.json["frames"], strict=True):
        assert np.array_equal(read_volume(frame["file"]).data, nv.generate(loaded, seed=seed)[0].data)


def test_codebook_counts_every_cell_once(
    command: Command, vq_ldm: Path, stack: Path, make_stack: MakeStack, tmp_path: Path
) -> None:
    other = make_stack("other.ome.tif", 1)
    out = tmp_path / "codes.csv"
    report = command("codebook", stack, other, "--model", vq_ldm, "--out", out, "--json").json
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert len(rows) == report["codebook_size"] == 16
    for part in ("filament", "background"):
        counts = np.array([int(row[f"{part}_cells"]) for row in rows])
        assert counts.sum() == report[part]["cells"]
        assert (counts == 0).sum() == report[part]["dead_codes"]
    whole = report["everywhere"]
    assert whole["cells"] == report["filament"]["cells"] + report["background"]["cells"]
    assert 1 <= whole["perplexity"] <= whole["codes_used"] + 1e-9
    assert "perplexity" in command("codebook", stack, "--model", vq_ldm).out


def test_info_describes_checkpoints_and_volumes(command: Command, model: Path, stack: Path) -> None:
    card = command("info", model, "--json").json
    assert card["family"] == model.stem.removeprefix("tiny-")
    assert card["window"] == list(WINDOW)
    assert card["codebook_size"] == (16 if card["family"] == "vq-ldm" else None)
    assert card["weights_sha256"] == nv.load(model).weights_sha256
    assert "organisation" in card["conditions"]
    volume = command("info", stack, "--json").json
    assert (volume["shape"], volume["voxel_size_um"]) == ([9, 18, 14], [0.3, 0.1, 0.1])
    assert "weights_sha256" in command("info", model).out


def test_info_describes_files_that_leave_a_choice(command: Command, tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(1, 99, (2, 6, 3, 12, 14)).astype(np.uint16)
    bare, movie, array = (tmp_path / name for name in ("bare.tif", "movie.tif", "array.npy"))
    tifffile.imwrite(bare, data[0, :, 0], metadata={"axes": "ZYX"})
    tifffile.imwrite(movie, data, imagej=True, resolution=(10, 10), metadata={"axes": "TZCYX", "unit": "um"})
    np.save(array, data[:, :, 0])
    found = command("info", bare, "--json").json
    assert (found["axes"], found["shape"], found["dtype"]) == ("ZYX", [6, 12, 14], "uint16")
    assert (found["channels"], found["time_points"], found["voxel_size_um"]) == (1, 1, [None] * 3)
    assert "not stated: give --voxel-size Z Y X to the other commands" in command("info", bare).out
    found = command("info", movie, "--json").json
    assert (found["axes"], found["shape"]) == ("TZCYX", [2, 6, 3, 12, 14])
    assert (found["channels"], found["time_points"]) == (3, 2)
    assert "--channel" in found["needed"]
    assert "? 0.1 0.1, not stated in full: give --voxel-size" in command("info", movie).out
    found = command("info", array, "--voxel-size", 0.2, 0.1, 0.1, "--json").json
    assert (found["shape"], found["voxel_size_um"]) == ([2, 6, 12, 14], [0.2, 0.1, 0.1])
    assert "without names" in found["needed"]
    chosen = command("info", movie, "--channel", 1, "--time", 0, "--voxel-size", 0.2, 0.1, 0.1, "--json").json
    assert chosen["shape"] == [6, 12, 14] and chosen["median"] > 0
    command("info", movie, "--channel", 3).refused("no channel 3")
    movie.write_bytes(movie.read_bytes()[:3000])
    command("info", movie).refused("movie.tif")


def test_a_channel_is_chosen_by_its_name_before_its_index(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "named.ome.tif"
    data = np.random.default_rng(0).integers(1, 9, (4, 2, 12, 12)).astype(np.uint16)
    data[:, 1] += 100
    metadata: dict[str, Any] = {
        "axes": "ZCYX",
        "Channel": {"Name": ["488", "561"]},
        **{f"PhysicalSize{axis}": 0.1 for axis in "XYZ"},
        **{f"PhysicalSize{axis}Unit": "µm" for axis in "XYZ"},
    }
    tifffile.imwrite(path, data, metadata=metadata)
    for word, low in (("488", 1), ("561", 101), ("0", 1), ("1", 101)):
        assert command("info", path, "--channel", word, "--json").json["minimum"] == low
    command("info", path, "--channel", "640").refused("no channel 640", "0 '488', 1 '561'")


def test_help_and_cards_need_no_torch(ldm: Path) -> None:
    program = (
        "import sys\nfrom napari_vqldm.cli import run\n"
        "for words in (['--help'], ['generate', '--help'], ['--version'], ['info', sys.argv[1]]):\n"
        "    code = run(words)\n    assert code == 0, (words, code)\n"
        "assert not {'torch', 'monai', 'scipy'} & set(sys.modules), sorted(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(ldm)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_help_names_every_sampler(command: Command) -> None:
    assert set(SAMPLERS) <= set(re.findall(r"\w+", command("generate", "--help").out))


def test_json_is_strict(command: Command, ldm: Path, tmp_path: Path) -> None:
    """NaN and infinity are no JSON; messages do not mix with the object."""
    from napari_vqldm.cli.console import to_json_text

    assert json.loads(to_json_text({"a": float("nan"), "b": np.float32("inf"), "c": np.arange(2), "d": Path("x")})) == {
        "a": None, "b": None, "c": [0, 1], "d": "x",
    }  # fmt: skip
    done = command("generate", "--model", ldm, "--out", tmp_path, "--json")
    assert done.out.startswith("{")
    assert "model tiny-ldm" in done.err


def test_train_is_the_engine_itself(command: Command, tmp_path: Path) -> None:
    done = command("train", "smoke-ldm", "--out", tmp_path / "run", "--dry-run")
    assert done.code == 0, done.err
    assert not (tmp_path / "run").exists()
    assert command("train", "no-such-preset", "--out", tmp_path / "run").code == 2
    assert "--stage" in command("train", "--help").out
