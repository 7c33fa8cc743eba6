"""Fig. 4 of the paper as data: for each of its bars, what changes in a recipe.

``ABLATIONS`` is the visible table. A bar is trained on folds 2 to 5 of VIPL-HR and tested on fold 1, as the paper does
("All ablation studies are conducted on Fold-1"; that this means tested on fold 1 is inferred from the author's file
names). Its recipe says everything else; ``overrides`` are all that the bars of a panel differ in.

The bars of panel (c) need cells that a search found. Where ``GENOTYPES`` has none of that name, ``ablate`` searches for
one first, on the subjects that the bar may learn from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from autohr.errors import UnknownName
from autohr.files import write_json
from autohr.lab.evaluate.presets import find_preset
from autohr.lab.evaluate.protocols import PROTOCOLS, KFold, Protocol
from autohr.lab.evaluate.published import PANELS, PublishedPanel
from autohr.lab.evaluate.rows import make_rows
from autohr.lab.evaluate.run import find_protocol
from autohr.lab.evaluate.scoring import ORACLE, Scores, check_protocol, score
from autohr.lab.evaluate.stored import ABLATION, AblationResult, Bar, Oracle
from autohr.lab.evaluate.tables import NOTHING, Sheet, figure, interval
from autohr.lab.experiments.folds import evaluate_net, fold_overrides, open_prepared, subjects_of_folds
from autohr.lab.experiments.searches import search_cell
from autohr.lab.nets._genotype import GENOTYPES, Genotype
from autohr.lab.recipes.files import FOLDER, find_recipe, read_recipe_table, toml_inline
from autohr.lab.train.loop import Progress, print_progress
from autohr.lab.train.recipe import read_recipe

NOT_ASKED = "not asked for"
"""Reason of a bar that ``only`` leaves out."""

PROTOCOL = "vipl-hr-fold1"
FOLD = 1
"""Fold that is tested."""


@dataclass(frozen=True)
class Variant:
    """Bar of a panel."""

    key: str
    """Key of the bar in ``PANELS``."""
    overrides: tuple[str, ...] = ()
    """Changes of the recipe, as ``autohr train --set`` takes them."""
    genotype: str | None = None
    """Genotype that the bar needs, of ``GENOTYPES``; until a search has put one there, the bar needs one of its own."""
    space: tuple[str, ...] = ()
    """Changes of the search's recipe, where the bar needs a search."""
    label: str = ""
    """Name of a bar of ours, which the paper does not have; empty for the paper's."""

    @property
    def why_not(self) -> str | None:
        """Reason for which it cannot be trained before a search; None where it can."""
        if self.genotype is None or self.genotype in GENOTYPES:
            return None
        return f"needs a searched cell: the paper's is not public, and no search has given {self.genotype!r} here yet"


@dataclass(frozen=True)
class StandIn:
    """Panel on synthetic recordings, at a size that two cores can carry.

    It shows that the whole way works, and which bar is lower there. It is not the paper's experiment.
    """

    recipes: dict[str, str]
    """Key of a bar -> file among the recipes by which it is trained; their budgets are equal."""
    note: str
    overrides: tuple[str, ...] = ()
    """Changes of these recipes, for all bars."""
    search_recipe: str | None = None
    """File among the recipes, of a panel with bars that need a search."""


@dataclass(frozen=True)
class Ablation:
    """Panel of Fig. 4."""

    name: str
    recipe: str
    """File among the recipes."""
    variants: tuple[Variant, ...]
    note: str
    stand_in: StandIn
    """The same panel where VIPL-HR is not at hand."""
    search_recipe: str | None = None
    """File among the recipes, of a panel with bars that need a search."""


SYNTHETIC_FOLD_1 = dataclasses.replace(
    PROTOCOLS["reference-folds"],
    name="synthetic-fold1",
    title="synthetic recordings, 10 s windows, tested on fold 1 of 5",
    datasets=("synthetic",),
    split=KFold(5, only=FOLD),
)
"""Protocol in place of ``PROTOCOL`` where VIPL-HR is not at hand: one fold, as the paper's ablations have."""


