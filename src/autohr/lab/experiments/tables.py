"""Tables I, II and III of the paper, and those of MCD-rPPG: published rows, and beside them what was measured here.

``table_sheet`` reads run directories and prints. ``make_table`` makes what is missing first: formulas are evaluated,
nets are trained by the recipes of ``NET_TRAININGS`` and tested. A row that cannot be made says why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autohr.errors import UnknownName
from autohr.lab.datasets import DATASETS
from autohr.lab.evaluate.presets import find_preset
from autohr.lab.evaluate.protocols import PROTOCOLS, Protocol
from autohr.lab.evaluate.published import ALL_FOUR, OTHER_TABLES, TABLES, PublishedRow, PublishedTable
from autohr.lab.evaluate.results import Results, read_results
from autohr.lab.evaluate.rows import make_rows
from autohr.lab.evaluate.run import find_protocol
from autohr.lab.evaluate.scoring import ORACLE, Scores, check_windows, score
from autohr.lab.evaluate.summary import find_oracles, oracle_notes
from autohr.lab.evaluate.tables import NOTHING, Sheet, figure, interval
from autohr.lab.experiments.folds import evaluate_formula, evaluate_net
from autohr.lab.recipes.files import FOLDER, find_recipe, toml_inline
from autohr.lab.train.loop import Progress, print_progress
from autohr.methods import METHODS

TableName = int | str
"""1, 2 or 3, of the paper; or a name of ``OTHER_TABLES``."""

PROTOCOL_OF: dict[TableName, str] = {
    1: "vipl-hr",
    2: "mahnob-hci",
    3: "mmse-hr",
    "mcd": "mcd-rppg",
    "mcd-vipl": "vipl-hr-from-mcd",
    "mcd-mmse": "mmse-hr-from-mcd",
    "mcd-ubfc": "ubfc-rppg-from-mcd",
    "mcd-pure": "pure-from-mcd",
}
"""Table -> its protocol in ``PROTOCOLS``."""


@dataclass(frozen=True)
class NetTraining:
    """Training of a net of a table."""

    recipe: str
    """File among the recipes."""
    overrides: tuple[str, ...] = ()
    """Changes that the table makes in it."""
    inferred: str = ""
    """Choices that are not in the paper but follow from it, or are ours."""


_TIME_ALONE = ("loss.time_weight=1.0", "loss.frequency_weight=0.0")
_MAHNOB = ('data.datasets=["mahnob_hci"]', "data.most_fps=31.0")
_RATES_ONLY = "gives rates and no wave"
_PHYSNET = NetTraining(
    "physnet_paper.toml",
    _TIME_ALONE,
    "PhysNet is trained with its own time loss, without augmentation: inferred, for Table I has the RMSE that "
    "Fig. 4(a) has for that loss (14.8).",
)
_DEEPPHYS = NetTraining("deepphys_paper.toml", (), "DeepPhys normalises each clip, where its paper has the video.")
_RHYTHMNET = NetTraining(
    "rhythmnet_paper.toml",
    (),
    f"RhythmNet {_RATES_ONLY}; without the landmarks, the skin mask and the ImageNet weights of its paper.",
)

_ON_MCD = {
    "autohr": NetTraining(
        "mcd_rppg.toml", (), "The recipe is ours: the small net, which no one has trained on MCD yet."
    ),
    "physnet": NetTraining(
        "mcd_rppg.toml", ("net=physnet", "net_config={}"), "PhysNet is trained by AutoHR's recipe, its size its own."
    ),
}

NET_TRAININGS: dict[TableName, dict[str, NetTraining]] = {
    1: {
        "autohr": NetTraining("autohr_paper.toml", (), "AutoHR's cell is a reconstruction: the paper's is not public."),
        "physnet": _PHYSNET,
        "deepphys": _DEEPPHYS,
        "i3d": NetTraining("i3d_paper.toml", (), f"I3D {_RATES_ONLY}; how the paper's was trained is not published."),
        "rhythmnet": _RHYTHMNET,
    },
    2: {
        "deepphys": replace(_DEEPPHYS, overrides=_MAHNOB),
        "rppgnet": NetTraining(
            "rppgnet_paper.toml", _MAHNOB, "rPPGNet learns from our own masks of skin, and has no video enhancer."
        ),
        "hrcnn": NetTraining(
            "hrcnn_paper.toml", _MAHNOB, f"HR-CNN {_RATES_ONLY}; the layers of its estimator are another's and ours."
        ),
        "rhythmnet": replace(_RHYTHMNET, overrides=_MAHNOB),
        "synrhythm": NetTraining(
            "synrhythm_paper.toml", _MAHNOB, f"SynRhythm {_RATES_ONLY}; reconstructed from a poster and descriptions."
        ),
        "autohr": NetTraining(
            "autohr_paper.toml",
            _MAHNOB,
            "Trained on MAHNOB-HCI alone, every second frame (30.5 per second), on a wave made of the ECG's beats: "
            "ours; the author's later practice was to fine-tune a net from VIPL-HR.",
        ),
    },
    3: {
        "rhythmnet": _RHYTHMNET,
        "autohr": NetTraining(
            "autohr_paper.toml", (), "One subject of VIPL-HR watches the training and is not learned from."
        ),
        "physnet": _PHYSNET,
    },
    **dict.fromkeys(OTHER_TABLES, _ON_MCD),
}
"""Table -> net -> how it is trained. Nets that are in no line cannot be trained for that table yet."""

HEADINGS = {"sd_bpm": "SD", "mae_bpm": "MAE", "rmse_bpm": "RMSE", "pearson_r": "r"}
"""Field of a row -> heading of its column."""


def default_folder(number: TableName) -> Path:
    """Return the folder of a table's trainings and results. All tables of MCD-rPPG have one.

    A net that was trained on all of MCD-rPPG for one table is then tested for the others without another training.
    """
    return Path("runs") / ("table_mcd" if number in OTHER_TABLES else f"table{number}")


def evaluation_folder(out: Path, number: TableName) -> Path:
    """Return where in the folder of a table its results lie."""
    name = str(number).removeprefix("mcd")
    return out / (f"evaluation{name}" if number in OTHER_TABLES else "evaluation")


def make_table(
    number: TableName,
    out: Path,
    *,
    cache: Path = Path("cache"),
    recipes: Path | None = None,
    overrides: Sequence[str] = (),
    only: Sequence[str] = (),
    workers: int = 1,
    cluster: str | None = None,
    progress: Callable[[Progress], None] | None = print_progress,
    say: Callable[[str], None] | None = None,
) -> dict[str, str]:
    """Evaluate every row of a table that can be, into ``evaluation_folder``, and return why the others were not made.

    What is there already is not made again; ``out/METHOD/fold_1`` and so on are the trainings. A row that fails does
    not end the others. Raises UnknownName where there is no such table or method.

    Parameters
    ----------
    cache
        Folder that ``autohr prepare`` wrote; it replaces the recipes' own.
    recipes, overrides
        Folder of the recipes that ``NET_TRAININGS`` names, the shipped ones if None; and changes of every recipe.
    only
        Names of the methods to make; all that can be if empty. Others of ``METHODS`` may be among them.
    workers, cluster
        Processes, or a scheduler whose workers train the folds and test side by side (``evaluate_net``).
    """
    table, rule = find_table(number), find_protocol(PROTOCOL_OF[number])
    say = say or (lambda line: None)
    names = list(only) or [row.method for row in table.rows]
    for name in only:
        if name not in METHODS:
            raise UnknownName("method", name, METHODS)
    evaluation = evaluation_folder(out, number)
    reasons = {name: reason for name in names if (reason := why_not(number, name)) is not None}

    def make_row(name: str) -> Results:
        if not METHODS[name].is_net:
            say(f"{name}: testing")
            return evaluate_formula(METHODS[name], rule, evaluation, cache=cache, workers=workers, cluster=cluster)
        training = NET_TRAININGS[number][name]
        return evaluate_net(
            find_recipe(training.recipe, recipes or FOLDER),
            [f"data.cache={toml_inline(str(cache))}", *training.overrides, *overrides],
            rule,
            out / name,
            evaluation,
            label=name,
            workers=workers,
            cluster=cluster,
            progress=progress,
            say=say,
        )

    _, failures = make_rows([name for name in names if name not in reasons], make_row, say=say, all_may_fail=True)
    return {name: reasons.get(name) or str(failures[name]) for name in names if name in reasons or name in failures}


def why_not(number: TableName, method: str) -> str | None:
    """Return why this version cannot make a row; None where it can, given the data."""
    if method not in METHODS:
        return "this version does not have it"
    if METHODS[method].is_net and method not in NET_TRAININGS[number]:
        return "no recipe for this table"
    return None


def find_table(number: TableName) -> PublishedTable:
    """Return a table of the paper by its number, or another by its name; UnknownName where there is no such table."""
    for tables in (TABLES, OTHER_TABLES):
        if number in tables:
            return tables[number]  # type: ignore[index]
    raise UnknownName("table", str(number), map(str, [*TABLES, *OTHER_TABLES]))


def table_sheet(
    number: TableName,
    runs: Sequence[Path],
    *,
    why: Mapping[str, str] | None = None,
    preset: str | None = None,
    protocol: str | Protocol | None = None,
) -> Sheet:
    """Return a table with the published figures of every row, and those of the results in ``runs``.

    Methods that the paper's table does not have follow after its rows. The foot of the table is the oracle: the
    reference's own wave, scored by the same rule. Runs of another protocol are named below the table and left out;
    ``why`` has the reasons of ``make_table`` for rows without results. Raises UnknownName where there is no such table,
    preset or protocol, WindowsTooShort for a preset that needs longer windows than the protocol has.
    """
    table, rule = find_table(number), find_protocol(protocol or PROTOCOL_OF[number])
    preset = preset or rule.preset
    scoring = find_preset(preset)
    why = why or {}
    notes: list[str] = []
    scored: list[Scores] = []
    run_of: dict[int, Path] = {}
    for folder in runs:
        for results in read_results(folder):
            if results.protocol.get("name") != rule.name:
                notes.append(
                    f"Left out: {results.method.label} in {folder}, judged by protocol "
                    f"{results.protocol.get('name')} and not {rule.name}."
                )
                continue
            check_windows(results, preset)
            scored.append(score(results, preset))
            run_of[id(scored[-1])] = folder
            notes += _completeness(results, table)
    rows: list[tuple[str, ...]] = []

    def made_row(published: PublishedRow | None, one: Scores) -> tuple[str, ...]:
        # A row that failed now may show what was made before.
        remarks = [why.get(one.method.label, "")]
        if sum(other.method.label == one.method.label for other in scored) > 1:
            remarks.append(f"of {run_of[id(one)]}")
        return _row(table, published, one, "; ".join(filter(None, remarks)))

    for published in table.rows:
        own = [one for one in scored if one.method.name == published.method]
        missing = "not in these runs" if runs else f"not evaluated yet: autohr table {number} --make"
        reason = why.get(published.method) or why_not(number, published.method) or missing
        rows += [made_row(published, one) for one in own] or [_row(table, published, None, reason)]
    oracles = find_oracles(scored)
    in_paper = {row.method for row in table.rows}
    made = {one.method.name for one in scored}
    rows += [made_row(None, one) for one in scored if one.method.name not in in_paper]
    rows += [_row(table, None, None, reason, name) for name, reason in why.items() if name not in in_paper | made]
    inferred = [one.inferred for name, one in NET_TRAININGS[number].items() if name in made and one.inferred]
    return Sheet(
        title=table.heading,
        columns=(
            "method",
            "kind",
            *(f"paper {HEADINGS[column]}" for column in table.columns),
            *(f"here {HEADINGS[column]}" for column in _measured(table)),
            "95 % of RMSE",
            "videos",
            "remark",
        ),
        rows=tuple(rows),
        text_columns=frozenset({0, 1, 4 + len(table.columns) + len(_measured(table))}),
        notes=(
            f"paper: {table.source}; bpm, r without unit. {table.about}.",
            *_contradictions(table),
            f"here: protocol {rule.name} ({rule.title}), scoring {preset} ({scoring.title}). {_first_up(rule.basis)}.",
            *([f"Limits of {preset}: {scoring.limits}."] if scoring.limits else []),
            *oracle_notes(oracles),
            *inferred,
            *dict.fromkeys([*notes, *(note for one in scored for note in one.notes)]),
        ),
        foot=tuple(_row(table, None, one, "") for one in oracles),
    )


def _row(
    table: PublishedTable, published: PublishedRow | None, own: Scores | None, reason: str, name: str = ""
) -> tuple[str, ...]:
    title = published.title if published is not None else own.method.title if own is not None else METHODS[name].title
    if published is not None and published.contradicts_itself:
        title += " +"
    paper = [_printed(published, column) for column in table.columns]
    if own is None:
        here, rmse_interval, videos, remark = [None] * len(_measured(table)), "", "", reason
    else:
        here = [getattr(own.overall, column) for column in _measured(table)]
        rmse_interval = interval(own.overall.intervals.get("rmse_bpm"))
        videos = f"{own.overall.n_scored} of {own.overall.n}"
        remark = "; ".join(filter(None, (_remark(own) if own.method.name != ORACLE.name else "", reason)))
    kind = "" if published is None else published.kind.replace("learned", "learned, not end-to-end")
    return (title, kind, *paper, *(figure(value) for value in here), rmse_interval, videos, remark)


def _measured(table: PublishedTable) -> tuple[str, ...]:
    """Return the columns of what was measured here: the paper's, or all where it prints a part of one of ours."""
    return ALL_FOUR if table.number == 0 else table.columns


