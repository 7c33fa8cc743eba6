"""Fig. 4 of the paper as data: for each of its bars, what changes in a recipe.

``ABLATIONS`` is the visible table. A bar is trained on folds 2 to 5 of VIPL-HR and judged on fold 1, as the paper does
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

from autohr.errors import AutoHRError, BadRecipe, Stopped, UnknownName
from autohr.files import read_json, write_json
from autohr.lab.evaluate.protocols import PROTOCOLS, KFold, Protocol
from autohr.lab.evaluate.published import PANELS, PublishedBar
from autohr.lab.evaluate.run import find_protocol
from autohr.lab.evaluate.scoring import ORACLE, Figures, Scores, check_protocol, find_preset, score
from autohr.lab.evaluate.tables import NOTHING, Sheet, figure
from autohr.lab.experiments.folds import fold_overrides, judge_net, open_prepared, subjects_of_folds
from autohr.lab.experiments.searches import search_cell, toml_inline
from autohr.lab.nets._genotype import GENOTYPES, Genotype
from autohr.lab.recipes.files import FOLDER, find_recipe, read_recipe_table
from autohr.lab.train.loop import Progress, print_progress
from autohr.lab.train.recipe import read_recipe

KIND = "ablation"
NOT_ASKED = "not asked for"
"""Reason of a bar that ``only`` leaves out."""

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
    """Genotype that the bar needs, of ``GENOTYPES``; until a search has put one there, the bar needs one of its own."""
    space: tuple[str, ...] = ()
    """Changes of the search's recipe, where the bar needs a search."""

    @property
    def why_not(self) -> str | None:
        """Why it cannot be trained before a search; None where it can."""
        if self.genotype is None or self.genotype in GENOTYPES:
            return None
        return f"needs a searched cell: the paper's is not public, and no search has given {self.genotype!r} here yet"


@dataclass(frozen=True)
class Ablation:
    """One panel."""

    name: str
    recipe: str
    """File among the recipes."""
    variants: tuple[Variant, ...]
    note: str
    search_recipe: str | None = None
    """File among the recipes, of a panel with bars that need a search."""
    stand_in: StandIn | None = None
    """The same panel where VIPL-HR is not at hand."""


@dataclass(frozen=True)
class StandIn:
    """A panel on synthetic recordings, at a size that two cores can carry. It shows that the whole way works, and which
    bar is lower there. It is not the paper's experiment."""

    recipes: dict[str, str]
    """Key of a bar -> file among the recipes by which it is trained; their budgets are equal."""
    search_recipe: str
    protocol: Protocol
    note: str


SYNTHETIC_FOLD_1 = dataclasses.replace(
    PROTOCOLS["reference-folds"],
    name="synthetic-fold1",
    title="synthetic recordings, 10 s windows, tested on fold 1 of 5",
    datasets=("synthetic",),
    split=KFold(5, only=FOLD),
)
"""In place of ``PROTOCOL`` where VIPL-HR is not at hand: one fold, as the paper's ablations have."""


