from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from ddmd_mpi.report.bands import BANDS, LINES, draw_band, middle_and_band, on_grid

#: Machado, Oliveira and Fernandes (2009), https://doi.org/10.1109/TVCG.2009.113, severity 1: linear RGB to linear RGB.
DEUTERANOPIA = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
PROTANOPIA = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]


def test_a_run_has_its_last_value_until_its_end():
    values = on_grid(np.array([1.0, 2.0, 4.0]), np.array([5.0, 3.0, 2.0]), np.array([0.5, 1.0, 1.9, 2.0, 4.0, 4.1]))
    np.testing.assert_array_equal(values, [np.nan, 5, 5, 3, 2, np.nan])
    assert np.isnan(on_grid(np.empty(0), np.empty(0), np.arange(3.0))).all()


def test_median_and_band_of_known_curves():
    curves = np.arange(101.0)[:, None] * [1.0, 2.0]
    np.testing.assert_allclose(middle_and_band(curves), [[50, 100], [25, 50], [75, 150]])
    np.testing.assert_allclose(middle_and_band(curves, "95 % of the runs"), [[50, 100], [2.5, 5], [97.5, 195]])


def test_a_band_ends_where_the_shortest_run_ends():
    curves = np.array([[3.0, 2.0, 1.0], [4.0, 3.0, np.nan]])
    np.testing.assert_array_equal(np.isnan(middle_and_band(curves)), [[False, False, True]] * 3)


@pytest.mark.parametrize("n_runs", [1, 4])
def test_one_run_is_a_line_and_several_have_a_band(n_runs):
    axes = Figure().subplots()
    draw_band(axes, np.arange(3.0), np.random.default_rng(1).random((n_runs, 3)), "greedy", band=list(BANDS)[1])
    assert [line.get_label() for line in axes.lines] == [f"greedy (n = {n_runs})"]
    assert len(axes.collections) == (n_runs > 1)


def test_more_arms_than_lines_can_be_told_apart():
    axes = Figure().subplots()
    for index in range(3 * len(LINES)):
        draw_band(axes, np.arange(3.0), np.ones((1, 3)), "arm", index)
    assert len({(line.get_color(), line.get_marker()) for line in axes.lines}) == 3 * len(LINES)


@pytest.mark.parametrize("seen", [np.eye(3), DEUTERANOPIA, PROTANOPIA], ids=["normal", "deuteranopia", "protanopia"])
def test_lines_differ_for_the_colour_blind(seen):
    """By a just noticeable difference of CIE Lab many times over, or by their dashes."""
    colours = [lab(np.clip(np.array(seen) @ linear(np.array(to_rgb(colour))), 0, 1)) for colour, _ in LINES]
    assert min(np.linalg.norm(a - b) for a, b in combinations(colours, 2)) > 10
    assert len({str(dashes) for _, dashes in LINES}) == len(LINES)


def linear(rgb):
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    """CIE L*a*b* of linear sRGB, white D65."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(to_xyz @ rgb / [0.9505, 1.0, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])