def _printed(published: PublishedRow | None, column: str) -> str:
    """Return a published figure with as many decimals as the paper has."""
    if published is None:
        return NOTHING
    return figure(getattr(published, column), 2 if column == "pearson_r" else published.digits)


def _remark(own: Scores) -> str:
    pending = own.counts.get("pending")
    remarks = (
        own.method.label if own.method.label != own.method.name else "",
        f"nets of {len(own.method.folds)} fold(s)" if own.method.folds else "",
        f"{pending} recording(s) pending" if pending else "",
        "rates only" if own.rate_only else "",
    )
    return "; ".join(filter(None, remarks))


def _completeness(results: Results, table: PublishedTable) -> list[str]:
    """Return a note where the results are of less than the dataset, so that nobody takes a part for the whole."""
    expected = DATASETS[table.tested_on].n_recordings if table.tested_on in DATASETS else None
    there = sum(account.state not in ("absent", "pending") for account in results.accounts)
    if expected is None or there >= expected:
        return []
    title = DATASETS[table.tested_on].title
    return [f"{results.method.label}: {there} of the {expected} recordings of {title}. This is not the table's test."]


def _contradictions(table: PublishedTable) -> list[str]:
    named = [row.title for row in table.rows if row.contradicts_itself]
    if not named:
        return []
    return [f"+ {', '.join(named)}: as printed; an SD above the RMSE is impossible (RMSE^2 = bias^2 + SD^2)."]


def _first_up(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


assert set(PROTOCOL_OF) == {*TABLES, *OTHER_TABLES} == set(NET_TRAININGS) and set(PROTOCOL_OF.values()) <= set(
    PROTOCOLS
)
