"""Scores as one table: a row for each method, the oracle below them, and notes on what was and was not scored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from autohr.lab.evaluate.presets import find_preset
from autohr.lab.evaluate.results import STATES
from autohr.lab.evaluate.scoring import Figures, Scores, compare
from autohr.lab.evaluate.tables import NOTHING, Sheet, figure, interval
from autohr.lab.metrics import CONFIDENCE

COLUMNS = tuple("method|SD|MAE|95 % of MAE|RMSE|r|MAPE %|within 5|SNR dB|MACC|reliable|MAE of these|scored".split("|"))


def scores_sheet(scores: Sequence[Scores], baseline: str | None = "pos") -> Sheet:
    """Return the scores of several methods, all of one protocol, preset and truth, as a table.

    The foot of the table is the oracle: the reference's own wave, scored by the same rule.

    ``baseline`` is the label of the method that the others are tested against, if it is among them. Raises ValueError
    for no scores, or scores that were not made alike.
    """
    if not scores:
        raise ValueError("There are no scores to show.")
    first = scores[0]
    if any((s.protocol, s.preset, s.truth) != (first.protocol, first.preset, first.truth) for s in scores):
        raise ValueError("These scores are of different protocols, presets or truths; make one table for each.")
    rule = find_preset(first.preset)
    truth = "the reference's rate" if first.truth == "device" else "the same rule's rate of the reference wave"
    oracles = find_oracles(scores)
    notes = [
        f"Protocol {first.protocol}, scoring {first.preset}: {rule.title}. Source: {rule.source}.",
        *([f"Limits of {rule.name}: {rule.limits}."] if rule.limits else []),
        f"Errors in bpm against {truth}, one reading for each {first.unit}; {100 * CONFIDENCE:.0f} % intervals by "
        f"drawing subjects. reliable: share of all readings that were scored and called reliable.",
        *oracle_notes(oracles),
        *_counts(scores),
        *_tests(scores, baseline),
        *dict.fromkeys(note for one in scores for note in one.notes),
    ]
    if any(one.rate_only for one in scores):
        notes.append("*: gives rates and no wave.")
    return Sheet(
        title=f"{first.protocol}, scored as {first.preset}",
        columns=COLUMNS,
        rows=tuple((one.method.label + ("*" if one.rate_only else ""), *_cells(one.overall)) for one in scores),
        text_columns=frozenset({0}),
        notes=tuple(notes),
        foot=tuple((one.method.title, *_cells(one.overall)) for one in oracles),
    )


def find_oracles(scores: Sequence[Scores]) -> list[Scores]:
    """Return the oracles of several methods' scores, each once: methods of other crops can have other windows."""
    different: list[Scores] = []
    for one in scores:
        if one.oracle is not None and all(one.oracle.overall != other.overall for other in different):
            different.append(one.oracle)
    return different


def oracle_notes(oracles: Sequence[Scores]) -> list[str]:
    """Return the note that explains the oracle's row; [] without an oracle."""
    if not oracles:
        return []
    about = (
        "oracle: the reference's own wave in place of a method's, read by the same rule, against the device's rate. "
        "Its error is that of the rule and of the reference themselves, on the readings that have a reference wave."
    )
    if not any(one.overall.n_scored for one in oracles):
        reasons = Counter({why: n for one in oracles for why, n in one.reasons.items()})
        most = next(iter(reasons), "no window")
        return [f"{about} None could be scored here ({most}), so that the rule was not checked on these recordings."]
    if len(oracles) > 1:
        return [f"{about} It has several rows because the methods were given different windows."]
    return [about]


def groups_sheet(scores: Scores, group: str) -> Sheet:
    """Return one method's figures for each value of a group as a table, and below it the oracle's.

    Raises KeyError where the results have no such group, or only one value of it.
    """
    return Sheet(
        title=f"{scores.method.label} by {group} ({scores.protocol}, {scores.preset})",
        columns=(group, *COLUMNS[1:]),
        rows=tuple((value, *_cells(figures)) for value, figures in scores.groups[group].items()),
        text_columns=frozenset({0}),
        foot=()
        if scores.oracle is None
        else tuple(
            (f"{value}: {scores.oracle.method.label}", *_cells(figures))
            for value, figures in scores.oracle.groups.get(group, {}).items()
        ),
        notes=tuple(oracle_notes([] if scores.oracle is None else [scores.oracle])),
    )


def _cells(figures: Figures) -> tuple[str, ...]:
    return (
        figure(figures.sd_bpm),
        figure(figures.mae_bpm),
        interval(figures.intervals.get("mae_bpm"), NOTHING),
        figure(figures.rmse_bpm),
        figure(figures.pearson_r),
        figure(figures.mape_pct),
        _percent(figures.within_5),
        figure(figures.snr_db, 1),
        figure(figures.macc),
        _percent(figures.coverage),
        figure(figures.reliable_mae_bpm),
        f"{figures.n_scored} of {figures.n}",
    )


def _percent(share: float | None) -> str:
    return NOTHING if share is None else f"{100 * share:.0f} %"


MAX_REASONS = 5
"""Number of reasons that are named below a table; the others are counted."""


def _counts(scores: Sequence[Scores]) -> list[str]:
    """Return the counts of recordings and windows in words, once where all methods agree."""
    lines: dict[str, list[str]] = {}
    for one in scores:
        counts = one.counts
        total = sum(counts.get(state, 0) for state in STATES)
        states = ", ".join(f"{counts[state]} {state}" for state in STATES if counts.get(state))
        line = (
            f"{total} recordings expected: {states}; {counts['scored_windows']} of {counts['windows']} windows scored."
        )
        if one.reasons:
            reasons = [f"{n} because {why.rstrip('.')}" for why, n in list(one.reasons.items())[:MAX_REASONS]]
            others = sum(list(one.reasons.values())[MAX_REASONS:])
            if others:
                reasons.append(f"{others} for other reasons, which the report has")
            line += f" Not scored: {'; '.join(reasons)}."
        lines.setdefault(line, []).append(one.method.label)
    return [line if len(lines) == 1 else f"{', '.join(labels)}: {line}" for line, labels in lines.items()]


def _tests(scores: Sequence[Scores], baseline: str | None) -> list[str]:
    """Return the paired tests of the methods against the baseline in words; [] without any."""
    against = next((one for one in scores if one.method.label == baseline), None)
    if against is None:
        return []
    tests = []
    for one in scores:
        test = compare(one, against) if one is not against else None
        if test is None:
            continue
        if test.n_subjects < 2:
            tests.append(f"{one.method.label}: one subject, so no test.")
            continue
        p = "no subject differs" if test.p != test.p else f"p = {test.p:.3f}" if test.p >= 0.001 else "p < 0.001"
        tests.append(
            f"{one.method.label} {test.difference_bpm:+.2f} bpm ({test.low_bpm:+.2f} to {test.high_bpm:+.2f}, {p})"
        )
    if not tests:
        return []
    n_subjects = max(one.overall.n_subjects for one in scores)
    few = " With fewer than six subjects p cannot fall below 0.05." if n_subjects < 6 else ""
    return [f"MAE against {baseline}, subject by subject (Wilcoxon): {'; '.join(tests)}.{few}"]
