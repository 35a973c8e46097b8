"""Each single difference between two computations has a message of its own."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
import torch

from napari_vqldm import environment
from napari_vqldm.environment import (
    compare_environments,
    current_environment,
    describe_environment,
    environment_of,
)
from napari_vqldm.files.provenance import make_provenance

CPU = {
    "napari-vqldm": "0.1.0", "numpy": "2.1.0", "scipy": "1.15.0", "monai": "1.6.0", "system": "Linux",
    "machine": "x86_64", "processor": "AMD EPYC", "torch": "2.13.0 abc", "cpu_capability": "AVX512", "device": "cpu",
    "device_name": None, "threads": 8, "cuda": None, "cudnn": None,
}  # fmt: skip
GPU = {**CPU, "device": "cuda:0", "device_name": "NVIDIA H100", "cuda": "12.8", "cudnn": "91002"}


def test_this_machine_is_described_in_plain_json_and_equals_itself() -> None:
    found = describe_environment("cpu")
    assert json.loads(json.dumps(found)) == found
    assert found["processor"] and found["device"] == "cpu" and found["cuda"] is None
    assert str(found["torch"]).startswith(torch.__version__) and found["threads"] == torch.get_num_threads()
    record = make_provenance("generate", environment=found, seed=1)
    assert environment_of(record) == current_environment("cpu")
    assert compare_environments(environment_of(record), current_environment("cpu")) == []


def test_threads_are_those_of_the_moment() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(before + 1)
        assert describe_environment("cpu")["threads"] == before + 1
    finally:
        torch.set_num_threads(before)
    assert describe_environment("cpu")["threads"] == before


def test_another_thread_of_the_process_can_ask() -> None:
    found: list[object] = []
    worker = threading.Thread(target=lambda: found.append(describe_environment("cpu")))
    worker.start()
    worker.join()
    assert found == [describe_environment("cpu")]


@pytest.mark.parametrize(
    ("recorded", "field", "now", "words"),
    [
        (CPU, "threads", 2, "computed with 8 threads, now 2: set the number of threads to 8"),
        (CPU, "processor", "Intel i7", "another processor (AMD EPYC), now Intel i7"),
        (CPU, "machine", "arm64", "another kind of machine (x86_64)"),
        (CPU, "system", "Windows", "another operating system (Linux), now Windows"),
        (CPU, "torch", "2.14.0 def", "another build of PyTorch (2.13.0 abc)"),
        (CPU, "cpu_capability", "AVX2", "other vector instructions (AVX512), now AVX2"),
        (CPU, "napari-vqldm", "0.2.0", "napari-vqldm 0.1.0, now 0.2.0"),
        (CPU, "numpy", "2.2.0", "NumPy 2.1.0, now 2.2.0"),
        (CPU, "scipy", "1.16.0", "SciPy 1.15.0, now 1.16.0"),
        (CPU, "monai", "1.7.0", "MONAI 1.6.0, now 1.7.0"),
        (GPU, "device_name", "NVIDIA A100", "another graphics card (NVIDIA H100), now NVIDIA A100"),
        (GPU, "cuda", "13.0", "CUDA 12.8, now 13.0"),
        (GPU, "cudnn", "92000", "cuDNN 91002, now 92000"),
    ],
)
def test_a_single_difference_is_one_message(
    recorded: dict[str, str | int | None], field: str, now: str | int, words: str
) -> None:
    (found,) = compare_environments(recorded, {**recorded, field: now})
    assert (found.field, found.recorded, found.current) == (field, recorded[field], now)
    assert words in found.message
    missing = {name: value for name, value in recorded.items() if name != field}
    (gap,) = compare_environments(missing, recorded)
    assert gap.field == field and gap.message.startswith("the record does not say") and gap.message != found.message


def test_every_message_differs_from_every_other() -> None:
    everything = {field: f"other {field}" for field in GPU} | {"device": "cuda:1"}
    found = compare_environments(GPU, everything)
    assert {difference.field for difference in found} == set(GPU)
    assert len({difference.message for difference in found}) == len(found)


def test_another_device_is_told_once() -> None:
    (found,) = compare_environments(GPU, CPU)
    assert found.field == "device" and found.message == "computed on the device cuda:0, now cpu: choose that device"
    assert compare_environments(GPU, {**GPU, "device": "cuda:1"}) == []  # the second card of one type


def test_a_record_from_before_machines_were_recorded_says_so_once() -> None:
    versions = {"napari-vqldm": "0.1.0", "numpy": "2.1.0", "scipy": "1.15.0", "monai": "1.6.0"}
    (found,) = compare_environments(versions, CPU)
    assert found.field == "environment" and "does not say on which machine" in found.message
    both = compare_environments({**versions, "numpy": "1.26.0"}, CPU)
    assert [difference.field for difference in both] == ["environment", "numpy"]


def test_the_processor_has_its_own_name_on_linux(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text("processor : 0\nmodel name\t: Fast CPU 9000\nflags : x\n")
    assert environment._linux_processor(path) == "Fast CPU 9000"
    path.write_text("processor : 0\nBogoMIPS : 100\n")
    assert environment._linux_processor(path) == "" == environment._linux_processor(tmp_path / "none")
