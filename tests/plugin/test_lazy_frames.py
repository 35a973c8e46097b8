"""Frames decoded when looked at: what is drawn at once, what is waited for, what stays after closing."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from napari_vqldm.errors import ShapeError, VolumeError, VqldmError
from napari_vqldm.plugin.inference.cache import ByteCache
from napari_vqldm.plugin.inference.runner import Runner
from napari_vqldm.plugin.inference.thread import BaseEngine
from napari_vqldm.plugin.layers.lazy_frames import LazyFrames

SHAPE = (3, 4, 5)
NUM = 6


class Table:
    """As much of a desk as frames need."""

    def __init__(self, budget_bytes: int = 2**20, make_engine: type[BaseEngine] = BaseEngine) -> None:
        self.runner = Runner(make_engine=make_engine)
        self.frames = ByteCache(budget_bytes)
        self.run = self.runner.run


@pytest.fixture
def table(qapp) -> Iterator[Table]:
    table = Table()
    yield table
    table.runner.close()


def truth(index: int) -> np.ndarray:
    return np.random.default_rng(index).random(SHAPE, np.float32)


class Decoder:
    """Counts what it decodes, and on which thread."""

    def __init__(self) -> None:
        self.decoded: list[int] = []
        self.threads: set[int] = set()

    def __call__(self, engine: BaseEngine, index: int) -> Generator[object, None, np.ndarray]:
        yield "a step"
        self.decoded.append(index)
        self.threads.add(threading.get_ident())
        return truth(index)


@pytest.fixture
def decoder() -> Decoder:
    return Decoder()


@pytest.fixture
def frames(table, decoder) -> LazyFrames:
    return LazyFrames(NUM, SHAPE, decoder, lambda index: np.full(SHAPE, index), table)


def whole() -> np.ndarray:
    return np.stack([truth(index) for index in range(NUM)])


def test_is_an_array_to_napari(frames):
    from napari.layers._data_protocols import LayerDataProtocol

    assert isinstance(frames, LayerDataProtocol)
    assert frames.shape == (NUM, *SHAPE)
    assert (frames.dtype, frames.ndim, frames.size, len(frames)) == (np.float32, 4, NUM * 60, NUM)


def test_first_a_stand_in_then_the_frame(frames, decoder, wait_until):
    np.testing.assert_array_equal(frames[2], np.full(SHAPE, 2, np.float32))
    assert frames[2].dtype == np.float32
    wait_until(lambda: frames.is_ready(2))
    np.testing.assert_array_equal(frames[2], truth(2))
    assert decoder.decoded == [2]
    assert threading.get_ident() not in decoder.threads


def test_without_a_stand_in_zeros(table, decoder):
    assert not LazyFrames(NUM, SHAPE, decoder, None, table)[0].any()


@pytest.mark.parametrize(
    "key",
    [1, -1, (1, 2), (slice(1, 4), 0), (slice(None), slice(None), 2), (..., 3), (2, ..., 1), slice(4, 1), ([0, 3], 1)],
)
def test_indexing_equals_that_of_numpy(frames, key):
    expected = whole()
    np.asarray(frames)
    np.testing.assert_array_equal(frames[key], expected[key])


def test_wrong_indices(frames):
    for key in (NUM, (0, 0, 0, 0, 0), (None, 0)):
        with pytest.raises(IndexError):
            frames[key]


def test_the_whole_array_waits_for_full_frames_on_the_gui_thread(frames, decoder):
    np.testing.assert_array_equal(np.asarray(frames), whole())
    assert np.asarray(frames, np.float64).dtype == np.float64
    assert sorted(decoder.decoded) == list(range(NUM))
    with pytest.raises(ValueError, match="copied"):
        np.array(frames, copy=False)


def test_another_thread_never_gets_a_stand_in(frames, wait_until):
    found = []
    thread = threading.Thread(target=lambda: found.append(frames[3]))
    thread.start()
    wait_until(lambda: found)
    thread.join()
    np.testing.assert_array_equal(found[0], truth(3))


@pytest.mark.parametrize("is_shown", [True, False])
def test_a_job_that_reads_the_layer_gets_full_frames(table, frames, decoder, wait_until, is_shown):
    """Also where none of them was decoded before: a job that waited for another one would wait for ever."""
    if is_shown:
        frames[0]  # as the layer that shows it does
        wait_until(lambda: frames.is_ready(0))
    found = []

    def work(_engine: BaseEngine) -> Iterator[object]:
        yield from ()
        return frames[4], threading.get_ident()

    table.run("Read", work, on_done=found.append)
    wait_until(lambda: found, timeout=10_000)
    np.testing.assert_array_equal(found[0][0], truth(4))
    assert decoder.threads == {found[0][1]}


def test_decoding_in_a_job_of_somebody_else_leaves_its_settings(decoder, wait_until):
    class Settings(BaseEngine):
        precision = "fp32"

        @contextmanager
        def suspended(self) -> Iterator[None]:
            before = self.precision
            yield
            self.precision = before

    def decode(engine: Settings, index: int) -> Generator[object, None, np.ndarray]:
        engine.precision = "bf16"
        return (yield from decoder(engine, index))

    def work(engine: Settings) -> Iterator[object]:
        yield from ()
        return frames[4], engine.precision

    found = []
    table = Table(make_engine=Settings)
    frames = LazyFrames(NUM, SHAPE, decode, None, table)
    table.run("Read", work, on_done=found.append)
    wait_until(lambda: found, timeout=10_000)
    table.runner.close()
    assert found[0][1] == "fp32"


def test_scrubbing_decodes_no_more_than_was_looked_at_and_ends_with_the_last(frames, decoder, wait_until):
    for index in (0, 1, 2, 3, 4, 5, 4, 3):
        frames[index]
    wait_until(lambda: frames.is_ready(3))
    assert decoder.decoded[-1] == 3
    assert len(decoder.decoded) <= 2


def test_a_small_cache_does_not_decode_in_circles(decoder, wait_until, qtbot):
    table = Table(budget_bytes=0)
    layer = Layer()
    frames = LazyFrames(NUM, SHAPE, decoder, None, table)
    layer.show(frames, slice(None))
    frames.attach(layer)
    layer.refresh()
    wait_until(lambda: len(decoder.decoded) == NUM)
    qtbot.wait(100)
    assert sorted(decoder.decoded) == list(range(NUM))
    table.runner.close()


class Layer:
    """A layer that reads its frame when it is drawn."""

    def __init__(self) -> None:
        self.name = "way"
        self.seen: list[np.ndarray] = []

    def show(self, frames: LazyFrames, key: object) -> None:
        self.frames, self.key = frames, key

    def refresh(self, **_: object) -> None:
        self.seen.append(np.array(self.frames[self.key]))


def test_an_attached_layer_is_drawn_again(frames, wait_until):
    layer = Layer()
    layer.show(frames, 1)
    frames.attach(layer)
    layer.refresh()
    wait_until(lambda: len(layer.seen) == 2)
    np.testing.assert_array_equal(layer.seen[0], np.ones(SHAPE))
    np.testing.assert_array_equal(layer.seen[1], truth(1))


def test_a_failed_frame_is_told_once_and_not_tried_in_circles(table, qtbot, wait_until):
    def decode(_engine: BaseEngine, _index: int) -> Generator[object, None, np.ndarray]:
        yield "a step"
        raise VolumeError("expected a latent, got none: encode again")

    failures = []
    table.runner.failed.connect(lambda _job, failure: failures.append(failure))
    frames = LazyFrames(NUM, SHAPE, decode, None, table)
    frames[0]
    wait_until(lambda: failures)
    qtbot.wait(50)
    assert len(failures) == 1
    with pytest.raises(VqldmError, match="expected a latent, got none: Encode again"):
        np.asarray(frames)


def test_a_frame_of_another_shape_is_refused(table):
    def decode(_engine: BaseEngine, _index: int) -> Generator[object, None, np.ndarray]:
        yield "a step"
        return np.zeros((2, 2, 2), np.float32)

    with pytest.raises(ShapeError, match=r"\(3, 4, 5\) voxels, got \(2, 2, 2\)"):
        LazyFrames(NUM, SHAPE, decode, None, table).frame(0)


@pytest.mark.parametrize(("num", "shape"), [(0, SHAPE), (1, (3, 4)), (1, (0, 4, 5))])
def test_no_frames_are_refused(table, decoder, num, shape):
    with pytest.raises(ShapeError, match="one frame or more"):
        LazyFrames(num, shape, decoder, None, table)


def test_closing_keeps_what_is_there_and_says_what_is_not(table, frames, decoder, wait_until):
    layer = Layer()
    frames.attach(layer)
    frames[0]
    wait_until(lambda: frames.is_ready(0))
    frames.close()
    frames.close()
    table.frames.clear()
    np.testing.assert_array_equal(frames[0], truth(0))
    np.testing.assert_array_equal(frames[1], np.ones(SHAPE))
    with pytest.raises(VqldmError, match="before the dock was closed"):
        np.asarray(frames)
    assert layer.name == "way (some frames are previews)"
    assert decoder.decoded == [0]


def test_closing_complete_frames_leaves_a_plain_array(table, frames):
    layer = Layer()
    frames.attach(layer)
    np.asarray(frames)
    frames.close()
    table.frames.clear()
    np.testing.assert_array_equal(np.asarray(frames), whole())
    assert layer.name == "way"


def test_frames_do_not_keep_their_layer_alive(table, frames, decoder, wait_until):
    layer = Layer()
    frames.attach(layer)
    frames[0]
    wait_until(lambda: frames.is_ready(0) and not table.runner.is_busy)
    gone = weakref.ref(layer)
    del layer
    gc.collect()
    assert gone() is None


def test_a_table_keeps_no_frames_alive(table, decoder, wait_until):
    gone = weakref.ref(frames := LazyFrames(NUM, SHAPE, decoder, None, table))
    frames.attach(layer := Layer())
    frames[0]
    del frames
    gc.collect()
    wait_until(lambda: gc.collect() >= 0 and gone() is None)
    assert gone() is None
    assert layer.name == "way"


def test_napari_shows_them(shown_viewer, table, frames, wait_until):
    layer = shown_viewer.add_image(frames, contrast_limits=(0, 1))
    frames.attach(layer)
    shown_viewer.dims.set_point(0, 5)
    wait_until(lambda: frames.is_ready(5))
    np.testing.assert_array_equal(np.asarray(layer._slice.image.raw), truth(5)[layer._data_slice.point[1].astype(int)])
    frames.close()
