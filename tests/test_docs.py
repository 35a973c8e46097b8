"""The documentation is executed: Python blocks and commands of the guides run, other commands are parsed."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import typer

from napari_vqldm import Volume, read_volume, write_volume
from napari_vqldm.cli.app import app
from napari_vqldm.files.samples import sample_path
from napari_vqldm.training.config import parse_train_config
from napari_vqldm.zoo import NAMES, available

ROOT = Path(__file__).parents[1]
PAGES = [
    *(
        ROOT / name
        for name in ("README.md", "README.zh.md", "CONTRIBUTING.md", "training/README.md", "training/slurm/README.md")
    ),
    *sorted((ROOT / "docs").rglob("*.md")),
]
NOT_RUN = re.compile(r"<!-- not run: (?P<reason>.+?) -->\s*\Z")
BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of one page."""

    page: Path
    line: int
    language: str
    code: str
    is_run: bool

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page,
            text.count("\n", 0, match.start()) + 1,
            match["language"],
            match["code"],
            NOT_RUN.search(text[: match.start()]) is None,
        )
        for match in BLOCK.finditer(text)
    ]


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
# The Chinese README shows the code of the English one (see below), which runs once.
PYTHON_PAGES = sorted({b.page for b in BLOCKS if b.language == "python" and b.is_run} - {ROOT / "README.zh.md"})
COMMANDS = [
    pytest.param(shlex.split(line, comments=True), id=f"{block.where} {line[:40]}")
    for block in BLOCKS
    if block.language == "bash" and block.is_run
    for line in block.code.replace("\\\n", " ").splitlines()
    if line.strip() and not line.startswith("#")
]


def relative(page: Path) -> str:
    return str(page.relative_to(ROOT))


# These sample with the bundled models: up to more than a minute.
PROGRAMS = [
    pytest.param(
        page, id=relative(page), marks=[pytest.mark.slow] if page.name in ("README.md", "quickstart.md") else []
    )
    for page in PYTHON_PAGES
]