_TO_AUTOHR = ("net=autohr", "net_config={}")
"""Makes PhysNet's recipe AutoHR's: the paper trains what it searched as it trains PhysNet."""


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
                *map(_searched, _SEARCHED),
            ),
            "Searched nets are trained as PhysNet is, with L_overall.",
            search_recipe="search_paper.toml",
            stand_in=StandIn(
                {"none": "equal_physnet.toml", **dict.fromkeys(_SEARCHED, "equal_autohr.toml")},
                "search_cpu.toml",
                SYNTHETIC_FOLD_1,
                "On synthetic recordings and at small scale: NOT the paper's experiment, whose bars stand beside only "
                "for their order. PhysNet and the searched nets are trained for equally many clips.",
            ),
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
class Oracle:
    """Error of the reference's own wave, scored by the same rule as the bars."""

    rmse_bpm: float | None
    n_scored: int
    n: int
    """Recordings scored, and tested."""


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
    oracle: Oracle | None = None
    """None where no bar was run, and in folders of versions before this field."""
    scoring_notes: tuple[str, ...] = ()
    """Notes on the scoring, one sentence or more each."""


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
    protocol: str | Protocol | None = None,
    preset: str | None = None,
    progress: Callable[[Progress], None] | None = print_progress,
    say: Callable[[str], None] | None = None,
) -> AblationResult:
    """Train and test every bar of a panel of Fig. 4; what ``out`` has already is not made again.

    Args:
        out: folder of it all: ``out/KEY/search`` a search, ``out/KEY/fold_1`` a training, ``out/evaluation`` the
            results of all bars, ``out/ablation.json`` what is returned.
        recipes: folder of the recipes that ``ABLATIONS`` names, the shipped ones if None; ``recipe`` and
            ``search_recipe`` in place of them.
        overrides: of the recipe, for all bars; what a bar is about comes after them.
        search_overrides: of the searches' recipe. Its recordings and crops are the training's whatever it says, and
            the subjects that are tested are left out.
        synthetic: the panel's ``stand_in`` on synthetic recordings. There every cell is searched anew, for a shipped
            one may have seen whom the bar is tested on.
        only: keys of the bars to run; all if empty. The others say that they were not asked for.
        protocol: in place of ``PROTOCOL``, or of the stand-in's.

    Raises:
        UnknownName: no such ablation, bar, protocol or preset.
        BadRecipe: a panel that has no stand-in.
        WindowsTooShort: a preset that needs longer windows than the protocol has.
        Stopped: a training or search was stopped by a signal; the same call goes on.
        AutoHRError: no bar could be made: the error of the first, as of ``judge_net`` or a search. Where only some
            fail, their ``why_not`` says why, and the others are made.
    """
    if name not in ABLATIONS:
        raise UnknownName("ablation", name, ABLATIONS)
    ablation, panel = ABLATIONS[name], PANELS[name]
    keys = [variant.key for variant in ablation.variants]
    for key in only:
        if key not in keys:
            raise UnknownName(f"bar of {name}", key, keys)
    stand_in = ablation.stand_in if synthetic else None
    if synthetic and stand_in is None:
        having = ", ".join(key for key, one in ABLATIONS.items() if one.stand_in is not None)
        raise BadRecipe(f"Ablation {name} has no stand-in on synthetic recordings; these have: {having}.")
    rule = find_protocol(protocol or (PROTOCOL if stand_in is None else stand_in.protocol))
    preset = preset or rule.preset
    scoring = find_preset(preset)
    check_protocol(rule, preset)
    note, title = (
        (ablation.note, panel.title) if stand_in is None else (stand_in.note, f"{panel.title}, on synthetic recordings")
    )
    # A recipe that cannot be read is said once, and not once for each bar.
    for given in (recipe, search_recipe):
        if given is not None:
            read_recipe_table(given)
    bars: list[Bar] = []
    failures: list[AutoHRError] = []
    scores: list[Scores] = []
    for variant in ablation.variants:
        published = panel.bar(variant.key)
        if only and variant.key not in only:
            bars.append(_bar(published, None, NOT_ASKED))
            continue
        try:
            path = recipe or find_recipe(
                ablation.recipe if stand_in is None else stand_in.recipes[variant.key], recipes or FOLDER
            )
            changes = [*overrides, *variant.overrides]
            if variant.genotype is not None:
                genotype = variant.genotype
                if stand_in is not None or variant.why_not is not None:
                    file = ablation.search_recipe if stand_in is None else stand_in.search_recipe
                    found = _search(
                        variant,
                        search_recipe or find_recipe(str(file), recipes or FOLDER),
                        search_overrides,
                        read_of=(path, overrides),
                        protocol=rule,
                        out=out / variant.key / "search",
                        progress=progress,
                        say=say,
                    )
                    genotype = toml_inline(found.as_dict())
                own = () if read_recipe(path).net == "autohr" else _TO_AUTOHR
                # After the recipe has become AutoHR's, so that the net's size can be changed from outside.
                changes = [*own, *overrides, f"net_config.genotype={genotype}"]
            results = judge_net(
                path,
                changes,
                rule,
                out / variant.key,
                out / "evaluation",
                label=f"{name}-{variant.key}",
                folds=[FOLD] if isinstance(rule.split, KFold) else None,
                progress=progress,
                say=say,
            )
        except Stopped:
            raise
        except AutoHRError as error:
            failures.append(error)
            bars.append(_bar(published, None, str(error)))
            if say is not None:
                say(f"{variant.key}: FAILED: {error}")
            continue
        scores.append(score(results, preset))
        bars.append(_bar(published, scores[-1].overall, None))
    if failures and all(bar.rmse_bpm is None for bar in bars):
        raise failures[0]
    oracle = None
    if scores and scores[0].oracle is not None:
        known = scores[0].oracle.overall
        oracle = Oracle(known.rmse_bpm, known.n_scored, known.n)
    notes = [f"Limits of {preset}: {scoring.limits}."] if scoring.limits else []
    notes += dict.fromkeys(note for one in scores for note in one.notes)
    result = AblationResult(
        name, panel.panel, title, panel.source, note, rule.name, preset, tuple(bars), oracle, tuple(notes)
    )
    write_json(out / "ablation.json", {"kind": KIND, **dataclasses.asdict(result)})
    return result


