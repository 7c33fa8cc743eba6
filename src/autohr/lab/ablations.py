"""Fig. 4 of the paper as data: for each of its bars, what changes in a recipe.

``ABLATIONS`` is the visible table. A bar is trained on folds 2 to 5 of VIPL-HR and judged on fold 1, as the paper does
("All ablation studies are conducted on Fold-1"; that this means tested on fold 1 is inferred, SYSTEMS B1). Its recipe
says everything else; ``overrides`` are all that the bars of a panel differ in.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from autohr.errors import AutoHRError, UnknownName
from autohr.evaluate.protocols import KFold, Protocol
from autohr.evaluate.published import PANELS, PublishedBar
from autohr.evaluate.run import find_protocol
from autohr.evaluate.scoring import Figures, score
from autohr.evaluate.tables import Sheet, figure
from autohr.lab.folds import judge_net
from autohr.nets.genotype import GENOTYPES
from autohr.runs import read_json, write_json
from autohr.train.fit import Progress, print_progress

KIND = "ablation"

PROTOCOL = "vipl-hr-fold1"
"""Of ``PROTOCOLS``."""
FOLD = 1


@dataclass(frozen=True)
class Variant:
    """One bar."""

    key: str
    """As in ``PANELS``."""
    overrides: tuple[str, ...] = ()
    """Changes of the recipe, as ``autohr train --set`` takes them."""
    genotype: str | None = None
    """Genotype that the bar needs, of ``GENOTYPES``; until the search has put one there, the bar cannot run."""

    @property
    def why_not(self) -> str | None:
        """Why it cannot run yet; None where it can."""
        if self.genotype is None or self.genotype in GENOTYPES:
            return None
        return f"needs a searched cell: the paper's is not public, and no search has given {self.genotype!r} here yet"


@dataclass(frozen=True)
class Ablation:
    """One panel."""

    name: str
    recipe: str
    """File in recipes/."""
    variants: tuple[Variant, ...]
    note: str


def _searched(key: str) -> Variant:
    name = f"searched_{key}"
    return Variant(key, ("net=autohr", f"net_config.genotype={name}"), name)


ABLATIONS: dict[str, Ablation] = {
    ablation.name: ablation
    for ablation in (
        Ablation(
            "loss",
            "physnet_paper.toml",
            (
                Variant("time", ("loss.time_weight=1.0", "loss.frequency_weight=0.0")),
                Variant("frequency", ("loss.time_weight=0.0", "loss.frequency_weight=1.0")),
                Variant("overall", ("loss.time_weight=0.2", "loss.frequency_weight=1.0")),
            ),
            "PhysNet with plain convolutions; one loss alone has weight 1.",
        ),
        Ablation(
            "theta",
            "physnet_paper.toml",
            tuple(Variant(f"{tenths / 10:.1f}", (f"net_config.theta={tenths / 10:.1f}",)) for tenths in range(11)),
            "PhysNet, every 3x3x3 convolution as TDC of this theta, trained with L_overall.",
        ),
        Ablation(
            "nas",
            "physnet_paper.toml",
            (
                # Fig. 4(c) has the value of Fig. 4(a) and (b) here: PhysNet with L_overall.
                Variant("none", ("net_config.theta=0.0",)),
                *(_searched(key) for key in ("shared_tdc", "shared", "varied_tdc", "varied")),
            ),
            "Searched nets are trained as PhysNet is, with L_overall.",
        ),
        Ablation(
            "augmentation",
            "autohr_paper.toml",
            (
                Variant("none", ("augment.erase=false", "augment.tempo=false")),
                Variant("da1", ("augment.erase=true", "augment.tempo=false")),
                Variant("da2", ("augment.erase=false", "augment.tempo=true")),
                Variant("both", ("augment.erase=true", "augment.tempo=true")),
            ),
            "AutoHR with the reconstructed cell, for the paper's is not public.",
        ),
    )
}


@dataclass(frozen=True)
class Bar:
    """One bar as it came out here, beside the paper's."""

    key: str
    label: str
    published_bpm: float
    """RMSE."""
    stated: bool
    """Whether the paper's text has that figure."""
    rmse_bpm: float | None
    low_bpm: float | None
    high_bpm: float | None
    """95 % interval by drawing subjects."""
    n_scored: int
    n: int
    """Recordings scored, and tested."""
    why_not: str | None


@dataclass(frozen=True)
class AblationResult:
    """One panel as it came out here."""

    name: str
    panel: str
    title: str
    source: str
    note: str
    protocol: str
    preset: str
    bars: tuple[Bar, ...]


