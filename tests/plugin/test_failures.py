"""What the dock says about errors."""

from __future__ import annotations

import logging

import pytest

from napari_vqldm.errors import CheckpointError, ConfigError, FileError, ShapeError, VolumeError, VqldmError
from napari_vqldm.plugin.inference.failures import failure_of, split_message


@pytest.mark.parametrize(
    "message, cause, remedy",
    [
        (
            "volume axis 50 is not a multiple of 8: pad it to 56",
            "volume axis 50 is not a multiple of 8",
            "Pad it to 56",
        ),
        (
            "/a/b.safetensors: the weights were altered: expected sha256 1, got 2: copy the file again",
            "/a/b.safetensors: the weights were altered: expected sha256 1, got 2",
            "Copy the file again",
        ),
        (
            r"C:\x\m.safetensors: a file: choose another name or give --force",
            r"C:\x\m.safetensors: a file",
            "Choose another name or give --force",
        ),
        ("no model 'x': expected a bundled name (ldm)", "no model 'x'", "Expected a bundled name (ldm)"),
        ("expected 1 to 50 steps, got 0", "expected 1 to 50 steps, got 0", ""),
        ("window: expected 2 to 512, got 1", "window: expected 2 to 512, got 1", ""),
        ("a.tif: cannot read: Permission denied", "a.tif: cannot read: Permission denied", ""),
        ("this version is older; upgrade napari-vqldm", "this version is older", "Upgrade napari-vqldm"),
    ],
)
def test_our_messages_are_split_into_cause_and_remedy(message: str, cause: str, remedy: str) -> None:
    assert split_message(message) == (cause, remedy)


@pytest.mark.parametrize("kind", [CheckpointError, ConfigError, FileError, ShapeError, VolumeError])
def test_our_errors_always_have_a_remedy_and_keep_their_text(kind: type[VqldmError]) -> None:
    failure = failure_of(kind("something is off"), "Generate")
    assert failure.cause == "something is off" and failure.remedy
    assert "something is off" in failure.report and "While: Generate" in failure.report


class OutOfMemoryError(RuntimeError):
    """Named and worded like PyTorch's."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"),
    ],
)
def test_out_of_memory_is_told_with_what_helps(error: BaseException) -> None:
    failure = failure_of(error)
    assert failure.cause == "Memory ran out"
    assert "smaller region" in failure.remedy and "Free memory" in failure.remedy


def windows_error(number: int, text: str) -> OSError:
    error = OSError(22, text)
    error.winerror = number  # type: ignore[attr-defined]  # set by Windows alone
    return error


@pytest.mark.parametrize(
    "error",
    [
        windows_error(1114, r"DLL initialization failed. Error loading 'C:\env\torch\lib\c10.dll' or a dependency."),
        OSError(r"[WinError 126] The module was not found. Error loading 'C:\env\torch\lib\shm.dll'"),
        ImportError("DLL load failed while importing _C: A DLL routine failed (torch)"),
    ],
)
def test_torch_after_qt_on_windows_is_named_with_a_way_out(error: OSError) -> None:
    failure = failure_of(error)
    assert "Qt" in failure.cause
    assert 'python -c "import torch, napari; napari.Viewer(); napari.run()"' in failure.remedy


def test_other_missing_libraries_are_not_taken_for_torch() -> None:
    assert "Qt" not in failure_of(windows_error(126, "Error loading 'ffmpeg.dll'")).cause


def test_a_missing_package_is_named_with_its_installation() -> None:
    assert "pip install 'napari-vqldm[zarr]'" in failure_of(ModuleNotFoundError("no", name="ome_zarr.writer")).remedy
    assert "pip install 'einops'" in failure_of(ModuleNotFoundError("no", name="einops")).remedy


def test_anything_else_is_an_unexpected_error_with_its_first_line() -> None:
    failure = failure_of(KeyError("a\nb"))
    assert failure.cause.startswith("Unexpected error: KeyError: ") and "report" in failure.remedy
    assert failure_of(ValueError("first\nsecond")).cause == "Unexpected error: ValueError: first"
    assert failure_of(ValueError()).cause == "Unexpected error: ValueError: no message"


def test_an_error_whose_text_raises_is_described_too() -> None:
    class Nasty(ValueError):
        def __str__(self) -> str:
            raise TypeError("no text")

    failure = failure_of(Nasty())
    assert failure.cause == "Unexpected error: Nasty" and "Nasty" in failure.report


@pytest.mark.parametrize("error", [KeyboardInterrupt(), GeneratorExit()])
def test_being_told_to_stop_is_no_failure_to_show(error: BaseException) -> None:
    assert failure_of(error).is_cancelled


def test_report_and_log_hold_versions_and_the_traceback(caplog: pytest.LogCaptureFixture) -> None:
    def innermost() -> None:
        raise ValueError("deep")

    with caplog.at_level(logging.INFO, logger="napari_vqldm"):
        try:
            innermost()
        except ValueError as error:
            failure = failure_of(error, "Reconstruct cells")
    for text in ("napari-vqldm ", "Python 3", "napari ", "torch ", "While: Reconstruct cells", "innermost", "deep"):
        assert text in failure.report
    assert "innermost" in caplog.text and caplog.records[-1].name == "napari_vqldm"
    assert caplog.records[-1].levelno == logging.ERROR
