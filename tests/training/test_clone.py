"""``train.py`` and ``evaluate.py`` work from a clone that is not installed; what is missing is named in one line."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

TRAIN = Path(__file__).parents[2] / "training" / "train.py"
EVALUATE = TRAIN.with_name("evaluate.py")


@pytest.fixture
def third_parties(tmp_path: Path) -> Path:
    """All installed packages but ours: nothing leads to the clone."""
    folder = tmp_path / "packages"
    folder.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if "napari_vqldm" not in entry.name:
            (folder / entry.name).symlink_to(entry)
    return folder


def run(*words: str, packages: Path | None, cwd: Path, script: Path = TRAIN) -> subprocess.CompletedProcess[str]:
    """Run the script with no site-packages but ``packages``."""
    environment = {**os.environ, "PYTHONPATH": str(packages or "")}
    return subprocess.run(
        [sys.executable, "-S", script, *words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )


def test_a_clone_that_is_not_installed_evaluates(third_parties: Path, tmp_path: Path) -> None:
    done = run("--help", packages=third_parties, cwd=tmp_path, script=EVALUATE)
    assert done.returncode == 0, done.stderr
    assert "MODEL|FOLDER" in done.stdout and "--against" in done.stdout
    done = run(".", "--report", "out.txt", packages=third_parties, cwd=tmp_path, script=EVALUATE)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line == "error: --report out.txt: expected a folder"
    assert list(tmp_path.iterdir()) == [third_parties]


def test_evaluation_without_packages_is_one_line(tmp_path: Path) -> None:
    done = run(".", packages=None, cwd=tmp_path, script=EVALUATE)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: evaluation needs the package ") and "[train]'" in line


@pytest.mark.slow
def test_a_clone_that_is_not_installed_trains(third_parties: Path, tmp_path: Path) -> None:
    done = run("smoke-vq-ldm", "--out", "run", "--dry-run", packages=third_parties, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "smoke-vq-ldm" in done.stdout + done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("missing", ["everything", "torch"])
def test_a_missing_package_is_one_line(missing: str, third_parties: Path, tmp_path: Path) -> None:
    if missing != "everything":
        for entry in third_parties.glob(f"{missing}*"):
            entry.unlink()
    packages = None if missing == "everything" else third_parties
    done = run("smoke-vq-ldm", "--out", "run", "--dry-run", packages=packages, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: training needs ")
    assert "[train]'" in line