def ablate(
    name: str,
    out: Path,
    *,
    recipes: Path = Path("recipes"),
    recipe: Path | None = None,
    overrides: Sequence[str] = (),
    only: Sequence[str] = (),
    protocol: str | Protocol = PROTOCOL,
    preset: str | None = None,
    progress: Callable[[Progress], None] | None = print_progress,
    say: Callable[[str], None] | None = None,
) -> AblationResult:
    """Train and test every bar of a panel of Fig. 4; what ``out`` has already is not made again.

    Args:
        out: folder of it all: ``out/KEY/fold_1`` a training, ``out/evaluation`` the results of all bars,
            ``out/ablation.json`` what is returned.
        recipes: folder of the recipes that ``ABLATIONS`` names; ``recipe`` in place of them.
        overrides: of the recipe, for all bars; a bar's own come after them.
        only: keys of the bars to run; all that can if empty. The others say that they were not asked for.

    Raises:
        UnknownName: no such ablation, bar, protocol or preset.
        BadRecording: VIPL-HR, or the protocol's dataset, is not prepared.
        BadRecipe, AutoHRError: as ``judge_net``.
    """
    if name not in ABLATIONS:
        raise UnknownName("ablation", name, ABLATIONS)
    ablation, panel = ABLATIONS[name], PANELS[name]
    keys = [variant.key for variant in ablation.variants]
    for key in only:
        if key not in keys:
            raise UnknownName(f"bar of {name}", key, keys)
    rule = find_protocol(protocol)
    preset = preset or rule.preset
    path = recipe or recipes / ablation.recipe
    bars = []
    for variant in ablation.variants:
        published = panel.bar(variant.key)
        why = variant.why_not
        if why is None and only and variant.key not in only:
            why = "not asked for"
        if why is not None:
            bars.append(_bar(published, None, why))
            continue
        results = judge_net(
            path,
            [*overrides, *variant.overrides],
            rule,
            out / variant.key,
            out / "evaluation",
            label=f"{name}-{variant.key}",
            folds=[FOLD] if isinstance(rule.split, KFold) else None,
            progress=progress,
            say=say,
        )
        bars.append(_bar(published, score(results, preset).overall, None))
    result = AblationResult(name, panel.panel, panel.title, panel.source, ablation.note, rule.name, preset, tuple(bars))
    write_json(out / "ablation.json", {"kind": KIND, **dataclasses.asdict(result)})
    return result


def read_ablation(out: Path) -> AblationResult:
    """What ``ablate`` left in a folder.

    Raises:
        AutoHRError: nothing, or a damaged file.
    """
    said = read_json(out / "ablation.json")
    try:
        fields = {field.name: said[field.name] for field in dataclasses.fields(AblationResult)}
        return AblationResult(**fields | {"bars": tuple(Bar(**bar) for bar in said["bars"])})
    except (KeyError, TypeError) as error:
        raise AutoHRError(f"{str(out / 'ablation.json')!r} is damaged ({error}); run the ablation again.") from None


def _bar(published: PublishedBar, figures: Figures | None, why_not: str | None) -> Bar:
    low_high = (None, None) if figures is None else figures.intervals.get("rmse_bpm", (None, None))
    if figures is not None and figures.rmse_bpm is None:
        why_not = "no recording could be scored"
    return Bar(
        key=published.key,
        label=published.label,
        published_bpm=published.rmse_bpm,
        stated=published.stated,
        rmse_bpm=None if figures is None else figures.rmse_bpm,
        low_bpm=low_high[0],
        high_bpm=low_high[1],
        n_scored=0 if figures is None else figures.n_scored,
        n=0 if figures is None else figures.n,
        why_not=why_not,
    )


def ablation_sheet(result: AblationResult) -> Sheet:
    """The panel as a table."""
    rows = []
    for bar in result.bars:
        interval = "" if bar.low_bpm is None or bar.high_bpm is None else f"{bar.low_bpm:.2f} to {bar.high_bpm:.2f}"
        rows.append(
            (
                bar.label,
                figure(bar.published_bpm) + ("" if bar.stated else " *"),
                figure(bar.rmse_bpm),
                interval,
                f"{bar.n_scored} of {bar.n}" if bar.n else "",
                bar.why_not or "",
            )
        )
    return Sheet(
        title=f"Fig. 4({result.panel}) {result.title}: RMSE, bpm",
        columns=("", "paper", "here", "95 %", "scored", "why not"),
        rows=tuple(rows),
        text_columns=frozenset({0, 5}),
        notes=(
            f"paper: {result.source}. * read off the figure: good to about a tenth.",
            f"here: protocol {result.protocol}, scoring {result.preset}; the weights of the last step. {result.note}",
            "Differences of a tenth of a beat are below what one training differs from the next.",
        ),
    )
