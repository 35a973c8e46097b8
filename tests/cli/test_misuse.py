"""Every mistake is one clear line on stderr, exit code 2, no traceback, no half file."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

Command = Callable[..., Any]
MakeStack = Callable[..., Path]

DATA = np.random.default_rng(0).normal(100, 5, (6, 12, 12)).astype(np.float32)


def imagej(path: Path, data: np.ndarray, axes: str = "ZYX") -> None:
    metadata = {"axes": axes, "spacing": 0.2, "unit": "um"}
    tifffile.imwrite(path, data, imagej=True, resolution=(10, 10), metadata=metadata)


def with_value(value: float) -> np.ndarray:
    data = DATA.copy()
    data[2, 3, 4] = value
    return data


def cut_short(path: Path) -> None:
    imagej(path, DATA)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


VOLUMES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "nan": (lambda p: imagej(p, with_value(np.nan)), "finite"),
    "infinite": (lambda p: imagej(p, with_value(np.inf)), "finite"),
    "empty": (lambda p: p.write_bytes(b""), "empty"),
    "constant": (lambda p: imagej(p, np.full_like(DATA, 7)), "constant"),
    "one plane": (lambda p: imagej(p, DATA[:1]), ""),
    "two-dimensional": (lambda p: imagej(p, DATA[0], "YX"), ""),
    "channels without a choice": (lambda p: imagej(p, np.stack([DATA] * 2, 1), "ZCYX"), "--channel"),
    "times without a choice": (lambda p: imagej(p, np.stack([DATA] * 2), "TZYX"), "--time"),
    "rgb": (lambda p: tifffile.imwrite(p, np.zeros((6, 12, 12, 3), np.uint8), photometric="rgb"), "RGB"),
    "three planes taken for colors": (
        lambda p: tifffile.imwrite(p, np.zeros((3, 12, 12), np.uint8), photometric="rgb"),
        "photometric='minisblack'",
    ),
    "complex": (lambda p: tifffile.imwrite(p, DATA.astype(np.complex64), metadata={"axes": "ZYX"}), "complex"),
    "no voxel size": (lambda p: tifffile.imwrite(p, DATA, metadata={"axes": "ZYX"}), "--voxel-size"),
    "truncated": (cut_short, "copy the file again"),
    "not a tiff": (lambda p: p.write_text("plain text"), "copy the file again"),
    "missing": (lambda p: None, "no such file"),
}


@pytest.mark.parametrize("case", VOLUMES)
def test_unusable_volumes_are_refused(case: str, command: Command, ldm: Path, tmp_path: Path) -> None:
    write, word = VOLUMES[case]
    source = tmp_path / "bad.tif"
    write(source)
    done = command("reconstruct", source, "--model", ldm, "--out", tmp_path / "out")
    done.refused("bad.tif", word)
    assert not list(tmp_path.rglob("*.ome.tif"))


@pytest.mark.parametrize("size", [(0, 0.1, 0.1), (0.2, -1, 0.1), (5000, 0.1, 0.1)])
def test_absurd_voxel_sizes_are_refused(size: tuple[float, ...], command: Command, stack: Path, ldm: Path) -> None:
    command("reconstruct", stack, "--model", ldm, "--voxel-size", *size).refused("voxel size")


def test_a_stack_that_would_fill_the_memory_is_refused(command: Command, stack: Path, ldm: Path) -> None:
    words = ["reconstruct", stack, "--model", ldm, "--voxel-size", 100, 100, 100]
    command(*words).refused("0.25 x 0.3 x 0.3 um", "GiB", "check --voxel-size", "crop the stack")


def test_wrong_models_are_refused(command: Command, stack: Path, ldm: Path, tmp_path: Path) -> None:
    command("generate", "--model", "no-such-model").refused("no-such-model", "expected")
    not_one = tmp_path / "text.safetensors"
    not_one.write_text("not a checkpoint, just some words")
    for verb in (["generate"], ["reconstruct", stack], ["encode", stack]):
        command(*verb, "--model", not_one, "--out", tmp_path / "out").refused("text.safetensors")
    short = tmp_path / "short.safetensors"
    short.write_bytes(ldm.read_bytes()[:-100])
    command("info", short).refused("short.safetensors", "truncated")
    command("codebook", stack, "--model", ldm).refused("no codebook")
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    "old, new",
    [
        (r"\"window\": [8, 16, 16]", r"\"window\": [0, 16, 16]"),
        (r"\"window\": [8, 16, 16]", r"\"window\": [8, 16, 9999999999]"),
        (r"\"scale\": [1.0, 1.0, 1.0]", r"\"scale\": [1.0, 1.0, 1e300]"),
        (r"[0.25, 0.3, 0.3]]", r"[0.15, 0.3, 0.3]]"),
    ],
)
def test_impossible_checkpoints_are_refused_by_every_verb(
    old: str, new: str, command: Command, stack: Path, ldm: Path, tmp_path: Path
) -> None:
    data = ldm.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length]
    assert header.count(old.encode()) == 1
    header = header.replace(old.encode(), new.encode())
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])
    for words in (["info", bad], ["generate", "--model", bad], ["reconstruct", stack, "--model", bad]):
        options = [] if words[0] == "info" else ["--out", tmp_path / "out"]
        command(*words, *options).refused("bad.safetensors")


@pytest.mark.parametrize(
    "words, expected",
    [
        (["--shape", 16, 16, 16], "trained window"),
        (["--shape", 1, 16, 16], "shape"),
        (["--sampler", "ddpm"], "sampler"),
        (["--condition", "organisation"], "NAME=VALUE"),
        (["--condition", "organisation=cube"], "organisation"),
        (["--condition", "length=3"], "unknown condition"),
        (["--condition", "persistence_length_um=1e6"], "persistence_length_um"),
        (["--condition", "organisation=free", "--condition", "organisation=aster"], "twice"),
        (["--photons", -3], "photons"),
        (["--blur", 1000], "--blur 1000: wider than the volume, at most 2 x 4.8 x 4.8 um"),
        (["--device", "abacus"], "--device"),
        (["--device", "cuda:7"], "cuda:7"),
        (["--seed", -1], "--seed"),
        (["--count", 0], "--count"),
        (["--steps", "many"], "--steps"),
        (["--speed", 3], "--speed"),
    ],
)
def test_wrong_options_are_refused(
    words: list[object], expected: str, command: Command, ldm: Path, tmp_path: Path
) -> None:
    command("generate", "--model", ldm, "--out", tmp_path / "out", *words).refused(expected)
    assert not list(tmp_path.rglob("*.tif"))


BEYOND = 2**64
SCENES: dict[str, tuple[list[object], str, str]] = {
    "voxels of no size": (["--voxel-size", 0, 0.1, 0.1], "", "voxel size"),
    "negative voxels": (["--voxel-size", -1, 0.1, 0.1], "", "voxel size"),
    "voxels of nanometres": (["--voxel-size", 0.001, 0.001, 0.001], "", "larger voxels"),
    "voxels of 100 um": (
        ["--voxel-size", 100, 100, 100, "--shape", 8, 16, 16],
        "",
        "(8, 16, 16) with voxel size (100",
    ),
    "one plane": (["--shape", 1, 16, 16], "", "at least 2 voxels"),
    "a seed too large": (["--seed", BEYOND], "", "2**64 - 1"),
    "negative photons": (["--photons", -3], "", "photons"),
    "a blur in nanometres": (["--blur", 1e6], "", "--blur 1e+06: wider than the volume, at most 6.4 x 12.8 x 12.8 um"),
    "a blur wider than the scene": ([], "shape = [8, 16, 16]\ncamera.blur_um = 2.0", "--blur 2: wider than"),
    "no such tier": (["--config", "heroic"], "", "unknown tier 'heroic'"),
    "filaments of no length": ([], "mean_contour_length_um = [0, 0]", "mean_contour_length_um"),
    "a density of zero": ([], "length_density_um_per_um3 = [0, 1]", "length_density_um_per_um3"),
    "no stiffness": ([], "persistence_length_um = [0, 1]", "persistence_length_um"),
    "no photons": ([], "photons = [0, 9]", "photons"),
    "no light": ([], "psf_width_factor = [0, 0]", "psf_width_factor"),
    "an unknown key": ([], "shap = 3", "shap"),
}


@pytest.mark.parametrize("case", SCENES)
def test_impossible_scenes_are_refused(case: str, command: Command, tmp_path: Path) -> None:
    words, toml, expected = SCENES[case]
    if toml:
        (tmp_path / "scene.toml").write_text(toml)
        words = ["--config", tmp_path / "scene.toml"]
    command("simulate", "--out", tmp_path / "out", *words).refused(expected)
    assert not list(tmp_path.rglob("*.tif"))


def test_seeds_that_would_be_taken_for_others_are_refused(command: Command, ldm: Path, tmp_path: Path) -> None:
    out = ["--model", ldm, "--out", tmp_path / "out"]
    command("generate", "--seed", BEYOND, *out).refused("2**64 - 1")
    command("interpolate", "--a", 1, "--b", BEYOND, *out).refused("2**64 - 1")
    command("interpolate", "--a", "9" * 5000, "--b", 1, *out).refused("2**64 - 1")
    assert command("generate", "--seed", BEYOND - 1, *out).code == 0


@pytest.mark.parametrize("words", [["generate", "--count"], ["simulate", "--count"], ["demo", "--count"]])
def test_more_volumes_than_can_be_named_are_refused(words: list[str], command: Command, tmp_path: Path) -> None:
    model = ["--model", "ldm"] if words[0] == "generate" else []
    command(*words, 10**11, *model, "--out", tmp_path / "out").refused("--count", "1000000")
    ends = ["--a", 1, "--b", 2, "--model", "ldm"]
    command("interpolate", "--frames", 10**11, *ends, "--out", tmp_path / "out").refused("--frames", "1000000")
    assert not (tmp_path / "out").exists()


def test_no_words_at_all_show_the_help_and_no_empty_error(command: Command) -> None:
    done = command()
    assert done.code == 2
    assert "reconstruct" in done.out + done.err
    assert "error:" not in done.err


def test_usage_errors_name_the_help(command: Command) -> None:
    command("generate").refused("--model", "napari-vqldm generate --help")
    command("generat").refused("generate")
    command("--colour").refused("--colour")
    command("train", "smoke-ldm").refused("--out", "napari-vqldm train --help")
    command("train", "smoke-ldm", "--out", "run", "--stage", "poetry").refused("--stage")


def test_nothing_is_overwritten_without_force(
    command: Command, stack: Path, ldm: Path, vq_ldm: Path, tmp_path: Path
) -> None:
    out = tmp_path / "taken.ome.tif"
    out.write_text("precious")
    latent = tmp_path / "taken.safetensors"
    latent.write_text("precious")
    table = tmp_path / "taken.csv"
    table.write_text("precious")
    command("generate", "--model", ldm, "--out", out).refused("exists already", "--force")
    command("reconstruct", stack, "--model", ldm, "--out", out).refused("exists already", "--force")
    command("encode", stack, "--model", ldm, "--out", latent).refused("exists already", "--force")
    command("codebook", stack, "--model", vq_ldm, "--out", table).refused("exists already", "--force")
    assert {path.read_text() for path in (out, latent, table)} == {"precious"}
    assert command("generate", "--model", ldm, "--out", out, "--force").code == 0
    assert out.stat().st_size > 1000


@pytest.mark.parametrize("verb", ["simulate", "generate", "demo"])
def test_folders_are_checked_before_the_work(verb: str, command: Command, ldm: Path, tmp_path: Path) -> None:
    options = ["--model", ldm] if verb == "generate" else []
    blocker = tmp_path / "blocker"
    blocker.write_text("a file")
    command(verb, *options, "--out", blocker).refused("blocker")
    command(verb, *options, "--out", tmp_path / "picture.png").refused("picture.png", "expected a folder")


REFUSED: dict[str, tuple[str, ...]] = {
    "an unknown condition": ("generate", "--model", "LDM", "--condition", "bogus=1"),
    "a condition of nan": ("generate", "--model", "LDM", "--condition", "length_density_um_per_um3=nan"),
    "a wrong shape": ("generate", "--model", "LDM", "--shape", "99", "99", "99"),
    "a wrong sampler": ("generate", "--model", "LDM", "--sampler", "ddpm"),
    "a model that is not there": ("generate", "--model", "nosuch"),
    "ends that are not there": ("interpolate", "--model", "LDM", "--a", "none.tif", "--b", "none.tif"),
    "ends of other weights": ("interpolate", "--model", "VQ_LDM", "--a", "LATENT", "--b", "LATENT"),
    "a latent of other weights": ("decode", "LATENT", "--model", "VQ_LDM"),
    "one stack and no model": ("reconstruct", "STACK", "--model", "nosuch"),
    "a folder and no model": ("reconstruct", "FOLDER", "--model", "nosuch"),
    "encoding without a model": ("encode", "STACK", "--model", "nosuch"),
    "codes of a model without": ("codebook", "STACK", "--model", "LDM"),
    "a demo without its model": ("demo", "--ldm", "nosuch"),
    "a demo of one family": ("demo", "--ldm", "LDM", "--vq-ldm", "LDM"),
    "a demo on another device": ("demo", "--device", "abacus"),
    "a scene on another device": ("simulate", "--device", "abacus"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_request_leaves_no_folder(
    case: str, command: Command, stack: Path, ldm: Path, vq_ldm: Path, make_stack: MakeStack, tmp_path: Path
) -> None:
    latent, folder, out = tmp_path / "a.safetensors", tmp_path / "in", tmp_path / "new" / "out"
    assert command("encode", stack, "--model", ldm, "--out", latent).code == 0
    folder.mkdir()
    make_stack(folder / "a.tif")
    paths = {"LDM": ldm, "VQ_LDM": vq_ldm, "LATENT": latent, "STACK": stack, "FOLDER": folder}
    command(*(paths.get(word, word) for word in REFUSED[case]), "--out", out).refused()
    assert not out.parent.exists()


def test_folders_that_cannot_be_made_are_refused_before_the_work(
    command: Command, ldm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("a file")
    words = ["generate", "--model", ldm, "--out"]
    command(*words, tmp_path / "file" / "new" / "out").refused(f"{tmp_path / 'file'}: is a file")
    command(*words, tmp_path / ("x" * 300) / "out").refused("cannot make this folder", "--out")
    monkeypatch.setattr(os, "access", lambda path, mode: mode == os.R_OK or Path(path) != tmp_path)
    command(*words, tmp_path / "new" / "out").refused("cannot make this folder", f"{tmp_path}: no permission")
    command(*words, tmp_path).refused(f"error: {tmp_path}: no permission")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_several_volumes_do_not_fit_one_file(command: Command, ldm: Path, tmp_path: Path) -> None:
    command("generate", "--model", ldm, "--count", 2, "--out", tmp_path / "x.ome.tif").refused("name a folder")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused(command: Command, ldm: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    command("generate", "--model", ldm, "--out", tmp_path / "new").refused("folder")


@pytest.mark.parametrize("verb", ["reconstruct", "encode", "generate"])
def test_a_full_disk_leaves_nothing(
    verb: str, command: Command, stack: Path, ldm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    source = [] if verb == "generate" else [stack]
    command(verb, *source, "--model", ldm, "--out", tmp_path / "out").refused("disk is full")
    assert list((tmp_path / "out").iterdir()) == []


def test_latents_of_other_weights_are_refused(
    command: Command, stack: Path, ldm: Path, vq_ldm: Path, tmp_path: Path
) -> None:
    latent = tmp_path / "a.safetensors"
    assert command("encode", stack, "--model", ldm, "--out", latent).code == 0
    command("decode", latent, "--model", vq_ldm, "--out", tmp_path).refused("belongs to model 'tiny-ldm'")
    command("decode", ldm, "--model", ldm, "--out", tmp_path).refused("not a latent file")
    command("decode", stack, "--model", ldm, "--out", tmp_path).refused(
        "expected a latent file from `napari-vqldm encode`"
    )


def test_interpolation_refuses_ends_that_do_not_fit(
    command: Command, stack: Path, ldm: Path, make_stack: MakeStack, tmp_path: Path
) -> None:
    other = make_stack("other.ome.tif", 1, (7, 18, 14))
    out = ["--model", ldm, "--out", tmp_path / "out"]
    command("interpolate", "--a", stack, "--b", other, *out).refused("crop the stacks to one shape")
    command("interpolate", "--a", stack, "--b", "3", *out).refused("two files, or two seeds")
    for word in ("-1", "-" + "9" * 400):
        command("interpolate", "--a", word, "--b", "1", *out).refused("seed from 0 to 2**64 - 1, got -")
        command("interpolate", "--a", stack, "--b", word, *out).refused("seed from 0 to 2**64 - 1, got -")
    for words in (["--voxel-size", 1, 1, 1], ["--channel", 0], ["--time", 0], ["--max-voxels", 9]):
        command("interpolate", "--a", "1", "--b", "2", *words, *out).refused(words[0], "are for files")
    command("interpolate", "--a", stack, "--b", stack, "--steps", "3", *out).refused("--steps")
    command("interpolate", "--a", stack, "--b", stack, "--guidance", "2", *out).refused("--guidance")
    command("interpolate", "--a", "1", "--b", "2", "--kind", "cubic", *out).refused("--kind")


def test_an_interrupt_is_one_line_and_leaves_nothing(
    command: Command, ldm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    done = command("generate", "--model", ldm, "--out", tmp_path / "out")
    assert done.code == 130
    assert done.out == ""
    assert "Traceback" not in done.err
    assert done.err.splitlines()[-1].startswith("error: interrupted")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_bug_is_shown_with_a_hint(
    ldm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from napari_vqldm import generate
    from napari_vqldm.cli import run

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(sys.modules["napari_vqldm.generate"], "generate_steps", broken)
    assert generate is not None
    with pytest.raises(ZeroDivisionError):
        run(["generate", "--model", str(ldm), "--out", str(tmp_path)])
    assert "this is a bug" in capsys.readouterr().err


@pytest.mark.parametrize("message", ["CUDA out of memory. Tried", "DefaultCPUAllocator: can't allocate memory: you"])
def test_running_out_of_memory_is_no_bug(
    message: str, command: Command, ldm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import napari_vqldm.generate  # noqa: F401

    def hungry(*_: object, **__: object) -> None:
        raise RuntimeError(message)

    monkeypatch.setattr(sys.modules["napari_vqldm.generate"], "generate_steps", hungry)
    command("generate", "--model", ldm, "--out", tmp_path).refused("not enough memory")


def test_the_installed_program_behaves_the_same(tmp_path: Path) -> None:
    """In a process of its own, as users run it."""
    words = [sys.executable, "-c", "from napari_vqldm.cli import main; main()", "info", tmp_path / "nothing.tif"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
