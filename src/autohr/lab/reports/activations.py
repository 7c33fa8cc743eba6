"""The page of ``autohr report --activations``: activations of nets, and their waves beside the true one (Fig. 6).

Made from a run directory alone, as ``experiments.activations`` writes it. Its ``results/activations.npz`` holds, for
net 0, 1, ...

    net0_t_s (K,)  net0_crops (K, S, S, 3) uint8   moments, and what the net was shown then
    net0_low, net0_high (K, h, w)                  mean absolute activation after the first and the third block
    net0_bvp, net0_bvp_t_s (N,)                    its wave over the whole video, NaN in gaps
    true_bvp, true_t_s (M,)                        the reference's, empty where there is none
    motion, motion_t_s (L,)                        speed of the head in face widths per second
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from autohr.files import check_file, read_json
from autohr.lab.evaluate.stored import array_damage
from autohr.lab.reports.charts import Look, damage_is_named, render_page
from autohr.lab.runs import open_run
from autohr.reports.page import Chart, colour, draw, hide_password, picture, time_axis
from autohr.types import Float

N_MOMENTS = 7
"""Number of columns of pictures, evenly spread over the video; about as many as Fig. 6(a) has."""

MAP_PX = 112
"""Side of a map as it is shown."""

BRIGHT = 99.0
"""Percentile of a row of maps that is shown brightest, so that one pixel does not darken all others. Every row has one
scale, so that its columns compare; two rows do not."""

LEVEL_WORDS = {"low": "low level (after block 1)", "high": "high level (after block 3)"}

WAVE_SIZES = {"wide": (820.0, 190.0, 12.5), "narrow": (340.0, 170.0, 11.5)}


@dataclass(frozen=True)
class _Net:
    """Net as the template shows it."""

    title: str
    weights: str
    hr_bpm: float | None
    reliable: bool
    likeness: float | None
    t_s: tuple[float, ...]
    crops: tuple[Markup, ...]
    levels: tuple[tuple[str, tuple[Markup, ...]], ...]


MAX_ACTIVATIONS_BYTES = 2**31
"""Largest file of activations that is read, 2 GiB; ours."""


def render_activations_page(run_dir: Path, *, made_at: str | None = None) -> str:
    """Return the page of a run directory; AutoHRError where there is none, or its arrays are missing or damaged."""
    run = open_run(run_dir)
    video = hide_password(str(run.config.get("video", "")))
    file = run.results / "activations.npz"
    with damage_is_named(file, "make the run"):
        if file.exists():
            check_file(file, "file of activations", MAX_ACTIVATIONS_BYTES)
        with array_damage(), np.load(file) as stored:
            arrays = {name: np.asarray(stored[name]) for name in stored.files}
        stored_nets = read_json(run.results / "activations.json")["nets"]
        nets = tuple(_view_net(net, number, arrays) for number, net in enumerate(stored_nets))
        charts = [_chart_wave(net, number, arrays) for number, net in enumerate(nets)]
        charts.append(_chart_motion(arrays))
    return render_page(
        "activations",
        {
            "name": Path(video).name,
            "video": video,
            "nets": nets,
            "charts": charts,
            "has_truth": arrays["true_t_s"].size > 0,
            "window_s": run.config.get("window_s"),
            "made_at": made_at,
        },
    )


def _view_net(net: dict[str, Any], number: int, arrays: dict[str, np.ndarray]) -> _Net:
    t_s = arrays[f"net{number}_t_s"]
    shown = np.unique(np.linspace(0, len(t_s) - 1, N_MOMENTS).round().astype(int))
    crops = arrays[f"net{number}_crops"][shown]
    return _Net(
        title=str(net["title"]),
        weights=str(net["weights"]),
        hr_bpm=net["hr_bpm"],
        reliable=bool(net["reliable"]),
        likeness=net["likeness"],
        t_s=tuple(float(t) for t in t_s[shown]),
        crops=tuple(picture(crop) for crop in crops),
        levels=tuple((words, _maps(arrays[f"net{number}_{level}"][shown])) for level, words in LEVEL_WORDS.items()),
    )


def _maps(strength: np.ndarray) -> tuple[Markup, ...]:
    """Return maps (K, h, w) as pictures on one scale, a block of pixels for each value of the layer."""
    strength = strength.astype(np.float64)
    low, high = float(strength.min()), float(np.percentile(strength, BRIGHT))
    scaled = np.clip((strength - low) / max(high - low, 1e-9), 0, 1)
    coloured = np.rint(255 * matplotlib.colormaps["inferno"](scaled)[..., :3]).astype(np.uint8)
    times = max(1, round(MAP_PX / max(strength.shape[1:])))
    return tuple(picture(np.kron(one, np.ones((times, times, 1), np.uint8))) for one in coloured)


def _chart_wave(net: _Net, number: int, arrays: dict[str, np.ndarray]) -> Chart:
    t_s, wave = arrays[f"net{number}_bvp_t_s"], arrays[f"net{number}_bvp"].astype(np.float64)
    true_t_s, true = arrays["true_t_s"], arrays["true_bvp"]
    low_s, high_s = float(t_s[0]), float(t_s[-1])
    inside = (true_t_s >= low_s) & (true_t_s <= high_s)
    # A page is looked at: a thousand points are more than it has pixels across.
    step, true_step = max(1, len(t_s) // 1000), max(1, int(inside.sum()) // 1000)

    def paint(axes: Axes, wide: bool) -> None:
        if inside.any():
            look: Look = {"color": colour("link"), "linewidth": 1.1, "alpha": 0.75, "zorder": 2}
            axes.plot(true_t_s[inside][::true_step], _standard(true[inside])[::true_step], **look)
        axes.plot(t_s[::step], _standard(wave)[::step], color=colour("pulse"), linewidth=1.3, zorder=3)
        axes.set_yticks([])
        axes.set_ylim(-4, 4)
        time_axis(axes, low_s, high_s, wide)
        axes.set_title("more blood in the skin ↑", loc="left")

    legend = [("curve", f"read by {net.title}")]
    if inside.any():
        legend.append(("blue", "contact sensor"))
    caption = f"{net.title}, weights {net.weights}"
    if net.likeness is not None:
        caption += f": correlation with the true wave {net.likeness:.2f}, at the best lag within one second"
    about = "Both waves are scaled to the same size, for neither has a unit."
    return draw(f"Wave of {net.title}", about, f"{caption}.", tuple(legend), f"wave-{number}", paint, WAVE_SIZES)


def _chart_motion(arrays: dict[str, np.ndarray]) -> Chart:
    t_s, speed = arrays["motion_t_s"], arrays["motion"]
    step = max(1, len(t_s) // 1000)

    def paint(axes: Axes, wide: bool) -> None:
        axes.fill_between(t_s[::step], speed[::step], color=colour("muted"), alpha=0.35, linewidth=0)
        axes.set_ylim(0, max(0.1, 1.1 * float(speed.max())))
        axes.yaxis.set_major_locator(MaxNLocator(3))
        time_axis(axes, float(arrays["net0_bvp_t_s"][0]), float(arrays["net0_bvp_t_s"][-1]), wide)
        axes.set_title("face widths per second", loc="left")

    about = "Speed of the followed face: how fast its place and size change."
    fastest = float(t_s[int(np.argmax(speed))])
    caption = f"Fastest at {fastest:.1f} s, {float(speed.max()):.2f} face widths per second."
    return draw("Head motion", about, caption, (), "motion", paint, WAVE_SIZES)


def _standard(wave: Float) -> Float:
    sd = float(np.nanstd(wave))
    out: Float = (wave - np.nanmean(wave)) / (sd if sd > 0 else 1.0)
    return out