_NOT_THE_PAPERS = (
    "On synthetic recordings and at small scale: NOT the paper's experiment, whose bars stand beside only for their "
    "order."
)
_SMALL_PHYSNET = ("net_config.preset='small'", "loss.variant='nll'")
"""PhysNet that two cores train in minutes, with a frequency loss that is not nearly flat."""
_THETAS = tuple(f"{tenths / 10:.1f}" for tenths in range(11))

_TO_AUTOHR = ("net=autohr", "net_config={}")
"""Changes that make PhysNet's recipe AutoHR's: the paper trains what it searched as it trains PhysNet."""


def _searched(key: str) -> Variant:
    name = f"searched_{key}"
    kind, tdc = key.partition("_")[::2]
    space = (f"space.kind={kind}", f"space.tdc={'true' if tdc else 'false'}")
    return Variant(key, (*_TO_AUTOHR, f"net_config.genotype={name}"), name, space)


_SEARCHED = ("shared_tdc", "shared", "varied_tdc", "varied")


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
                Variant(
                    "snr",
                    ("loss.time_weight=0.0", "loss.frequency_weight=1.0", "loss.variant='snr'"),
                    label="SNR loss (not in the paper)",
                ),
            ),
            "PhysNet with plain convolutions; one loss alone has weight 1. SNR is HR-CNN's: power at the rate over the "
            "rest of the band, in dB.",
            StandIn(
                dict.fromkeys(("time", "frequency", "overall", "snr"), "equal_physnet.toml"),
                f"{_NOT_THE_PAPERS} PhysNet has half of its channels and sees differences of frames; the frequency "
                "loss is in its steep form.",
                _SMALL_PHYSNET,
            ),
        ),
        Ablation(
            "theta",
            "physnet_paper.toml",
            tuple(Variant(theta, (f"net_config.theta={theta}",)) for theta in _THETAS),
            "PhysNet, every 3x3x3 convolution as TDC of this theta, trained with L_overall.",
            StandIn(
                dict.fromkeys(_THETAS, "equal_physnet.toml"),
                f"{_NOT_THE_PAPERS} PhysNet has half of its channels and sees differences of frames, which are "
                "temporal differences already; trained with its own loss, negative correlation.",
                _SMALL_PHYSNET,
            ),
        ),
        Ablation(
            "nas",
            "physnet_paper.toml",
            (
                # Fig. 4(c) has the value of Fig. 4(a) and (b) here: PhysNet with L_overall.
                Variant("none", ("net_config.theta=0.0",)),
                *map(_searched, _SEARCHED),
            ),
            "Searched nets are trained as PhysNet is, with L_overall.",
            StandIn(
                {"none": "equal_physnet.toml", **dict.fromkeys(_SEARCHED, "equal_autohr.toml")},
                f"{_NOT_THE_PAPERS} PhysNet and the searched nets are trained for equally many clips.",
                search_recipe="search_cpu.toml",
            ),
            search_recipe="search_paper.toml",
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
            StandIn(
                dict.fromkeys(("none", "da1", "da2", "both"), "equal_autohr.toml"),
                f"{_NOT_THE_PAPERS} AutoHR is its small preset, and the other augmentations of its recipe stay on.",
            ),
        ),
    )
}
"""Name of a panel -> its bars."""