def _search(
    variant: Variant,
    recipe_path: Path,
    overrides: Sequence[str],
    *,
    read_of: tuple[Path, Sequence[str]],
    protocol: Protocol,
    out: Path,
    progress: Callable[[Progress], None] | None,
    say: Callable[[str], None] | None,
) -> Genotype:
    """The cell that a search finds for a bar, on the recordings that the bar is trained on.

    Args:
        read_of: the recipe of the training and its overrides, which say where those recordings are.

    Raises:
        AutoHRError: the search was stopped; the same call goes on.
    """
    training = read_recipe(*read_of)
    data = [
        f"data.cache={toml_inline(training.data.cache)}",
        f"data.datasets={toml_inline(training.data.datasets)}",
        *(f"crop.{key}={toml_inline(value)}" for key, value in dataclasses.asdict(training.crop).items()),
    ]
    prepared = open_prepared(Path(training.data.cache), protocol.datasets or training.data.datasets, training.crop)
    if isinstance(protocol.split, KFold):
        subjects_of = subjects_of_folds(protocol, prepared)
        data += fold_overrides(FOLD, len(subjects_of), protocol, subjects_of[FOLD])
    if say is not None:
        say(f"{variant.key}: searching, {', '.join(variant.space)}")
    return search_cell(recipe_path, [*overrides, *data, *variant.space], out, progress=progress, say=say)


def read_ablation(out: Path) -> AblationResult:
    """What ``ablate`` left in a folder.

    Raises:
        AutoHRError: nothing, or a damaged file.
    """
    said = read_json(out / "ablation.json")
    try:
        # Folders of earlier versions lack the fields that have a default.
        fields = {
            field.name: said[field.name]
            for field in dataclasses.fields(AblationResult)
            if field.name in said or field.default is dataclasses.MISSING
        }
        fields["bars"] = tuple(Bar(**bar) for bar in said["bars"])
        fields["oracle"] = Oracle(**said["oracle"]) if said.get("oracle") else None
        fields["scoring_notes"] = tuple(said.get("scoring_notes", ()))
        return AblationResult(**fields)
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
    foot: tuple[tuple[str, ...], ...] = ()
    if result.oracle is not None:
        foot = (
            (
                ORACLE.title,
                NOTHING,
                figure(result.oracle.rmse_bpm),
                "",
                f"{result.oracle.n_scored} of {result.oracle.n}",
                "" if result.oracle.n_scored else "no reference wave could be scored",
            ),
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
            *([] if result.oracle is None else ["oracle: the error of the rule and of the reference themselves."]),
            *result.scoring_notes,
        ),
        foot=foot,
    )
