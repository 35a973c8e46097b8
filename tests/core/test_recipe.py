"""The text that a record becomes runs in a new process, or as commands, and gives the same bits."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import napari_vqldm as nv
from napari_vqldm.checkpoint import Model
from napari_vqldm.cli import run
from napari_vqldm.config import CameraConfig, SimulationConfig
from napari_vqldm.errors import RecipeError
from napari_vqldm.intensity import IntensityScale
from napari_vqldm.recipe import FileInput, calls, command_line, python_script, read_recipe, walk
from napari_vqldm.simulate.presets import preset
from napari_vqldm.tiles import MAX_VOXELS
from napari_vqldm.volume import Volume, hash_voxels

BOX = ((1, 9), (3, 36), (0, 40))
SMALL = preset("sparse").model_copy(update={"shape": (8, 32, 32)})


def volumes_of(model: Model, stack: Volume) -> dict[str, Volume]:
    """One volume per verb and per choice that needs words of its own."""
    simulated = nv.simulate(seed=3, start=2, config=SMALL)[0]
    generated = nv.generate(model, seed=4, start=1, steps=2, condition={"organisation": "aster"})[0]
    part = nv.crop(stack, BOX)
    latents = [nv.encode(model, part), nv.encode(model, part, intensity=IntensityScale(110.5, 33.3))]
    reconstruction = nv.reconstruct(model, part, max_voxels=2**13)
    return {
        "clean": simulated.clean,
        "noisy": nv.simulate(seed=3, config=SMALL, camera=CameraConfig(photons=60.5))[0].noisy or simulated.clean,
        "generated": generated,
        "one of a batch": nv.generate(model, 3, (8, 30, 7), seed=5, steps=2, batch=3, camera=CameraConfig())[2],
        "recorded": nv.record(generated, CameraConfig(photons=33.3, blur_um=0.05)),
        "part": part,
        "decoded": nv.decode(model, latents[1]),
        "reconstructed": reconstruction,
        "reconstruction of a generated one": nv.reconstruct(model, nv.crop(generated, ((0, 8), (2, 30), (0, 32)))),
        "between latents": nv.interpolate(model, *latents, t=0.37, kind="slerp", snap=False, max_voxels=2**13),
        "between seeds": nv.interpolate(model, 3, 4, t=1 / 3, steps=2, guidance_scale=1.5),
        "residual": nv.residual(part, reconstruction),
        "uncertainty": nv.uncertainty(model, part, 2, seed=1),
        "mean": nv.uncertainty(model, part, 2, seed=1, statistic="mean"),
    }


@pytest.fixture(scope="module")
def made(model: Model, stack: Volume) -> dict[str, Volume]:
    return volumes_of(model, stack)


@pytest.fixture
def known(model: Model, stack: Volume, tmp_path: Path) -> dict[str, Any]:
    """The stack in a file, the model in its own."""
    path = nv.write_volume(tmp_path / "a stack.ome.tif", stack)
    return {"files": {hash_voxels(stack): FileInput(str(path))}, "models": {model.weights_sha256: str(model.path)}}


def same(a: Volume, b: Volume) -> bool:
    return hash_voxels(a) == hash_voxels(b)


@pytest.mark.slow  # the dock tests run such scripts in every round
def test_scripts_give_the_same_bits_in_a_new_process(
    made: dict[str, Volume], known: dict[str, Any], tmp_path: Path
) -> None:
    for name, volume in made.items():
        text = python_script(volume.provenance, **known, out=str(tmp_path / f"{name}.ome.tif"))
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    # One new process for all, each script with names of its own; another number of threads than here.
    driver = "import runpy, sys, torch\nfor name in sys.argv[1:]: torch.set_num_threads(3); runpy.run_path(name)"
    paths = [str(tmp_path / f"{name}.py") for name in made]
    done = subprocess.run([sys.executable, "-c", driver, *paths], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    different = [name for name, v in made.items() if not same(nv.read_volume(tmp_path / f"{name}.ome.tif"), v)]
    assert different == []


@pytest.mark.slow
def test_commands_give_the_same_bits(
    made: dict[str, Volume], known: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    different = []
    threads = torch.get_num_threads()
    for name, volume in made.items():
        out = tmp_path / f"{name}.ome.tif"
        for line in command_line(volume.provenance, **known, out=str(out)).splitlines():
            program, *words = shlex.split(line)
            assert program == "napari-vqldm" and run(words) == 0, (line, capsys.readouterr().err)
        if not same(nv.read_volume(out), volume):
            different.append(name)
    assert different == [] and torch.get_num_threads() == threads


def test_a_file_is_read_as_it_was(model: Model, stack: Volume, tmp_path: Path) -> None:
    """Channel, time point, voxel size and box of a file become words of the script and of the command."""
    movie = np.stack([np.zeros_like(stack.data), stack.data], axis=0)[None]  # T, C, Z, Y, X
    import tifffile

    path = tmp_path / "movie.ome.tif"
    tifffile.imwrite(path, movie, ome=True, metadata={"axes": "TCZYX"})
    voxel_size = (0.2, 0.1, 0.1)
    part = nv.crop(nv.read_volume(path, channel=1, voxel_size_um=voxel_size), BOX)
    wanted = nv.reconstruct(model, part)
    file = FileInput(str(path), channel=1, voxel_size_um=voxel_size, box=BOX)
    models = {model.weights_sha256: str(model.path)}
    files = {hash_voxels(part): file}
    text = python_script(wanted.provenance, files=files, models=models)
    assert same(execute(text)["volume"], wanted)
    out = tmp_path / "out.ome.tif"
    (line,) = command_line(wanted.provenance, files=files, models=models, out=str(out)).splitlines()
    assert run(shlex.split(line)[1:]) == 0
    assert same(nv.read_volume(out), wanted)
    # A verb without --crop takes a copy of the part.
    map_ = nv.uncertainty(model, part, 2)
    lines = command_line(map_.provenance, files=files, models=models, out=str(out)).splitlines()
    assert [shlex.split(line)[0] for line in lines] == ["napari-vqldm"] * 2 and " crop " in lines[0]


def execute(text: str) -> dict[str, Any]:
    """Run a script here, with its threads put back."""
    threads, names = torch.get_num_threads(), dict[str, Any]()
    try:
        exec(compile(text, "script", "exec"), names)
    finally:
        torch.set_num_threads(threads)
    return names


def test_a_bundled_model_is_known_by_its_name_and_its_weights() -> None:
    record = nv.simulate(seed=1, config=SMALL)[0].clean.provenance
    bundled = nv.load("ldm")
    request = {"model": "mine", "weights_sha256": bundled.weights_sha256, "max_voxels": MAX_VOXELS, "source": record}
    encoded = {**record, "verb": "encode", "request": {**request, "is_intensity_estimated": True}}
    assert "nv.load('ldm')" in python_script(encoded)
    other = {**encoded, "request": {**encoded["request"], "weights_sha256": "0" * 64}}
    with pytest.raises(RecipeError, match=r"'mine' \(weights 000000000000\) is not bundled.*give the checkpoint"):
        python_script(other)


def test_an_input_that_is_nowhere_is_named(model: Model, stack: Volume) -> None:
    models = {model.weights_sha256: str(model.path)}
    foreign = replace(
        stack, provenance={"software": "napari-vqldm", "verb": "read", "source": {"file": "cell.tif", "channel": 1}}
    )
    for write in (python_script, command_line):
        with pytest.raises(RecipeError, match=r"the file 'cell.tif' \(channel 1\).*save it to a file first"):
            write(nv.reconstruct(model, foreign).provenance, models=models)
        with pytest.raises(RecipeError, match="a volume without a record"):
            write(nv.reconstruct(model, replace(stack, provenance={})).provenance, models=models)
        edited = stack.with_data(stack.data + 1)  # its record is still that of the simulation
        with pytest.raises(RecipeError, match=r"simulate.*was changed after it was computed"):
            write(nv.reconstruct(model, edited).provenance, models=models)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({}, "no record of napari-vqldm"),
        ({"software": "other", "verb": "generate"}, "no record of napari-vqldm"),
        ({"software": "napari-vqldm", "verb": "read", "source": {"file": "a.tif"}}, "was read from the file 'a.tif'"),
        ({"software": "napari-vqldm", "verb": "dream", "request": {}}, "'dream', which this version does not know"),
        ({"software": "napari-vqldm", "verb": "generate", "request": {"seed": 1}}, "lacks or misstates 'index'"),
        ({"software": "napari-vqldm", "verb": "crop", "request": {"box": 3}}, "lacks or misstates"),
    ],
)
def test_what_is_no_recipe_is_refused(record: dict[str, Any], words: str) -> None:
    for write in (python_script, command_line):
        with pytest.raises(RecipeError, match=words):
            write(record)


def test_a_command_refuses_what_it_cannot_say(ldm: Model) -> None:
    camera = CameraConfig(gain_e_per_adu=0.7)
    volume = nv.generate(ldm, steps=2, camera=camera)[0]
    models = {ldm.weights_sha256: str(ldm.path)}
    with pytest.raises(RecipeError, match=r"gain_e_per_adu 0.7: use the Python program"):
        command_line(volume.provenance, models=models)
    assert same(execute(python_script(volume.provenance, models=models))["volume"], volume)
    own = nv.simulate(config=SimulationConfig(shape=(8, 32, 32), brightness_cv=0.2))[0].clean
    with pytest.raises(RecipeError, match="no tier or preset: use the Python program"):
        command_line(own.provenance)
    assert same(execute(python_script(own.provenance))["volume"], own)


def test_records_from_before_the_new_keys_still_give_the_same_bits(model: Model, stack: Volume, tmp_path: Path) -> None:
    models = {model.weights_sha256: str(model.path)}
    generated = nv.generate(model, seed=4, start=1, steps=2, condition={"organisation": "aster"})[0]
    old = older(generated.provenance, "batch", "condition", "target")
    assert "batch" not in json.dumps(old) and "threads" not in json.dumps(old)
    assert same(execute(python_script(old, models=models))["volume"], generated)
    foreign = replace(stack, provenance={"software": "napari-vqldm", "verb": "read", "source": {"file": "cell.tif"}})
    path = nv.write_volume(tmp_path / "cell.ome.tif", stack)
    output = nv.reconstruct(model, foreign)
    old = older(output.provenance, "max_voxels", "source_sha256", "source_voxel_size_um", "is_intensity_estimated")
    text = python_script(old, models=models, files={"cell.tif": FileInput(str(path))})
    assert same(execute(text)["volume"], output)


def older(record: Any, *keys: str) -> Any:
    """A record without the keys that it got later."""
    if isinstance(record, dict):
        dropped = (*keys, "environment", "voxels_sha256")
        return {key: older(value, *keys) for key, value in record.items() if key not in dropped}
    return [older(value, *keys) for value in record] if isinstance(record, list) else record


def test_an_input_that_is_needed_twice_is_made_once(made: dict[str, Volume], known: dict[str, Any]) -> None:
    text = python_script(made["residual"].provenance, **known)
    assert text.count("nv.read_volume(") == text.count("nv.crop(") == text.count("nv.load(") == 1
    lines = command_line(made["residual"].provenance, **known).splitlines()
    assert [" ".join(shlex.split(line)[3:4]) for line in lines] == ["crop", "reconstruct", "compare"]


def test_a_recipe_is_read_and_written_without_torch(made: dict[str, Volume], known: dict[str, Any]) -> None:
    code = (
        "import json, sys; from napari_vqldm.recipe import FileInput, command_line, python_script\n"
        "records, models = json.load(sys.stdin)\n"
        "for record in records:\n"
        "    for write in (python_script, command_line):\n"
        "        write(record, models=models, files={sha: FileInput('a.tif') for sha in sys.argv[1:]})\n"
        "assert not {'torch', 'monai', 'qtpy', 'napari'} & set(sys.modules)"
    )
    text = json.dumps([[dict(volume.provenance) for volume in made.values()], known["models"]])
    done = subprocess.run([sys.executable, "-c", code, *known["files"]], input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_names_of_simulations_are_those_of_the_package() -> None:
    for name in calls.SIMULATION_NAMES:
        assert calls.named_simulation(name) == preset(name)


def test_the_tree_holds_every_record(made: dict[str, Volume]) -> None:
    verbs = [node.verb for node in walk(read_recipe(made["residual"].provenance))]
    assert verbs == ["simulate", "crop", "simulate", "crop", "encode", "decode", "residual"]
    root = read_recipe(made["reconstructed"].provenance)
    assert root.threads == torch.get_num_threads() and root.device == "cpu"
    assert root.voxels_sha256 == hash_voxels(made["reconstructed"])
