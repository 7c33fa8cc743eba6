"""Stored waves scored by every preset: what each is known to do, and what the reference must not do."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from autohr.errors import AutoHRError, UnknownName, WindowsTooShort
from autohr.lab import metrics
from autohr.lab.evaluate.presets import PRESETS, check_rule, misread_rates
from autohr.lab.evaluate.results import Account, MethodInfo, Results, WindowResult
from autohr.lab.evaluate.scoring import Figures, check_windows, compare, score
from autohr.lab.evaluate.summary import COLUMNS, groups_sheet, scores_sheet
from autohr.lab.evaluate.tables import FORMATS, render_sheet
from autohr.signals.simulate import simulate_pulse
from autohr.types import Float

FPS = 30.0


def sine(hr_bpm: float, seconds: float = 10.0, fps: float = FPS, phase: float = 0.3) -> Float:
    wave: Float = np.sin(2 * np.pi * hr_bpm / 60 * np.arange(round(seconds * fps)) / fps + phase)
    return wave


def window(subject: str, true_bpm: float, read_bpm: float | None = None, **changed: Any) -> WindowResult:
    """A window whose wave beats at ``read_bpm`` and whose truth beats at ``true_bpm``."""
    read_bpm = true_bpm if read_bpm is None else read_bpm
    seconds = changed.pop("seconds", 10.0)
    start_s = changed.get("start_s", 0.0)
    fields: dict[str, Any] = {
        "recording_id": f"made/{subject}/a",
        "dataset": "made",
        "subject": subject,
        "session": "a",
        "fold": None,
        "groups": {},
        "start_s": start_s,
        "end_s": start_s + seconds,
        "fps": FPS,
        "bvp": sine(read_bpm, seconds),
        "hr_bpm": read_bpm,
        "confidence": 0.9,
        "reliable": True,
        "snr_db": 5.0,
        "why": None,
        "true_bvp": sine(true_bpm, seconds, phase=1.0),
        "true_hr_bpm": true_bpm,
        "true_wave_hr_bpm": true_bpm,
        "method": "pos",
        "weights": None,
    }
    return WindowResult(**(fields | changed))


BLANK: dict[str, Any] = {"bvp": None, "hr_bpm": None, "reliable": False, "true_hr_bpm": None, "true_bvp": None}
"""Fields of a window with neither a rate nor a truth."""


def results(*windows: WindowResult, label: str = "pos", **protocol: Any) -> Results:
    ids = sorted({one.recording_id for one in windows})
    accounts = tuple(Account(one, "scored", None, 1, 1, "made") for one in ids)
    fields = {"name": "mine", "unit": "window", "window_s": 10.0} | protocol
    return Results(MethodInfo(label, label, label.upper()), fields, windows, accounts)


RATES = (47.3, 58.8, 71.1, 84.6, 97.9, 118.2)


def test_a_ten_second_label_is_quantised_by_the_toolbox_and_not_by_the_reference() -> None:
    """512 points at 30 frames per second: 3.52 bpm."""
    made = results(*(window(f"s{k}", rate) for k, rate in enumerate(RATES)))
    grid = 60 * FPS / 512
    for name in ("toolbox-2023", "toolbox-2024"):
        for unit, rate in zip(score(made, name, n_draws=0).units, RATES, strict=True):
            assert unit.true_hr_bpm is not None and unit.hr_bpm is not None
            steps = unit.true_hr_bpm / grid
            assert steps == pytest.approx(round(steps), abs=1e-9)
            assert unit.hr_bpm == unit.true_hr_bpm, "estimate and label fall on the same line, so the error is 0"
            assert abs(unit.true_hr_bpm - rate) <= grid
    exact = score(made, "reference", n_draws=0, truth="wave")
    for unit, rate in zip(exact.units, RATES, strict=True):
        assert unit.hr_bpm == pytest.approx(rate, abs=0.05)
        assert unit.true_hr_bpm == pytest.approx(rate, abs=0.05)
    off_grid = [
        abs(unit.true_hr_bpm / grid - round(unit.true_hr_bpm / grid)) for unit in exact.units if unit.true_hr_bpm
    ]
    assert max(off_grid) > 0.2


@pytest.mark.parametrize("seconds, grid_bpm", [(6.0, 7.03), (10.0, 3.52), (30.0, 1.76), (60.0, 0.88)])
def test_the_toolboxs_grid_by_length(seconds: float, grid_bpm: float) -> None:
    rates = np.arange(60.0, 75.0, 0.25)
    read = {PRESETS["toolbox-2024"].rate(sine(rate, seconds), FPS) for rate in rates}
    steps = np.diff(sorted(rate for rate in read if rate is not None))
    assert steps.min() == pytest.approx(grid_bpm, abs=0.01)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_finds_a_clean_pulse_within_its_own_resolution(name: str) -> None:
    """30 s with a second harmonic of 0.3, at 20 and 30 frames per second."""
    for fps in (20.0, 30.0):
        for hr_bpm in (52.0, 75.0, 120.0):
            pulse = sine(hr_bpm, 30.0, fps) + 0.3 * sine(2 * hr_bpm, 30.0, fps)
            read = PRESETS[name].rate(pulse, fps)
            assert read == pytest.approx(hr_bpm, abs=3.0), (fps, hr_bpm)


def test_the_toolboxs_detrending_moves_with_the_frame_rate() -> None:
    """Lambda 100 cuts at 0.6 Hz at 30 frames per second and at 1.2 at 60, where 52 bpm is lost."""
    for fps, read_as in ((30.0, 52.0), (60.0, 104.0)):
        pulse = sine(52.0, 30.0, fps) + 0.3 * sine(104.0, 30.0, fps)
        assert PRESETS["toolbox-2024"].rate(pulse, fps) == pytest.approx(read_as, abs=2.0)
        assert PRESETS["reference"].rate(pulse, fps) == pytest.approx(52.0, abs=0.2)


def test_only_the_reference_and_the_paper_read_a_slow_pulse_whose_fundamental_the_tools_weaken() -> None:
    """The tools take the highest line, and their filters weaken slow fundamentals: 52 bpm is read as 104."""
    pulse = simulate_pulse(30.0, 60.0, 52.0, hrv=0.02, seed=5, dicrotic=0.3).bvp
    assert PRESETS["reference"].rate(pulse, 60.0) == pytest.approx(52.0, abs=2.0)
    assert PRESETS["paper"].rate(pulse, 60.0) == pytest.approx(52.0, abs=2.0)
    for name in ("toolbox-2023", "toolbox-2024", "physformer", "paper-filter"):
        assert PRESETS[name].rate(pulse, 60.0) == pytest.approx(104.0, abs=4.0), name


@pytest.mark.parametrize("name", ["toolbox-2023", "toolbox-2024", "physbench", "physformer"])
def test_a_rate_above_a_tools_band_cannot_be_read(name: str) -> None:
    """Rates above the upper cut are missed silently by the tools; the reference reads them."""
    fast = {"toolbox-2023": 165.0, "toolbox-2024": 215.0, "physbench": 200.0, "physformer": 250.0}[name]
    read = PRESETS[name].rate(sine(fast, 30.0), FPS)
    assert read is None or abs(read - fast) > 5
    assert PRESETS["reference"].rate(sine(165.0, 30.0), FPS) == pytest.approx(165.0, abs=0.05)


def test_the_toolboxs_snr_before_and_after_its_correction() -> None:
    """20 log10 of a ratio of powers is twice the decibels."""
    rng = np.random.default_rng(0)
    wave = sine(75.0, 30.0) + rng.standard_normal(900)
    narrow = dataclasses.replace(PRESETS["toolbox-2023"], snr=lambda w, f, r: PRESETS["toolbox-2023"].snr(w, f, r) / 2)
    before, after = PRESETS["toolbox-2023"].snr(wave, FPS, 75.0), PRESETS["toolbox-2024"].snr(wave, FPS, 75.0)
    assert narrow.snr(wave, FPS, 75.0) == pytest.approx(after, abs=2.0), "only the band differs then"
    assert before > after + 3


def test_the_toolboxs_filter_is_the_published_one() -> None:
    """(I + 100^2 D'D)^-1 as a dense inverse, then filtfilt of order 1, written out."""
    from scipy.signal import butter, filtfilt

    from autohr.lab.evaluate.presets import _toolbox_filter

    wave = np.cumsum(np.random.default_rng(1).standard_normal(200))
    second = np.diff(np.eye(200), 2, axis=0)
    flat = wave - np.linalg.solve(np.eye(200) + 100.0**2 * second.T @ second, wave)
    b, a = butter(1, [0.6 / FPS * 2, 3.3 / FPS * 2], btype="bandpass")
    np.testing.assert_allclose(_toolbox_filter(wave, FPS, (0.6, 3.3)), filtfilt(b, a, flat), atol=1e-8)


def test_macc_of_the_toolbox_takes_any_shift_and_sign() -> None:
    rng = np.random.default_rng(2)
    true = np.convolve(rng.standard_normal(1200), np.hanning(9), "same")
    made = results(window("s", 60.0, seconds=40.0, bvp=-np.roll(true, 500), true_bvp=true, hr_bpm=60.0))
    (toolbox,) = score(made, "toolbox-2024", n_draws=0).units
    (ours,) = score(made, "reference", n_draws=0).units
    assert toolbox.macc == pytest.approx(1.0, abs=0.02)
    assert ours.macc is not None and ours.macc < 0.7


def test_the_papers_video_is_the_mean_of_its_clips() -> None:
    clips = [window("s", true, read, start_s=10.0 * k) for k, (true, read) in enumerate(((70, 66), (76, 90), (82, 84)))]
    (video,) = score(results(*clips), "paper", n_draws=0).units
    assert video.true_hr_bpm == pytest.approx(76.0)
    assert video.hr_bpm == pytest.approx(80.0, abs=1.5)
    assert (video.n_windows, video.n_scored) == (3, 3)
    lost = dataclasses.replace(clips[1], bvp=None, hr_bpm=None, true_bvp=None, true_hr_bpm=None, why="no face")
    scores = score(results(clips[0], lost, clips[2]), "paper", n_draws=0)
    assert scores.overall.n_scored == 1
    assert "1 recording(s) are means of fewer windows" in scores.notes[0]


def test_physformer_reads_three_parts_and_the_paper_one() -> None:
    """A rate that rises from part to part: three spectra average it, one finds the part that is strongest."""
    wave = np.concatenate([3 * sine(60.0, 10.0), sine(80.0, 10.0), sine(100.0, 10.0)])
    assert PRESETS["physformer"].rate(wave, FPS) == pytest.approx(80.0, abs=2.5)
    assert PRESETS["paper-filter"].rate(wave, FPS) == pytest.approx(60.0, abs=2.5)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_counts_what_it_cannot_score(name: str) -> None:
    rated = [window(f"s{k}", rate, start_s=10.0) for k, rate in enumerate(RATES)]
    lost = [
        window("s0", 60.0, start_s=20.0, why="no face", **BLANK),
        window("s1", 60.0, start_s=20.0, seconds=0.2, why=None),
        window("t", 60.0, start_s=20.0, fps=5.0, seconds=60.0, why=None),
    ]
    made = results(*rated, *lost)
    scores = score(made, name, n_draws=50)
    unscored = [unit for unit in scores.units if not unit.scored]
    assert unscored and all(unit.why for unit in unscored)
    assert sum(scores.reasons.values()) == len(unscored)
    assert scores.overall.n == len(scores.units) == scores.overall.n_scored + len(unscored)
    assert scores.overall.coverage == pytest.approx(scores.overall.n_reliable / scores.overall.n)
    assert scores.overall.n_reliable < scores.overall.n
    assert scores.counts["windows"] == len(made.windows)


def test_figures_are_those_of_the_metrics_over_what_was_scored() -> None:
    rng = np.random.default_rng(3)
    pairs = [(true, true + error) for true, error in zip(rng.uniform(50, 110, 24), rng.normal(1, 4, 24), strict=True)]
    windows = [
        window(
            f"s{k % 8}",
            true,
            estimated,
            start_s=10.0 * k,
            reliable=k % 3 > 0,
            groups={"light": "dim" if k % 2 else "bright"},
        )
        for k, (true, estimated) in enumerate(pairs)
    ]
    scores = score(results(*windows), n_draws=200)
    true = np.array([t for t, _ in pairs])
    estimated = np.array([unit.hr_bpm for unit in scores.units], dtype=float)
    np.testing.assert_allclose(estimated, [s for _, s in pairs], atol=0.1)
    overall = scores.overall
    assert overall.mae_bpm == pytest.approx(metrics.mae(estimated, true))
    assert overall.rmse_bpm == pytest.approx(metrics.rmse(estimated, true))
    assert overall.sd_bpm == pytest.approx(metrics.sd(estimated, true))
    assert overall.pearson_r == pytest.approx(metrics.pearson(estimated, true))
    is_reliable = np.arange(24) % 3 > 0
    assert overall.coverage == pytest.approx(is_reliable.mean())
    assert overall.reliable_mae_bpm == pytest.approx(metrics.mae(estimated[is_reliable], true[is_reliable]))
    low, high = overall.intervals["mae_bpm"]
    assert overall.mae_bpm is not None and low < overall.mae_bpm < high
    dim = scores.groups["light"]["dim"]
    assert dim.n == 12 and dim.mae_bpm == pytest.approx(metrics.mae(estimated[1::2], true[1::2]))
    assert "dataset" not in scores.groups, "a group with one value splits nothing"


def test_a_method_without_waves_is_scored_by_its_rates_and_marked() -> None:
    made = results(*(window(f"s{k}", rate, rate + 2, bvp=None) for k, rate in enumerate(RATES)), label="rhythm")
    scores = score(made, n_draws=0)
    assert scores.rate_only and scores.overall.mae_bpm == pytest.approx(2.0)
    assert scores.overall.snr_db is None and scores.overall.macc is None
    assert scores_sheet([scores]).rows[0][0] == "rhythm*"
    assert not score(results(window("s", 60.0)), n_draws=0).rate_only


def test_a_preset_that_reads_the_label_wave_names_windows_without_one() -> None:
    made = results(window("s", 60.0, true_bvp=None), window("t", 70.0))
    scores = score(made, "toolbox-2024", n_draws=0)
    assert [unit.why for unit in scores.units] == ["no reference wave", None]
    assert score(made, "reference", n_draws=0).overall.n_scored == 2
    assert any("whole videos" in note for note in scores.notes)


def test_the_paired_test_is_over_readings_that_both_scored() -> None:
    names = [f"s{k}" for k in range(9)]
    good = results(*(window(name, 70.0, 71.0) for name in names))
    bad = results(*(window(name, 70.0, 76.0 + k / 10) for k, name in enumerate(names[:-1])), label="green")
    test = compare(score(bad, n_draws=0), score(good, n_draws=0))
    assert test is not None
    assert test.n_subjects == 8 and test.p < 0.01 and test.low_bpm > 4
    with pytest.raises(AutoHRError, match="preset"):
        compare(score(bad, "paper", n_draws=0), score(good, n_draws=0))


def test_an_unknown_preset_is_named_with_the_known_ones() -> None:
    with pytest.raises(UnknownName, match="toolbox-2024"):
        score(results(window("s", 60.0)), "toolbox")


def test_presets_name_their_source_basis_and_limits() -> None:
    names = ["reference", "paper", "paper-filter", "toolbox-2023", "toolbox-2024", "physformer", "physbench"]
    assert list(PRESETS) == names
    for name, preset in PRESETS.items():
        assert preset.name == name and preset.source and preset.basis and preset.title and preset.limits
        assert bool(preset.least_s) == bool(preset.least_why)


@pytest.mark.parametrize("form", FORMATS)
def test_the_table_shows_every_method_and_every_count(form: str) -> None:
    lost = window("s0", 60.0, start_s=30.0, why="the face was lost", **BLANK)
    good = results(*(window(f"s{k}", rate) for k, rate in enumerate(RATES)), lost)
    bad = results(*(window(f"s{k}", rate, rate + 9) for k, rate in enumerate(RATES)), lost, label="green")
    sheet = scores_sheet([score(one, n_draws=50) for one in (good, bad)])
    assert sheet.columns == COLUMNS and [row[0] for row in sheet.rows] == ["pos", "green"]
    assert sheet.rows[1][2] == "9.00" and sheet.rows[0][-1] == "6 of 7"
    text = " ".join(render_sheet(sheet, form).split())
    for words in ("6 of 7 windows scored", "1 because the face was lost", "green +9.0", "p = 0.03"):
        assert words in text.replace(r"\_", "_"), words
    assert math.isclose(float(sheet.rows[0][1]), 0.0, abs_tol=0.05)


def test_reasons_that_do_not_fit_below_a_table_are_counted() -> None:
    lost = [window("s0", 60.0, start_s=30.0 + k, why=f"reason {k}.", **BLANK) for k in range(8)]
    good = results(*(window(f"s{k}", rate) for k, rate in enumerate(RATES)), *lost)
    text = " ".join(render_sheet(scores_sheet([score(good, n_draws=20)]), "text").split())
    assert "1 because reason 4; 3 for other reasons" in text and ".." not in text


def test_a_group_is_a_table_too() -> None:
    made = results(*(window(f"s{k}", rate, groups={"task": "ab"[k % 2]}) for k, rate in enumerate(RATES)))
    sheet = groups_sheet(score(made, n_draws=0), "task")
    assert [row[0] for row in sheet.rows] == ["a", "b"] and sheet.rows[0][-1] == "3 of 3"


def test_nothing_scored_leaves_figures_empty() -> None:
    scores = score(results(window("s", 60.0, why="no face", **BLANK)))
    assert scores.overall == Figures(n=1, n_scored=0, n_reliable=0, n_subjects=0, coverage=0.0)
    assert scores_sheet([scores]).rows[0][1] == "-"


# ---------------------------------------------------------------------------------------------------------------------
# Perfect waves


def pulse(hr_bpm: float, seconds: float, fps: float = FPS, seed: int = 0, **changed: Any) -> Float:
    """A clean simulated pulse wave with a dicrotic wave, beating evenly."""
    return simulate_pulse(seconds, fps, hr_bpm, seed=seed, **({"hrv": 0.0} | changed)).bvp


EVERY_BPM = tuple(range(45, 151, 5))
OWN_S = {
    "reference": (5.0, 10.0, 30.0),
    "paper": (4.0, 5.0, 10.0),
    "paper-filter": (10.0,),
    "toolbox-2023": (10.0, 30.0),
    "toolbox-2024": (10.0, 30.0),
    "physformer": (30.0,),
    "physbench": (10.0, 30.0),
}
"""Preset -> lengths of window that it is made for, in seconds."""
DOUBLED_BELOW = {
    ("paper-filter", 10.0, 25.0): 60,
    ("paper-filter", 10.0, 30.0): 60,
    ("toolbox-2023", 10.0, 25.0): 50,
    ("toolbox-2023", 10.0, 30.0): 45,
    ("toolbox-2024", 10.0, 25.0): 50,
    ("toolbox-2023", 30.0, 25.0): 45,
    ("toolbox-2023", 30.0, 30.0): 50,
    ("toolbox-2024", 30.0, 30.0): 50,
    ("physformer", 30.0, 25.0): 55,
    ("physformer", 30.0, 30.0): 55,
}
"""(Preset, seconds, fps) -> fastest rate that its published rule reads as the double; 0 where it is not named."""


@pytest.mark.parametrize("name", PRESETS)
def test_a_perfect_wave_is_read_right_to_the_stated_grid_or_doubled_as_the_preset_says(name: str) -> None:
    rule = PRESETS[name]
    assert rule.least_s <= min(OWN_S[name])
    for seconds in OWN_S[name]:
        for fps in (25.0, 30.0):
            doubled_below = DOUBLED_BELOW.get((name, seconds, fps), 0)
            grid_bpm = 0.0 if rule.grid_bpm is None else rule.grid_bpm(round(seconds * fps), fps)
            for hr_bpm in EVERY_BPM:
                read_bpm = [rule.rate(pulse(hr_bpm, seconds, fps, seed), fps) for seed in range(2)]
                where = (name, seconds, fps, hr_bpm, read_bpm)
                limit_bpm = {"reference": 0.2, "paper": 0.5}.get(name, grid_bpm + 1.0)
                right = [one is not None and abs(one - hr_bpm) <= limit_bpm for one in read_bpm]
                if hr_bpm <= doubled_below and not all(right):
                    wrong = next(one for one, ok in zip(read_bpm, right, strict=True) if not ok)
                    assert wrong == pytest.approx(2 * hr_bpm, abs=2.5 + grid_bpm), where
                else:
                    assert all(right), where
            if doubled_below:
                slow = [true_bpm for true_bpm, _ in misread_rates(rule, seconds, fps)]
                assert slow and max(slow) == doubled_below, (name, seconds, fps)
                assert "double" in rule.limits


def test_the_papers_clips_are_read_by_the_spectrum_of_its_loss() -> None:
    """The peak of ``train.losses.rate_spectrum``, at any length and frame rate, on waves with and without an offset."""
    torch = pytest.importorskip("torch")
    from autohr.lab.train.losses import BAND_BPM, rate_spectrum

    rng = np.random.default_rng(4)
    for k, (seconds, fps) in enumerate(((5.0, 30.0), (10.0, 23.854083), (10.0, 61.0), (29.0, 20.0))):
        wave = pulse(rng.uniform(42, 175), seconds, fps, k) + rng.standard_normal(round(seconds * fps))
        wave -= wave.mean()
        rows = rate_spectrum(torch.tensor(wave)[None], torch.tensor([fps], dtype=torch.float64))
        expected = BAND_BPM[0] + int(rows[0].argmax())
        assert PRESETS["paper"].rate(wave, fps) == expected
        assert PRESETS["paper"].rate(3 * wave + 50.0, fps) == expected
    assert [PRESETS["paper"].rate(sine(bpm, 30.0), FPS) for bpm in (40.0, 179.0)] == [40.0, 179.0]


def test_the_errors_that_the_papers_preset_states_are_measured() -> None:
    """300 clips of 10 s, 80 +- 15 bpm, 30 frames per second: 0.34 bpm by the loss's spectrum, 9.1 by the filter."""
    rng = np.random.default_rng(0)
    made = [
        simulate_pulse(10.0, FPS, float(np.clip(rng.normal(80, 15), 45, 150)), seed=seed, hrv=0.03)
        for seed in range(300)
    ]
    true = np.array([one.mean_hr_bpm for one in made])
    estimated = {name: np.array([PRESETS[name].rate(one.bvp, FPS) for one in made], float) for name in PRESETS}
    found = {
        name: (
            metrics.mae(estimated[name], true),
            metrics.rmse(estimated[name], true),
            metrics.pearson(estimated[name], true),
        )
        for name in ("paper", "paper-filter")
    }
    assert found["paper"] == pytest.approx((0.335, 0.411, 0.9996), abs=0.02)
    assert found["paper-filter"] == pytest.approx((9.11, 22.8, 0.14), abs=0.1)
    assert "0.34 bpm" in PRESETS["paper"].basis and "9.1" in PRESETS["paper"].basis


def test_the_filter_of_a_tenth_of_the_clip_weakens_slow_rates_as_the_preset_says() -> None:
    from scipy.signal import firwin, freqz

    taps = firwin(31, (0.8, 3.0), pass_zero=False, window="hamming", fs=FPS)
    _, gain = freqz(taps, worN=2 * np.pi * np.array([60.0, 120.0]) / 60 / FPS)
    assert 40 * np.log10(np.abs(gain)) == pytest.approx([-6.5, -0.1], abs=0.05)
    assert "6.5 dB off 60 bpm and 0.1 dB off 120 bpm" in PRESETS["paper-filter"].limits


@pytest.mark.parametrize(("name", "wrong_s"), [("physformer", 18.0), ("physformer", 10.0), ("paper-filter", 6.0)])
def test_the_least_window_of_a_preset_is_where_it_reads_a_sine_right(name: str, wrong_s: float) -> None:
    def worst(seconds: float) -> float:
        read = [(PRESETS[name].rate(sine(bpm, seconds, phase=p), FPS), bpm) for bpm in EVERY_BPM for p in (0.0, 1.6)]
        return max(math.inf if one is None else abs(one - bpm) for one, bpm in read)

    assert worst(PRESETS[name].least_s) <= 1.0 < worst(wrong_s)


def test_a_preset_refuses_windows_that_it_cannot_read() -> None:
    short = results(*(window(f"s{k}", rate) for k, rate in enumerate(RATES)))
    with pytest.raises(WindowsTooShort) as refused:
        check_windows(short, "physformer")
    line = str(refused.value)
    assert "20 s" in line and "10.0 s" in line and "paper" in line and "physformer" in line and "\n" not in line
    for name in set(PRESETS) - {"physformer"}:
        check_windows(short, name)
    scores = score(short, "physformer", n_draws=0)
    assert scores.overall.n_scored == 0 and scores.overall.mae_bpm is None
    assert list(scores.reasons) == ["shorter than the 20 s that scoring physformer needs"]
    long = window("long", 70.0, seconds=29.97)
    mixed = results(window("short", 70.0), long)
    check_windows(mixed, "physformer")
    read, left = sorted(score(mixed, "physformer", n_draws=0).units, key=lambda unit: unit.recording_id)
    assert (read.scored, left.scored) == (True, False)
    rated = results(window("s", 70.0, 72.0, bvp=None))
    check_windows(rated, "physformer")
    assert score(rated, "physformer", n_draws=0).overall.mae_bpm == pytest.approx(2.0), "no wave is read"


def test_notes_name_the_rates_that_a_rule_misreads_in_these_windows() -> None:
    made = results(*(window(f"s{k}", rate) for k, rate in enumerate(RATES)))
    text = " ".join(score(made, "paper-filter", n_draws=0).notes)
    assert "10 s at 30 frames per second" in text and "60 as 120" in text and "65 as" not in text
    assert "reads them all right" in " ".join(score(made, "paper", n_draws=0).notes)
    coarse = check_rule(PRESETS["physbench"], 10.0, 240.0)
    assert "35 bpm apart" in coarse and "reads them all right" not in check_rule(PRESETS["toolbox-2024"], 10.0, 120.0)


@pytest.mark.parametrize("name", PRESETS)
def test_every_table_of_waves_ends_with_the_oracle(name: str) -> None:
    """The reference's own wave under the same rule: 0 where the rule is right, and not hidden where it is wrong."""
    windows = [
        window(f"s{k}", bpm, bpm + 4, bvp=pulse(bpm + 4, 30.0), true_bvp=pulse(bpm, 30.0), end_s=30.0)
        for k, bpm in enumerate((47.0, 62.0, 75.0, 118.0))
    ]
    windows[3] = dataclasses.replace(windows[3], true_bvp=None)
    scores = score(results(*windows), name, n_draws=0)
    oracle = scores.oracle
    assert oracle is not None and (oracle.overall.n_scored, oracle.overall.n) == (3, 4)
    assert oracle.truth == "device" and oracle.reasons == {"no reference wave": 1} and oracle.oracle is None
    read = [PRESETS[name].rate(pulse(bpm, 30.0), FPS) for bpm in (47.0, 62.0, 75.0)]
    errors = [abs(one - bpm) for one, bpm in zip(read, (47.0, 62.0, 75.0), strict=True) if one is not None]
    assert oracle.overall.mae_bpm == pytest.approx(np.mean(errors))
    sheet = scores_sheet([scores])
    assert len(sheet.rows) == 1
    assert [row[0] for row in sheet.foot] == ["oracle (the reference's own wave)"]
    assert sheet.foot[0][2] == f"{np.mean(errors):.2f}" and sheet.foot[0][-1] == "3 of 4"
    for form in FORMATS:
        text = render_sheet(sheet, form)
        assert text.index("POS".lower()) < text.index("oracle (the"), form


def test_an_oracle_without_a_reference_wave_says_so() -> None:
    made = results(window("s", 60.0, true_bvp=None), window("t", 70.0, true_bvp=None))
    sheet = scores_sheet([score(made, n_draws=0)])
    assert sheet.foot[0][2] == "-" and sheet.foot[0][-1] == "0 of 2"
    assert "None could be scored here (no reference wave)" in " ".join(sheet.notes)


def test_methods_of_one_run_share_one_oracle_and_groups_have_theirs() -> None:
    windows = [window(f"s{k}", rate, groups={"task": "ab"[k % 2]}) for k, rate in enumerate(RATES)]
    both = [score(results(*windows, label=label), n_draws=0) for label in ("pos", "green")]
    assert len(scores_sheet(both).foot) == 1
    sheet = groups_sheet(both[0], "task")
    assert [row[0] for row in sheet.foot] == ["a: oracle", "b: oracle"] and sheet.foot[0][2] == "0.00"
    fewer = score(results(*windows[:4], label="chrom"), n_draws=0)
    assert len(scores_sheet([both[0], fewer]).foot) == 2


@pytest.mark.parametrize("name", PRESETS)
def test_a_constant_wave_has_no_rate(name: str) -> None:
    """A filter makes a wave of the rounding of 0.1, and the wave would have a rate."""
    flat = np.full(900, 0.1)
    (unit,) = score(results(window("s", 70.0, seconds=30.0, bvp=flat, hr_bpm=None)), name, n_draws=0).units
    assert unit.hr_bpm is None and unit.why == "the wave shows no rate"


def test_an_snr_without_a_line_near_the_rate_is_not_known() -> None:
    """60 frames per second, 4 s: lines 0.234 Hz apart, of which the nearest to 77.5 bpm is 0.115 Hz away."""
    wave = sine(66.0, 4.0, 60.0)
    assert math.isnan(PRESETS["toolbox-2024"].snr(wave, 60.0, 77.5))
    assert math.isfinite(PRESETS["toolbox-2024"].snr(wave, 60.0, 70.3))