@pytest.mark.parametrize("page", PROGRAMS)
def test_python_blocks_run(page: Path, tmp_path: Path) -> None:
    """The blocks of a page are one program, run in an empty folder."""
    blocks = [block for block in BLOCKS if block.page == page and block.language == "python" and block.is_run]
    program = tmp_path / "page.py"
    program.write_text("\n".join(f"# {block.where}\n{block.code}" for block in blocks), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=1500,  # a guard against a hang
        env={**os.environ},
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("words", COMMANDS)
def test_command_lines_parse(words: list[str]) -> None:
    if words[0] == "make":
        makefile = (ROOT / "Makefile").read_text()
        assert [target for target in words[1:] if not re.search(rf"^{target}:", makefile, re.MULTILINE)] == []
    elif words[0] == "napari-vqldm" and words[1] == "train":
        check_training(words[2:])
    elif words[:2] == ["python", "training/train.py"]:
        assert (ROOT / "training/train.py").is_file()
        check_training(words[2:])
    elif words[0] == "sbatch":
        script = next(i for i, word in enumerate(words) if word.endswith(".sbatch"))
        assert (ROOT / words[script]).is_file()
        config, run, *options = words[script + 1 :]  # as the script passes them on
        check_training([config, "--out", run, *options])
    else:
        assert words[0] == "napari-vqldm", (
            f"{words[0]}: not a command that this test can check; mark the block as not run"
        )
        parse(words[1:])


def stand_ins(folder: Path) -> None:
    """Bundled stacks under the names that the quickstart gives to the files of its reader."""
    stack = sample_path("spindle_morph_volume00")
    (folder / "stacks").mkdir()
    whole = read_volume(stack)
    cell = Volume(np.ascontiguousarray(whole.data[8:32, 18:98, 18:98]), whole.voxel_size_um)  # a part is sooner done
    write_volume(folder / "cell.ome.tif", cell)
    (folder / "cell.ome.tif").rename(folder / "cell.tif")
    shutil.copy(folder / "cell.tif", folder / "other.tif")
    shutil.copy(sample_path("spindle3d_multidna2"), folder / "stacks" / "first.tif")
    frames = np.broadcast_to(tifffile.imread(stack)[8:24, None, 18:82, 18:82], (4, 16, 2, 64, 64))
    names = {"axes": "TZCYX", "Channel": {"Name": ["DNA", "tubulin"]}}  # and no voxel size
    tifffile.imwrite(folder / "movie.tif", frames, ome=True, metadata=names)


def run_commands(page: Path, folder: Path, *, shorten: Callable[[str], str] = str) -> str:
    """Run the commands of a page in ``folder``, one script that stops at the first failure; return what it printed."""
    lines = [
        f"# {block.where}\n{shorten(block.code)}"
        for block in BLOCKS
        if block.page == page and block.language == "bash" and block.is_run and not block.code.startswith("make ")
    ]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-euxc", "\n".join(lines)],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=1500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


def in_few_steps(code: str) -> str:
    """Add ``--steps 4`` to commands that sample: their own numbers, tested elsewhere, take minutes."""
    sampling = re.compile(r"^napari-vqldm (generate|interpolate .*--a \d)", re.MULTILINE)
    return "\n".join(f"{line} --steps 4" if sampling.match(line) else line for line in code.splitlines()) + "\n"


@pytest.mark.slow  # samples ten volumes with the bundled models
@pytest.mark.timeout(1800)
def test_the_commands_of_the_quickstart_run(tmp_path: Path) -> None:
    if missing := sorted(set(NAMES) - set(available())):
        pytest.skip(f"the bundled weights of {', '.join(missing)} are not in this tree")
    stand_ins(tmp_path)
    run_commands(ROOT / "docs/quickstart.md", tmp_path, shorten=in_few_steps)
    made = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert {"cell.safetensors", "cell-again.ome.tif"} <= made
    assert {name.split("/")[0] for name in made if "/" in name} == {
        "generated",
        "asters",
        "reconstructed",
        "path",
        "simulated",
        "stacks",
    }
    assert len([name for name in made if name.startswith("generated/")]) == 4


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_commands_of_the_training_guide_run(tmp_path: Path) -> None:
    """The smoke training and what follows it; ``training`` is the clone's."""
    (tmp_path / "training").symlink_to(ROOT / "training")
    run_commands(ROOT / "docs/training.md", tmp_path)
    assert (tmp_path / "runs/smoke/checkpoint.safetensors").is_file()
    assert len(list((tmp_path / "generated").iterdir())) == 2
    assert not (tmp_path / "runs/vq").exists()


def test_every_page_is_in_the_navigation() -> None:
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    listed = set(re.findall(r"[\w./-]+\.md", navigation))
    assert listed - {"bundled.md"} <= pages <= listed  # bundled.md: tools/docs_hooks.py


def parse(words: list[str]) -> None:
    """Parse like the program does, up to the point where it would start to work."""
    group: Any = typer.main.get_command(app)
    if words == ["--help"]:
        return
    assert words[0] in group.commands, f"no verb {words[0]!r}"
    command = group.commands[words[0]]
    with command.make_context(words[0], list(words[1:]), parent=group.context_class(group)) as context:
        assert context.params


def check_training(words: list[str]) -> None:
    """Parse the words and, where the configuration is a preset or a file of the repository, what they make of it."""
    from napari_vqldm.training.__main__ import _parser
    from napari_vqldm.training.config import load_train_config, parse_setting, preset_paths

    options = _parser().parse_args(words)
    name, path = options.config, ROOT / options.config
    if name in preset_paths() or path.is_file():
        changes = [parse_setting(text) for text in options.set]
        changes = [tomllib.loads((ROOT / file).read_text()) for file in options.override] + changes
        load_train_config(name if name in preset_paths() else path, changes)


def test_toml_blocks_are_valid_training_configurations() -> None:
    blocks = [block for block in BLOCKS if block.language == "toml" and block.is_run]
    assert blocks
    for block in blocks:
        assert parse_train_config(tomllib.loads(block.code), block.where).model is not None


def test_links_of_the_readmes_lead_somewhere() -> None:
    for page in (ROOT / "README.md", ROOT / "README.zh.md", ROOT / "CONTRIBUTING.md"):
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert target.startswith("https://") or (page.parent / target).exists(), f"{page.name}: {target}"


def test_readmes_say_the_same() -> None:
    """Both languages show the same commands, code and links."""
    english, chinese = (blocks_of(ROOT / name) for name in ("README.md", "README.zh.md"))
    bare = [[re.sub(r"\s*#.*", "", block.code) for block in blocks] for blocks in (english, chinese)]
    assert bare[0] == bare[1]


def test_documentation_names_no_machine() -> None:
    """No path of a developer's machine in the committed text."""
    pages = [*PAGES, *ROOT.glob("*.md"), *ROOT.glob("*.toml"), *ROOT.glob("*.txt"), ROOT / "Makefile"]
    found = [
        relative(page) for page in pages if re.search(r"/(home|root|Users|work)/\w", page.read_text(encoding="utf-8"))
    ]
    assert found == []
