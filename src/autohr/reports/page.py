"""Parts that all pages share: colours by role, charts in two sizes, numbers as text, and writing a page.

A page loads nothing: style, pictures and charts are inside it, and a content policy in its head forbids any fetch and
any script but one of ours, by its checksum (``sort.js``, in the page of several files, which works without it). The
same input gives the same bytes: no clock, no random ids.

Every chart is drawn by matplotlib twice, for a desktop and for a phone, and the style sheet shows one of the two. It is
drawn in marker colours that stand for roles (ink, grid, pulse, ...), and ``inline_svg`` replaces each of them by a
variable of the style sheet, so that one drawing serves light and dark mode.

A page is a template that extends ``page.html.j2`` (head, style, footer) and may import the macros of ``parts.html.j2``.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import math
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from autohr import __version__
from autohr.files import cannot_write, make_folder, write_text
from autohr.types import Frame

CROP_PX = 128
"""Longest side of the face picture, about 40 kB: sharp at the 112 CSS pixels at which it is shown."""

Sizes = Mapping[str, tuple[float, float, float]]

SIZES: Sizes = {"wide": (820.0, 250.0, 12.5), "narrow": (340.0, 220.0, 11.5)}
"""Width, height and font size of a chart in CSS pixels. 340 px fits an upright phone, without its margins."""

MINUTES_FROM_S = 120.0
"""Time from which minutes and seconds are shown in place of seconds."""

ROLES = {
    "ink": ("#010101", "currentColor"),
    "muted": ("#020202", "var(--muted)"),
    "line": ("#030303", "var(--line)"),
    "pulse": ("#040404", "var(--pulse)"),
    "good": ("#050505", "var(--good)"),
    "bad": ("#060606", "var(--bad)"),
    "gap": ("#070707", "var(--gap)"),
    "card": ("#080808", "var(--card)"),
    "link": ("#090909", "var(--link)"),
}
"""Role -> (colour that matplotlib draws with, name in the style sheet). The colours only have to differ."""

# matplotlib's settings belong to the whole process: two threads that write a page must not undo each other's.
_SETTINGS_LOCK = threading.Lock()


@dataclass(frozen=True)
class Chart:
    """One drawing in both sizes, or ``why_not`` if there is nothing to draw."""

    title: str
    about: str
    caption: str = ""
    wide: str = ""
    narrow: str = ""
    """SVG as Markup, as is ``wide``."""
    legend: tuple[tuple[str, str], ...] = ()
    """Pairs (class of the swatch, meaning)."""
    why_not: str | None = None


def write_page(page: str, out: Path) -> None:
    """Write a page to ``out``, whole or not at all; a missing folder is made.

    Raises
    ------
    ValueError
        ``out`` is a folder.
    AutoHRError
        The file cannot be written.
    """
    out = Path(out)
    try:
        is_folder = out.is_dir()
    except OSError as error:
        raise cannot_write(out, error) from error
    if is_folder:
        raise ValueError(f"{str(out)!r} is a folder; name a file in it, such as {str(out / 'report.html')!r}.")
    make_folder(out.parent)
    write_text(out, page)


# -- charts


def draw(
    title: str,
    about: str,
    caption: str,
    legend: tuple[tuple[str, str], ...],
    key: str,
    paint: Callable[[Axes, bool], None],
    sizes: Sizes = SIZES,
) -> Chart:
    """Draw a chart by ``paint(axes, is_wide)``. ``key`` begins its ids, which must be unique on the page."""
    drawings = {}
    for size, (width, height, letters) in sizes.items():
        settings: dict[Any, Any] = {
            "svg.fonttype": "none",
            "svg.hashsalt": "autohr",
            "font.family": ["DejaVu Sans"],
            "font.size": letters,
            "text.usetex": False,
            "path.sketch": None,
            "axes.titlesize": letters,
            "axes.unicode_minus": False,
        }
        buffer = io.StringIO()
        with _SETTINGS_LOCK, matplotlib.rc_context(settings):
            figure = Figure(figsize=(width / 72, height / 72), dpi=72)
            axes = figure.add_axes((38 / width, 44 / height, 1 - 58 / width, 1 - 72 / height))
            axes.grid(True, color=colour("line"), linewidth=0.6)
            axes.set_axisbelow(True)
            axes.patch.set_visible(False)
            axes.spines[["top", "right", "left"]].set_visible(False)
            axes.spines["bottom"].set_color(colour("muted"))
            axes.tick_params(colors=colour("muted"), length=0, pad=6)
            paint(axes, size == "wide")
            axes.xaxis.label.set_color(colour("muted"))
            axes.set_title(axes.get_title(loc="left"), loc="left", color=colour("muted"))
            # Without the time of day, the version and the address that matplotlib adds.
            nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
            figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
        drawings[size] = inline_svg(buffer.getvalue(), f"{key}-{size}", f"{title}. {caption}", size)
    return Chart(title, about, caption, drawings["wide"], drawings["narrow"], legend)


def inline_svg(svg: str, key: str, label: str, size: str) -> Markup:
    """Return matplotlib's SVG as part of a page: no prolog, name spaces, style or random ids; colours by role."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->|<defs>\s*</defs>", "", svg, flags=re.DOTALL)
    view = re.search(r'viewBox="([\d. ]+)"', svg)
    body = svg[svg.index(">") + 1 :].replace("xlink:href", "href")
    used = dict.fromkeys(re.findall(r'(?:href="|url\()#([^")]+)', body))
    names = {old: f"{key}-{i}" for i, old in enumerate(used)}
    body = re.sub(r' id="([^"]*)"', lambda m: f' id="{names[m[1]]}"' if m[1] in names else "", body)
    body = re.sub(r'(href="|url\()#([^")]+)', lambda m: f"{m[1]}#{names[m[2]]}", body)
    for drawn, meant in ROLES.values():
        body = body.replace(drawn, meant)
    # The font is the page's own; only its size comes from the drawing.
    body = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", body)
    body = re.sub(r"font-family: [^;\"]*;? ?", "", body)
    body = re.sub(r"(\.\d\d)\d+", r"\1", body)
    body = re.sub(r"\s*\n\s*", "\n", body).strip()
    head = Markup('<svg class="{}" role="img" aria-label="{}" viewBox="{}">\n')
    return head.format(size, label, view[1] if view else "0 0 1 1") + Markup(body)  # our own drawing: no user's text


