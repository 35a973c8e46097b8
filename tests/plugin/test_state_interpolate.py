"""What the Interpolate tab decides, without a screen."""

from __future__ import annotations

import dataclasses
import inspect
from itertools import pairwise

import pytest

from napari_vqldm.card import Header, read_header
from napari_vqldm.conditions import check_conditions
from napari_vqldm.generate import generate_steps
from napari_vqldm.interpolate import interpolate_steps
from napari_vqldm.plugin.state.interpolate import (
    LIVE_S,
    End,
    InterpolateState,
    bisection_order,
    even_ts,
    nearest,
    next_place,
    quality_for,
    rounded_t,
)
from napari_vqldm.zoo import resolve

SIZE = (0.2, 0.1, 0.1)


@pytest.fixture(scope="module")
def header() -> Header:
    return read_header(resolve("ldm"))


def layer(name: str = "cells", shape=(16, 64, 64), size=SIZE, **changes) -> End:
    return End(name=name, shape=shape, voxel_size_um=size, **changes)


def seed(number: int = 1) -> End:
    return End(is_seed=True, seed=number)


@pytest.mark.parametrize(
    ("a", "b", "mode"), [(layer(), layer(), "layers"), (layer(), seed(), "mixed"), (seed(1), seed(2), "seeds")]
)
def test_request_holds_arguments_of_the_verb(header, a, b, mode):
    state = InterpolateState(a, b)
    assert state.mode == mode
    accepted = set(inspect.signature(interpolate_steps).parameters)
    assert set(state.to_request(header)) <= accepted
    if mode == "seeds":  # the job has model and precision; tiles are for encoded ends
        assert set(state.to_request(header)) == accepted - {"model", "precision", "max_voxels"}


def test_request_of_the_seed_that_meets_a_layer_holds_arguments_of_generate(header):
    state = InterpolateState(seed(7), layer(shape=(8, 32, 48)), steps=3)
    request = state.seed_request(header)
    assert set(request) <= set(inspect.signature(generate_steps).parameters)
    assert (request["seed"], request["shape"], request["steps"]) == (7, (8, 32, 48), 3)
    assert request["condition"] == {"voxel_size_z_um": 0.2, "voxel_size_xy_um": 0.1}
    assert check_conditions(header.config, request["condition"])


def test_shared_voxel_size_is_inside_the_trained_range(header):
    state = InterpolateState(seed(1), seed(2))
    condition = state.condition(header)
    assert set(condition) == {"voxel_size_z_um", "voxel_size_xy_um"}
    assert check_conditions(header.config, condition) == condition
    state.same_voxel_size = False
    assert state.condition(header) is None
    unconditioned = dataclasses.replace(header, config=header.config.model_copy(update={"simulation": None}))
    assert InterpolateState(seed(1), seed(2)).condition(unconditioned) is None


def test_fitting_ends_have_no_problem(header):
    pairs = (
        (layer(), layer("b")),
        (layer(), seed()),
        (seed(), layer()),
        (seed(1), seed(2)),
        (layer(time=0), layer(time=1)),
    )
    for a, b in pairs:
        assert InterpolateState(a, b).problem(header) == ""


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (End(), layer(), "End A: choose an image layer, or a seed."),
        (layer(), End(), "End B: choose an image layer, or a seed."),
        (layer(), End(name="x", reason="'x' is a labels layer"), "End B: 'x' is a labels layer."),
        (layer(), layer("b", (16, 64, 60)), "16 x 64 x 64, 'b' 16 x 64 x 60 voxels: crop the larger one"),
        (layer(), layer("b", size=(0.25, 0.1, 0.1)), "0.2 x 0.1 x 0.1 um and 0.25 x 0.1 x 0.1 um"),
        (layer(), layer("b", size=None), "End B: 'b' states no voxel size: enter it"),
        (seed(3), seed(3), "the same seed"),
        (layer(time=1), layer(time=1), "Both ends are the same volume"),
        (seed(), layer(shape=(33, 64, 64)), "at most 32 x 128 x 128 voxels, 'cells' has 33 x 64 x 64: crop"),
        (layer(size=(0.5, 0.1, 0.1)), seed(), "a seed gives 0.16 to 0.25 um in z"),
        (layer(size=(0.2, 0.1, 0.12)), seed(), "a seed gives 0.16 to 0.25 um in z"),
    ],
)
def test_problems_are_told_before_anything_runs(header, a, b, words):
    assert words in InterpolateState(a, b).problem(header)


def test_no_model_and_stage_one_alone(header):
    assert "Model tab" in InterpolateState(layer(), layer()).problem(None)
    config = header.config.model_copy(update={"denoiser": None})
    encoder_only = dataclasses.replace(header, config=config)
    assert "cannot sample seeds" in InterpolateState(seed(), layer()).problem(encoder_only)
    assert InterpolateState(layer(), layer("b")).problem(encoder_only) == ""


def test_nearly_equal_voxel_sizes_fit(header):
    assert InterpolateState(layer(), layer("b", size=(0.2001, 0.1, 0.1))).problem(header) == ""


def test_entered_voxel_size_counts_for_layers_that_state_none(header):
    state = InterpolateState(layer(size=None), layer("b"))
    assert state.needs_voxel_size
    state.typed_voxel_size_um = (0.3, 0.1, 0.1)
    assert "differ in voxel size" in state.problem(header)
    state.typed_voxel_size_um = SIZE
    assert state.problem(header) == ""
    assert state.voxel_size_of(state.b) == SIZE


def test_swap_tells_whoever_listens():
    state, heard = InterpolateState(layer("a"), seed(2)), []
    state.events.a.connect(heard.append)
    state.swap()
    assert (state.a.is_seed, state.b.name) == (True, "a")
    assert heard == [seed(2)]


def test_the_button_says_what_it_will_do():
    assert InterpolateState(layer(), seed()).action() == "Sample the seed, then encode both ends"
    assert InterpolateState(seed(1), seed(2), num_frames=9).action() == "Sample 9 frames"


@pytest.mark.parametrize("num", [1, 2, 3, 5, 9, 17, 12])
def test_bisection_visits_every_frame_once_and_halves_the_gaps(num):
    order = bisection_order(num)
    assert sorted(order) == list(range(num))
    assert order[:2] == [0, num - 1][: min(num, 2)]
    gaps = [max(b - a for a, b in pairwise(sorted(order[:n]))) for n in range(2, num + 1)]
    assert gaps == sorted(gaps, reverse=True)


def test_nearest_ready_frame():
    assert nearest(0.47, [0.0, 0.5, 1.0]) == 0.5
    assert nearest(0.25, [0.0, 0.5]) == 0.0
    assert nearest(0.3, []) is None


def test_places_on_the_way():
    assert even_ts(5) == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert [rounded_t(t) for t in (-1, 0.12345, 0.9996, 2)] == [0.0, 0.123, 1.0, 1.0]


def test_previews_only_while_moving_before_a_slow_decoder():
    fast, slow = LIVE_S / 2, 2 * LIVE_S
    assert [quality_for(m, s) for m in (True, False) for s in (fast, slow)] == ["full", "preview", "full", "full"]


@pytest.mark.parametrize(("is_ping_pong", "path"), [(True, [1, 2, 1, 0, 1]), (False, [1, 2, 0, 1, 2])])
def test_player_goes_back_and_forth_or_from_the_start(is_ping_pong, path):
    place, direction, places = 0, 1, []
    for _ in path:
        place, direction = next_place(place, direction, 3, is_ping_pong)
        places.append(place)
    assert places == path
    assert next_place(0, 1, 1, is_ping_pong) == (0, 1)
