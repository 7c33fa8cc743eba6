"""Scores as one table: a row for each method, what was and was not scored below it."""

from __future__ import annotations

from collections.abc import Sequence

from autohr.evaluate.results import STATES
from autohr.evaluate.scoring import Figures, Scores, compare, find_preset
from autohr.evaluate.tables import NOTHING, Sheet, figure
from autohr.metrics import CONFIDENCE

COLUMNS = (
    "method",
    "SD",
    "MAE",
    "95 % of MAE",
    "RMSE",
    "r",
    "MAPE %",
    "within 5",
    "SNR dB",
    "MACC",
    "reliable",
    "MAE of these",
    "scored",
)


def scores_sheet(scores: Sequence[Scores], baseline: str | None = "pos") -> Sheet:
    """The scores of several methods, all of one protocol, preset and truth.

    Args:
        baseline: label of the method that the others are tested against, if it is among them; None for no test.

    Raises:
        ValueError: no scores, or scores that were not made alike.
    """
    if not scores:
        raise ValueError("There are no scores to show.")
    first = scores[0]
    if any((s.protocol, s.preset, s.truth) != (first.protocol, first.preset, first.truth) for s in scores):
        raise ValueError("These scores are of different protocols, presets or truths; make one table for each.")
    rule = find_preset(first.preset)
    truth = "the reference's rate" if first.truth == "device" else "the same rule's rate of the reference wave"
    notes = [
        f"Protocol {first.protocol}, scoring {first.preset}: {rule.title}. Source: {rule.source}.",
        f"Errors in bpm against {truth}, one reading for each {first.unit}; {100 * CONFIDENCE:.0f} % intervals by "
        f"drawing subjects. reliable: share of all readings that were scored and called reliable.",
        *_counted(scores),
        *_tested(scores, baseline),
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
    )


def groups_sheet(scores: Scores, group: str) -> Sheet:
    """One method's figures for each value of a group.

    Raises:
        KeyError: the results have no such group, or only one value of it.
    """
    return Sheet(
        title=f"{scores.method.label} by {group} ({scores.protocol}, {scores.preset})",
        columns=(group, *COLUMNS[1:]),
        rows=tuple((value, *_cells(figures)) for value, figures in scores.groups[group].items()),
        text_columns=frozenset({0}),
    )


def _cells(said: Figures) -> tuple[str, ...]:
    low_high = said.intervals.get("mae_bpm")
    return (
        figure(said.sd_bpm),
        figure(said.mae_bpm),
        NOTHING if low_high is None else f"{low_high[0]:.2f} to {low_high[1]:.2f}",
        figure(said.rmse_bpm),
        figure(said.pearson_r),
        figure(said.mape_pct),
        _percent(said.within_5),
        figure(said.snr_db, 1),
        figure(said.macc),
        _percent(said.coverage),
        figure(said.reliable_mae_bpm),
        f"{said.n_scored} of {said.n}",
    )


def _percent(share: float | None) -> str:
    return NOTHING if share is None else f"{100 * share:.0f} %"


MOST_REASONS = 5
"""Shown below a table; the others are counted."""


def _counted(scores: Sequence[Scores]) -> list[str]:
    """Every recording and every window, once where all methods agree."""
    lines: dict[str, list[str]] = {}
    for one in scores:
        counts = one.counts
        total = sum(counts.get(state, 0) for state in STATES)
        states = ", ".join(f"{counts[state]} {state}" for state in STATES if counts.get(state))
        line = (
            f"{total} recordings expected: {states}; {counts['scored_windows']} of {counts['windows']} windows scored."
        )
        if one.reasons:
            said = [f"{n} because {why.rstrip('.')}" for why, n in list(one.reasons.items())[:MOST_REASONS]]
            others = sum(list(one.reasons.values())[MOST_REASONS:])
            if others:
                said.append(f"{others} for other reasons, which the report has")
            line += f" Not scored: {'; '.join(said)}."
        lines.setdefault(line, []).append(one.method.label)
    return [line if len(lines) == 1 else f"{', '.join(labels)}: {line}" for line, labels in lines.items()]


def _tested(scores: Sequence[Scores], baseline: str | None) -> list[str]:
    against = next((one for one in scores if one.method.label == baseline), None)
    if against is None:
        return []
    said = []
    for one in scores:
        test = compare(one, against) if one is not against else None
        if test is None:
            continue
        if test.n_subjects < 2:
            said.append(f"{one.method.label}: one subject, so no test.")
            continue
        p = "no subject differs" if test.p != test.p else f"p = {test.p:.3f}" if test.p >= 0.001 else "p < 0.001"
        said.append(
            f"{one.method.label} {test.difference_bpm:+.2f} bpm ({test.low_bpm:+.2f} to {test.high_bpm:+.2f}, {p})"
        )
    if not said:
        return []
    n_subjects = max(one.overall.n_subjects for one in scores)
    few = " With fewer than six subjects p cannot fall below 0.05." if n_subjects < 6 else ""
    return [f"MAE against {baseline}, subject by subject (Wilcoxon): {'; '.join(said)}.{few}"]
