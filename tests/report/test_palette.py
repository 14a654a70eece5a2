"""Colors that can be told apart, by their contrast and by simulated color vision."""

import itertools

import numpy as np
import pytest

from fedrms.results.plots.palette import (
    DARK,
    GROUPS,
    LIGHT,
    QUALITATIVE,
    SCALE,
    colors_of,
    on_scale,
)

# Machado, Oliveira and Fernandes 2009, table 1, severity 1: on linear RGB.
DEFICIENCIES = {
    "protan": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deutan": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "none": [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
}


def linear(color):
    c = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def luminance(color):
    return float(linear(color) @ [0.2126, 0.7152, 0.0722])


def contrast(a, b):
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def lab(rgb):
    xyz = (
        np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
        @ rgb
    )
    t = np.clip(xyz / [0.9505, 1.0, 1.089], 0, None)
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("color", sorted({*QUALITATIVE, *GROUPS.values(), *SCALE}))
@pytest.mark.parametrize("background", [LIGHT, DARK])
def test_every_color_stands_out_from_both_backgrounds(color, background):
    assert contrast(color, background) >= 3


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
@pytest.mark.parametrize(
    "colors", [QUALITATIVE[:4], list(GROUPS.values())[:5], SCALE[::2]], ids=str
)
def test_colors_that_meet_are_told_apart_with_any_color_vision(colors, deficiency):
    seen = [lab(np.clip(np.array(DEFICIENCIES[deficiency]) @ linear(c), 0, 1)) for c in colors]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 10


def test_grey_is_for_fedavg_alone():
    assert colors_of(["fedavg", "fedrms"])["fedavg"] == QUALITATIVE[0]
    assert colors_of(["fedrms"]) == {"fedrms": QUALITATIVE[1]}


def test_the_scale_ends_at_its_ends_and_passes_through_its_middle():
    assert [on_scale(v, 0, 2) for v in (-1, 0, 1, 2, 9)] == [SCALE[0], *SCALE, SCALE[2]]
    assert on_scale(float("nan"), 0, 1) == GROUPS["unknown"]