LIGHT = "--card:#ffffff;--muted:#59636f;--line:#d9dee4;--gap:#e9ecf0;--pulse:#c02649;--good:#0b7461;--bad:#a34a00;"
LIGHT += "--link:#1d5fb4;color:#1a1f26;background:#ffffff;font-family:system-ui,Arial,sans-serif"
"""Light colours of the style sheet, for a picture without one."""


def standalone(chart: Chart) -> str:
    """Return the wide drawing of a chart as an SVG file; raise ValueError if there is no drawing."""
    if not chart.wide:
        raise ValueError(f"There is no drawing of {chart.title!r}: {chart.why_not}")
    space = 'xmlns="http://www.w3.org/2000/svg"'
    return str(chart.wide).replace("<svg ", f'<svg {space} style="{LIGHT}" ', 1) + "\n"


def colour(role: str) -> str:
    """Return the colour to draw with for a role of ``ROLES``."""
    return ROLES[role][0]


def time_axis(axes: Axes, low_s: float, high_s: float, wide: bool) -> None:
    """Set the x axis to seconds, or minutes and seconds, from ``low_s`` to ``high_s``."""
    axes.set_xlim(low_s, high_s)
    if high_s < MINUTES_FROM_S:
        axes.xaxis.set_major_locator(MaxNLocator(10 if wide else 5, steps=[1, 2, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda t_s, _: f"{t_s:g}"))
        axes.set_xlabel("seconds of the video")
        return
    steps_s = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200)
    step_s = next((s for s in steps_s if (high_s - low_s) / s <= (10 if wide else 5)), 14400)
    axes.xaxis.set_major_locator(
        FixedLocator(list(np.arange(math.ceil(low_s / step_s) * step_s, high_s + 0.1, step_s)))
    )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda t_s, _: f"{int(t_s) // 60}:{int(t_s) % 60:02d}"))
    axes.set_xlabel("minutes:seconds of the video")


def picture(crop: Frame) -> Markup:
    """Return a face crop (H, W, 3) as a PNG data URI of at most CROP_PX a side, by averaging blocks of pixels."""
    height, width, _ = crop.shape
    step = min(math.ceil(max(height, width) / CROP_PX), height, width)
    if step > 1:
        height, width = height // step * step, width // step * step
        blocks = crop[:height, :width].reshape(height // step, step, width // step, step, 3)
        crop = np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8)
    buffer = io.BytesIO()
    no_label: dict[str, Any] = {"Software": None}
    imsave(buffer, np.ascontiguousarray(crop), format="png", metadata=no_label)
    return Markup("data:image/png;base64,") + base64.b64encode(buffer.getvalue()).decode("ascii")