def ablate(
    name: str,
    out: Path,
    *,
    recipes: Path | None = None,
    recipe: Path | None = None,
    overrides: Sequence[str] = (),
    search_recipe: Path | None = None,
    search_overrides: Sequence[str] = (),
    synthetic: bool = False,
    only: Sequence[str] = (),
    preset: str | None = None,
    workers: int = 1,
    cluster: str | None = None,
    progress: Callable[[Progress], None] | None = print_progress,
    say: Callable[[str], None] | None = None,
) -> AblationResult:
    """Train and test every bar of a panel of Fig. 4; what ``out`` has already is not made again.

    ``out/KEY/search`` is a search, ``out/KEY/fold_1`` a training, ``out/evaluation`` the results of all bars, and
    ``out/ablation.json`` what is returned.

    Parameters
    ----------
    recipes, recipe, search_recipe
        Folder of the recipes that ``ABLATIONS`` names, the shipped ones if None; or recipes in place of them.
    overrides, search_overrides
        Changes of the recipe, for all bars, and of the searches' recipe. What a bar is about comes after them; searches
        read the recordings and crops of the training, without the subjects that are tested.
    synthetic
        Run the panel's ``stand_in`` on synthetic recordings. There every cell is searched anew, for a shipped one may
        have seen whom the bar is tested on.
    only
        Keys of the bars to run; all if empty. The others say that they were not asked for.
    preset
        Scoring in place of the protocol's own.
    workers, cluster
        Processes, or a scheduler whose workers train and test (``evaluate_net``). Bars are made one after the other.

    Raises
    ------
    UnknownName, BadRecipe, WindowsTooShort
        No such ablation, bar or preset; a preset that needs longer windows.
    AutoHRError
        No bar could be made: the error of the first. Where only some fail, their ``why_not`` says why.
    """
    if name not in ABLATIONS:
        raise UnknownName("ablation", name, ABLATIONS)
    ablation, panel = ABLATIONS[name], PANELS[name]
    variants = {variant.key: variant for variant in ablation.variants}
    for key in only:
        if key not in variants:
            raise UnknownName(f"bar of {name}", key, variants)
    stand_in = ablation.stand_in if synthetic else None
    rule = find_protocol(PROTOCOL if stand_in is None else SYNTHETIC_FOLD_1)
    preset = preset or rule.preset
    check_protocol(rule, preset)
    # A recipe that cannot be read is reported once, and not once for each bar.
    for given in (recipe, search_recipe):
        if given is not None:
            read_recipe_table(given)

    def make_bar(key: str) -> Scores:
        variant = variants[key]
        path = recipe or find_recipe(ablation.recipe if stand_in is None else stand_in.recipes[key], recipes or FOLDER)
        small = () if stand_in is None else stand_in.overrides
        changes = [*small, *overrides, *variant.overrides]
        if variant.genotype is not None:
            genotype = variant.genotype
            if stand_in is not None or variant.why_not is not None:
                file = ablation.search_recipe if stand_in is None else stand_in.search_recipe
                search_path = search_recipe or find_recipe(str(file), recipes or FOLDER)
                changes_of_data = _training_data(path, overrides, rule)
                if say is not None:
                    say(f"{key}: searching, {', '.join(variant.space)}")
                found: Genotype = search_cell(
                    search_path,
                    [*search_overrides, *changes_of_data, *variant.space],
                    out / key / "search",
                    progress=progress,
                    say=say,
                )
                genotype = toml_inline(found.as_dict())
            own = () if read_recipe(path).net == "autohr" else _TO_AUTOHR
            # After the recipe has become AutoHR's, so that the net's size can be changed from outside.
            changes = [*own, *overrides, f"net_config.genotype={genotype}"]
        results = evaluate_net(
            path,
            changes,
            rule,
            out / key,
            out / "evaluation",
            label=f"{name}-{key}",
            folds=[FOLD] if isinstance(rule.split, KFold) else None,
            workers=workers,
            cluster=cluster,
            progress=progress,
            say=say,
        )
        return score(results, preset)

    scores, failures = make_rows(
        [key for key in variants if not only or key in only], make_bar, say=say, all_may_fail=True
    )
    bars = tuple(
        _bar(variant, panel, scores.get(key), str(failures.get(key, NOT_ASKED))) for key, variant in variants.items()
    )
    if failures and all(bar.rmse_bpm is None for bar in bars):
        raise next(iter(failures.values()))
    oracle = next((one.oracle.overall for one in scores.values() if one.oracle is not None), None)
    limits = find_preset(preset).limits
    result = AblationResult(
        name=name,
        panel=panel.panel,
        title=panel.title + ("" if stand_in is None else ", on synthetic recordings"),
        source=panel.source,
        note=ablation.note if stand_in is None else stand_in.note,
        protocol=rule.name,
        preset=preset,
        bars=bars,
        oracle=None if oracle is None else Oracle(oracle.rmse_bpm, oracle.n_scored, oracle.n),
        scoring_notes=(
            *([f"Limits of {preset}: {limits}."] if limits else []),
            *dict.fromkeys(note for one in scores.values() for note in one.notes),
        ),
    )
    write_json(out / ABLATION, {"kind": "ablation", **dataclasses.asdict(result)})
    return result


