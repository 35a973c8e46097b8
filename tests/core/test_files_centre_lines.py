"""Centre lines as SWC and CSV: read back as written, and valid for a parser that knows the SWC rules alone."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from napari_vqldm.config import SimulationConfig
from napari_vqldm.errors import FileError, ShapeError
from napari_vqldm.files import read_centre_lines, write_centre_lines
from napari_vqldm.simulation import simulate


def lines_of(seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.uniform(0.0, 50.0, (n, 3)) for n in (2, 17, 5)]


def parse_swc(path: Path) -> dict[int, tuple[int, float, float, float, float, int]]:
    """Rows of the format: # starts a comment, else seven columns; a parent comes before its children, roots have -1."""
    samples: dict[int, tuple[int, float, float, float, float, int]] = {}
    for row in path.read_text(encoding="ascii").splitlines():
        if row.startswith("#"):
            continue
        words = row.split(" ")
        assert len(words) == 7
        sample, kind, parent = int(words[0]), int(words[1]), int(words[6])
        x, y, z, radius = (float(word) for word in words[2:6])
        assert sample >= 1 and sample not in samples
        assert parent == -1 or parent in samples
        samples[sample] = (kind, x, y, z, radius, parent)
    return samples


@pytest.mark.parametrize("suffix", [".swc", ".csv", ".SWC"])
def test_lines_and_filaments_come_back(suffix: str, tmp_path: Path) -> None:
    path = write_centre_lines(tmp_path / f"lines{suffix}", lines_of(), [4, 4, 9])
    back = read_centre_lines(path)
    assert back.instances == [4, 4, 9]
    for a, b in zip(back.lines, lines_of(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6, rtol=0)
    assert read_centre_lines(write_centre_lines(tmp_path / f"plain{suffix}", lines_of())).instances == [1, 2, 3]
    again = write_centre_lines(tmp_path / f"again{suffix}", back.lines, back.instances)
    assert again.read_bytes() == path.read_bytes()
    nothing = read_centre_lines(write_centre_lines(tmp_path / f"none{suffix}", []))
    assert nothing.lines == [] and nothing.instances == []


def test_the_swc_keeps_the_rules_of_the_format(tmp_path: Path) -> None:
    lines = lines_of()
    samples = parse_swc(write_centre_lines(tmp_path / "lines.swc", lines))
    assert sorted(samples) == list(range(1, 25))
    assert sum(parent == -1 for *_, parent in samples.values()) == 3
    first = samples[1]
    assert first[1:4] == pytest.approx(tuple(lines[0][0, ::-1]), abs=1e-6)  # x, y, z of (z, y, x)
    assert {(kind, radius) for kind, *_, radius, _ in samples.values()} == {(0, 0.0125)}
    length = 0.0
    for _, x, y, z, _, parent in samples.values():
        if parent != -1:
            length += float(np.linalg.norm(np.subtract((x, y, z), samples[parent][1:4])))
    assert length == pytest.approx(sum(np.linalg.norm(np.diff(line, axis=0), axis=1).sum() for line in lines), rel=1e-6)


def test_the_csv_is_a_plain_table(tmp_path: Path) -> None:
    path = write_centre_lines(tmp_path / "lines.csv", lines_of(), [2, 2, 1])
    with path.open(encoding="ascii", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["filament", "line", "point", "z_um", "y_um", "x_um"]
    assert len(rows) == 24 and [row["line"] for row in rows].count("2") == 17
    assert float(rows[2]["z_um"]) == pytest.approx(lines_of()[1][0, 0], abs=1e-6)


def test_simulated_truth_survives_the_file(tmp_path: Path) -> None:
    result = simulate(1, seed=3, config=SimulationConfig(shape=(8, 24, 24)))[0]
    for name in ("truth.swc", "truth.csv"):
        back = read_centre_lines(write_centre_lines(tmp_path / name, result.centre_lines, result.instances))
        assert back.instances == result.instances
        length = sum(np.linalg.norm(np.diff(line, axis=0), axis=1).sum() for line in back.lines)
        density = length / np.prod(result.clean.extent_um)
        assert density == pytest.approx(result.parameters.length_density_um_per_um3, rel=1e-5)


def test_branched_trees_of_other_programs_become_lines(tmp_path: Path) -> None:
    path = tmp_path / "neuron.swc"
    path.write_text(
        "# made elsewhere\n\n"
        "4 3 2 0 0 .5 2\n1 1 0 0 0 2.0 -1\n 2   3 1 0 0 0.5 1\n3 3 1 1 0 0.5 2\n"
        "5 3 3 0 0 .5 4\n7 0 9 9 9 1 -1\n8 0 9 9 8 1 7 0\n",
        encoding="utf-8",
    )
    back = read_centre_lines(path)
    as_xyz = {
        (number, tuple(tuple(point[::-1]) for point in line.tolist()))
        for line, number in zip(back.lines, back.instances, strict=True)
    }
    assert as_xyz == {
        (1, ((0, 0, 0), (1, 0, 0))),
        (1, ((1, 0, 0), (2, 0, 0), (3, 0, 0))),
        (1, ((1, 0, 0), (1, 1, 0))),
        (2, ((9, 9, 9), (9, 9, 8))),
    }


HEADER = "filament,line,point,z_um,y_um,x_um\n"
DAMAGED = {
    "too few columns": (".swc", "1 0 0 0 0 1\n", "line 1: expected id type x y z radius parent"),
    "words for numbers": (".swc", "1 0 a 0 0 1 -1\n", "finite coordinates"),
    "not a number": (".swc", "1 0 nan 0 0 1 -1\n", "finite coordinates"),
    "a broken id": (".swc", "1.5 0 0 0 0 1 -1\n", "whole numbers as id and parent"),
    "no such parent": (".swc", "1 0 0 0 0 1 9\n", "parent 9, which is not there"),
    "an id twice": (".swc", "1 0 0 0 0 1 -1\n1 0 0 0 1 1 1\n", "sample 1 is there twice"),
    "a circle": (".swc", "1 0 0 0 0 1 2\n2 0 0 0 1 1 1\n", "form a circle"),
    "other columns": (".csv", "a,b\n1,2\n", "filament is missing"),
    "an empty table": (".csv", "", "filament is missing"),
    "a short row": (".csv", HEADER + "1,1,0,0,0\n", "expected 6 values, got 5"),
    "a point alone": (".csv", HEADER + "1,1,0,0,0,0\n", "single point"),
    "a point twice": (".csv", HEADER + "1,1,0,0,0,0\n1,1,0,1,1,1\n", "point 0 of line 1 is there twice"),
    "filament zero": (".csv", HEADER + "0,1,0,0,0,0\n", "filament of 1 or more"),
    "infinite": (".csv", HEADER + "1,1,0,0,inf,0\n", "finite coordinates"),
    "a half filament": (".csv", HEADER + "1.5,1,0,0,0,0\n", "whole numbers"),
    "another suffix": (".txt", "", "as .swc or .csv, got .txt"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_files_are_refused(case: str, tmp_path: Path) -> None:
    suffix, text, expected = DAMAGED[case]
    path = tmp_path / f"lines{suffix}"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FileError, match=expected):
        read_centre_lines(path)


def test_what_is_no_file_or_no_line_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot read"):
        read_centre_lines(tmp_path / "missing.swc")
    (tmp_path / "bytes.swc").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FileError, match="no text file"):
        read_centre_lines(tmp_path / "bytes.swc")
    for bad in (np.zeros((1, 3)), np.zeros((4, 2)), np.full((3, 3), np.nan)):
        with pytest.raises(ShapeError, match="2 or more finite points"):
            write_centre_lines(tmp_path / "bad.swc", [bad])
    with pytest.raises(ShapeError, match="one number of 1 or more"):
        write_centre_lines(tmp_path / "bad.csv", lines_of(), [1])
    path = write_centre_lines(tmp_path / "lines.swc", lines_of())
    with pytest.raises(FileError, match="exists already"):
        write_centre_lines(path, lines_of(1))
    np.testing.assert_allclose(read_centre_lines(path).lines[0], lines_of()[0], atol=1e-6)
    write_centre_lines(path, lines_of(1), force=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bytes.swc", "lines.swc"]