# -- templates and their words


@functools.cache
def _environment(package: str) -> jinja2.Environment:
    folders = [resources.files(name) for name in dict.fromkeys((package, "autohr.reports"))]

    def read(name: str) -> str | None:
        found = (folder.joinpath(name) for folder in folders)
        return next((file.read_text(encoding="utf-8") for file in found if file.is_file()), None)

    env = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=printable,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(read),
    )
    env.filters.update(
        unit=unit_words, share=share_words, time=time_words, percent=percent, clause=clause, count=count_words
    )
    env.tests["number"] = is_number
    env.globals["version"] = __version__
    return env


def inline_script(name: str) -> tuple[Markup, Markup]:
    """Return the text of a script of ``autohr.reports``, and its source expression for a content policy."""
    text = resources.files("autohr.reports").joinpath(name).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
    return Markup(text), Markup(f"'sha256-{digest}'")  # our own file: no user's text


def render(template: str, values: Mapping[str, Any], package: str = "autohr.reports") -> str:
    """Return the page of a template such as "measurement.html.j2".

    Parameters
    ----------
    template, values
        Name of the template, and the values that it shows.
    package
        Package that holds the template; templates that it extends or includes may lie in ``autohr.reports`` too.

    Raises
    ------
    KeyError
        The values lack a name that the template shows.
    """
    try:
        return _environment(package).get_template(template).render(values)
    except jinja2.UndefinedError as error:
        raise KeyError(str(error)) from error


def printable(value: object) -> object:
    """Replace characters that a page cannot hold, or that would turn the text around, by the replacement mark.

    File names may hold any of them: bytes that are no UTF-8 (lone surrogates), control characters, bidi overrides.
    """
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return re.sub("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufffe\uffff]", "\ufffd", value)


def is_number(value: float | None) -> bool:
    """Return True for a finite number."""
    return value is not None and math.isfinite(value)


def unit_words(value: float | None, unit: str, digits: int = 1) -> str:
    """Return ``72.4 bpm`` with an unbreakable space, or a dash if there is no number."""
    return "\u2013" if value is None or not math.isfinite(value) else f"{value:.{digits}f}\u00a0{unit}"


def time_words(t_s: float | None) -> str:
    """Return ``69.0 s``, or ``10 min 5.0 s`` from two minutes on, as the axes do."""
    if t_s is None or not math.isfinite(t_s) or t_s < MINUTES_FROM_S:
        return unit_words(t_s, "s")
    minutes, tenths = divmod(round(10 * t_s), 600)
    return f"{minutes}\u00a0min {tenths / 10:.1f}\u00a0s"


def percent(value: float | None) -> int:
    """Return a share from 0 to 1 in whole percent."""
    return 0 if value is None or not math.isfinite(value) else round(100 * min(1.0, max(0.0, value)))


def share_words(part: int, whole: int) -> str:
    """Return a share in percent, never rounded to 0 or 100 %: 1 frame of 9000 is not none."""
    if whole <= 0:
        return "\u2013"
    share_pct = 100 * part / whole
    if 0 < share_pct < 0.1:
        return "under 0.1\u00a0%"
    if 99.9 < share_pct < 100:
        return "over 99.9\u00a0%"
    return f"{share_pct:.1f}".removesuffix(".0") + "\u00a0%"


def count_words(n: int, noun: str) -> str:
    """Return ``1 window`` or ``2 windows``."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def clause(sentence: str) -> str:
    """Return a sentence as it follows a colon: one line, no full stop, a small first letter unless it is a name."""
    text = " ".join(sentence.split()).rstrip(".")
    starts_plain_word = len(text) > 1 and text[0].isupper() and (text[1].islower() or text[1] == " ")
    return text[0].lower() + text[1:] if starts_plain_word else text


def hide_password(text: str) -> str:
    """Hide the password of a camera address (rtsp://user:password@host): pages are passed on."""
    return re.sub(r"\b([A-Za-z][A-Za-z0-9+.-]*://)[^/@\s'\"]+@", r"\1***@", text)