def _training_data(recipe_path: Path, overrides: Sequence[str], protocol: Protocol) -> list[str]:
    """Return the changes that make a search read the recordings that a recipe trains on, but for the tested fold."""
    training = read_recipe(recipe_path, overrides)
    changes = [
        f"data.cache={toml_inline(training.data.cache)}",
        f"data.datasets={toml_inline(training.data.datasets)}",
        *(f"crop.{key}={toml_inline(value)}" for key, value in dataclasses.asdict(training.crop).items()),
    ]
    prepared = open_prepared(Path(training.data.cache), protocol.datasets or training.data.datasets, training.crop)
    if isinstance(protocol.split, KFold):
        subjects_of = subjects_of_folds(protocol, prepared)
        changes += fold_overrides(FOLD, len(subjects_of), protocol, subjects_of[FOLD])
    return changes


def _bar(variant: Variant, panel: PublishedPanel, scores: Scores | None, why_not: str) -> Bar:
    published = None if variant.label else panel.bar(variant.key)
    figures = None if scores is None else scores.overall
    reason: str | None = why_not
    if scores is not None:
        reason = "no recording could be scored" if figures is not None and figures.rmse_bpm is None else None
    low_bpm, high_bpm = (None, None) if figures is None else figures.intervals.get("rmse_bpm", (None, None))
    return Bar(
        key=variant.key,
        label=variant.label if published is None else published.label,
        published_bpm=None if published is None else published.rmse_bpm,
        stated=published is not None and published.stated,
        rmse_bpm=None if figures is None else figures.rmse_bpm,
        low_bpm=low_bpm,
        high_bpm=high_bpm,
        n_scored=0 if figures is None else figures.n_scored,
        n=0 if figures is None else figures.n,
        why_not=reason,
    )


def ablation_sheet(result: AblationResult) -> Sheet:
    """Return the panel as a table."""
    rows = tuple(
        (
            bar.label,
            figure(bar.published_bpm) + ("" if bar.stated or bar.published_bpm is None else " *"),
            figure(bar.rmse_bpm),
            interval((bar.low_bpm, bar.high_bpm)),
            f"{bar.n_scored} of {bar.n}" if bar.n else "",
            bar.why_not or "",
        )
        for bar in result.bars
    )
    foot: tuple[tuple[str, ...], ...] = ()
    if result.oracle is not None:
        scored = f"{result.oracle.n_scored} of {result.oracle.n}"
        why_not = "" if result.oracle.n_scored else "no reference wave could be scored"
        foot = ((ORACLE.title, NOTHING, figure(result.oracle.rmse_bpm), "", scored, why_not),)
    return Sheet(
        title=f"Fig. 4({result.panel}) {result.title}: RMSE, bpm",
        columns=("", "paper", "here", "95 %", "scored", "why not"),
        rows=rows,
        text_columns=frozenset({0, 5}),
        notes=(
            f"paper: {result.source}. * read off the figure: good to about a tenth.",
            f"here: protocol {result.protocol}, scoring {result.preset}; the weights of the last step. {result.note}",
            "Differences of a tenth of a beat are below what one training differs from the next.",
            *([] if result.oracle is None else ["oracle: the error of the rule and of the reference themselves."]),
            *result.scoring_notes,
        ),
        foot=foot,
    )
