"""Tables and pictures of codes show the counts that they are given."""

from __future__ import annotations

import csv
import io

import numpy as np

from napari_vqldm.checkpoint import Model
from napari_vqldm.codebook import CodebookUsage, codebook_usage
from napari_vqldm.inside.channels import ChannelReport
from napari_vqldm.inside.survey import survey_steps
from napari_vqldm.quantizers import CodebookQuantizer, CodeUsage, Quantizer, QuantizerConfig
from napari_vqldm.report.codebook_page import Counted, bars, channels_page, codebook_page, usage_csv, usage_picture
from napari_vqldm.report.page import render_html
from napari_vqldm.volume import Volume


def usage() -> CodebookUsage:
    return CodebookUsage(CodeUsage(np.array([0, 30, 0, 1])), CodeUsage(np.array([4, 2, 0, 0])))


def test_bars_are_as_high_as_the_logarithm() -> None:
    picture = bars(np.array([1000, 100, 0, 10]))
    width = (picture.shape[1] - 68) // 4
    heights = [int((picture[:, 64 + width * code + width // 2] == 60).sum()) for code in range(4)]
    assert heights[2] == 0 and heights[0] > heights[1] > heights[3] > 0
    assert abs((heights[0] - heights[1]) - (heights[1] - heights[3])) <= 1


def test_nothing_counted_can_be_drawn() -> None:
    nothing = CodebookUsage(CodeUsage(np.zeros(4, np.int64)), CodeUsage(np.zeros(4, np.int64)))
    assert not (bars(nothing.filament.counts) == 60).any()
    assert usage_picture(nothing).ndim == 2
    assert "0 of 4 codes" in render_html(codebook_page(Counted("m", 0), nothing, [], ()))


def test_the_table_has_a_row_for_every_code() -> None:
    rows = list(csv.DictReader(io.StringIO(usage_csv(usage()))))
    assert rows[1] == {
        "code": "1", "rank": "1", "filament_cells": "30", "background_cells": "2", "share": "0.86486486", "is_dead": "0"
    }  # fmt: skip
    assert [row["is_dead"] for row in rows] == ["0", "0", "1", "0"]


def test_the_page_says_what_was_left_out_and_what_is_dead() -> None:
    page = codebook_page(Counted("vq", 2, ("c.tif: damaged <file>",)), usage(), [], ("codes.csv",))
    text = render_html(page)
    assert "c.tif: damaged &lt;file&gt;" in text and "No atoms" in text
    assert page.lead.startswith("2 of 4 codes describe filaments") and "; 1 are never used" in page.lead


def test_codes_of_a_fixed_grid_are_called_implicit() -> None:
    class Grid(CodebookQuantizer):
        is_implicit = True

    assert Quantizer.is_implicit is CodebookQuantizer.is_implicit is False
    config = QuantizerConfig(codebook_size=4)
    learned, grid = (kind(config, 2).is_implicit for kind in (CodebookQuantizer, Grid))
    page = codebook_page(Counted("fsq", 2, is_implicit=grid), usage(), [], ())
    assert page.lead.startswith("2 of 4 implicit codes describe filaments")
    assert "no table is learned" in render_html(page)
    assert "implicit" not in render_html(codebook_page(Counted("vq", 2, is_implicit=learned), usage(), [], ()))


def test_the_page_of_channels_warns() -> None:
    zeros = np.zeros(2)
    report = ChannelReport(zeros, zeros, zeros, zeros, np.array([0.0, 2.5]), np.array([False, True]), 10)
    page = channels_page(Counted("kl", 1), report, ())
    assert page.lead.startswith("1 of 2 channels") and "2.5 nats" in page.lead
    assert any("carry nothing: 0" in line for line in page.sections[0].missing)


def test_a_survey_counts_what_the_verb_counts_and_keeps_maps_in_bounds(vq_ldm: Model, stack: Volume) -> None:
    other = stack.with_data(stack.data[::-1], name="other")
    *_, last = survey_steps(vq_ldm, [stack, other])
    alone = codebook_usage(vq_ldm, [stack, other])
    assert np.array_equal(last.usage.filament.counts, alone.filament.counts)
    assert np.array_equal(last.usage.background.counts, alone.background.counts)
    assert [found.latent.name for found in last.contexts] == ["stack", "other"]
    *_, last = survey_steps(vq_ldm, [stack, other], context_bytes=1)
    assert [found.latent.name for found in last.contexts] == ["stack"] and last.usage.everywhere.total > 0
