"""Learning from a batch: every line of the table lowers its loss, and stages go on bit for bit."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from autohr.lab.nets import NETS, make_net
from autohr.lab.nets._maps import LEAST_STEP, MAX_STEP, ROWS, hide_some, scaled_rows, steps_of_rows
from autohr.lab.nets._rates import as_hr_bpm, at_30_fps, at_paces, draw_paces
from autohr.lab.nets.hrcnn import LEAST_SIGNAL
from autohr.lab.nets.synrhythm import synthetic_maps
from autohr.lab.runs import Run, create_run
from autohr.lab.train.batches import collate, net_input
from autohr.lab.train.fit import NORM_SEED, FitConfig, FitResult, fit, parameter_groups
from autohr.lab.train.loop import Progress, copy_buffers
from autohr.lab.train.losses import LossConfig, frequency_loss, rate_spectrum
from autohr.lab.train.precision import in_precision
from autohr.lab.train.steps import (
    HRCNN_PACES,
    HRCNN_STAGES,
    STEPS,
    SYNTHETIC_MAPS,
    Batch,
    Moment,
    hrcnn_rates,
    simulated_batch,
    skin_masks,
)
from autohr.signals.rate import estimate_heart_rate
from autohr.types import Float
from loops import Killed, MadeClip, MadeSource, kill_at, made_clip, state_bytes

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
# Smaller where a step is easily too long: batch norms that see two numbers, a loss with many valleys.
LR = {"hrcnn": 1e-5, "autohr": 1e-4, "i3d_wave": 1e-4}
SMALL: dict[str, dict[str, Any]] = {
    "autohr": {"preset": "tiny", "channels": 3},
    "hrcnn": {"channels": [2, 2, 2, 2], "estimator_channels": 4},
    "rhythmnet": {"window_frames": 24, "stride_frames": 4, "hidden": 20},
}
# The author's form is so flat that three steps prove nothing.
LOSS = {
    "hrcnn": LossConfig(variant="snr"),
    **dict.fromkeys(("autohr", "physnet", "i3d_wave"), LossConfig(variant="nll")),
}


class FakeSource(MadeSource):
    """Faces of noise, brown, in which green follows a sine; some are of 10 frames per second and some of 12."""

    def __init__(self, n_frames: int = 32, size_px: int = 32) -> None:
        self.n_frames, self.size_px = n_frames, size_px

    def draw(self, seed: Sequence[int], /) -> MadeClip:
        rng = np.random.default_rng(list(seed))
        fps, hr_bpm = float(rng.choice([10.0, 12.0])), float(rng.uniform(60, 110))

        def look(bvp: Float) -> Float:
            frames = np.array([170.0, 120, 100]) + rng.normal(0, 4, (self.n_frames, self.size_px, self.size_px, 3))
            frames[..., 1] -= 4 * bvp[:, None, None]
            return frames

        return made_clip(rng, hr_bpm, fps, look, self.n_frames)


def small(name: str) -> nn.Module:
    torch.manual_seed(7)
    return make_net(name, SMALL.get(name, {}))


def batch_of(*seeds: int, **size: int) -> Batch:
    return collate([FakeSource(**size).draw([seed]) for seed in seeds])


def test_every_net_learns_by_one_line_of_the_table() -> None:
    assert list(STEPS) == list(NETS)
    for name, step in STEPS.items():
        assert step.kind == NETS[name].kind


# Net, and where in its training.
STAGES = [*((name, 0.9) for name in STEPS), ("synrhythm", 0.1), ("rhythmnet", 0.1), ("hrcnn", 0.1)]


@pytest.mark.parametrize(("name", "share"), STAGES)
def test_two_steps_lower_the_loss_on_one_batch(name: str, share: float) -> None:
    net, step = small(name), STEPS[name]
    batch = batch_of(1, 2, n_frames=8 if name == "hrcnn" else 32)
    lr = LR.get(name, 1e-3)
    if share < 0.2 and step.n_simulated is not None:
        batch, lr = simulated_batch(32, 32), 1e-4
    forward = in_precision(net, "fp32", CPU)
    moment = Moment(round(100 * share), 100)
    groups = parameter_groups(net, step, 100)
    learns = {"": 1.0} if step.rates is None else step.rates(moment)
    rest = {
        key: value.clone() for key, value in net.named_parameters() if not any(map(key.startswith, learning(learns)))
    }
    optimiser = torch.optim.Adam([parameter for prefix in learning(learns) for parameter in groups[prefix]], lr=lr)
    totals = []
    for _ in range(3):
        torch.manual_seed(3)  # the same dropout and the same simulated maps
        net.train()
        learned = step.learn(forward, net_input(batch.frames, CPU), batch, LOSS.get(name, LossConfig()), moment)
        assert set(learned.parts) == set(step.parts)
        optimiser.zero_grad()
        learned.total.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        totals.append(float(learned.total.detach()))
    assert totals[2] < totals[1] < totals[0]
    assert bool(rest) == (name == "hrcnn")
    assert all(torch.equal(value, net.get_parameter(key)) for key, value in rest.items())


def test_the_estimator_learns_from_signals_that_fill_it() -> None:
    """By itself: with short clips its batch norms see two numbers, and a step can be any."""
    estimator: Any = small("hrcnn").estimator
    signals, target = torch.randn(4, 1, 160, generator=torch.Generator().manual_seed(1)), torch.full((4,), 2.0)
    optimiser = torch.optim.Adam(estimator.parameters(), lr=1e-3)
    totals = []
    for _ in range(8):
        torch.manual_seed(3)
        total = (estimator(signals).mean((1, 2)) - target).abs().mean()
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        totals.append(float(total.detach()))
    assert totals[-1] < totals[0]


def learning(factors: dict[str, float] | Any) -> list[str]:
    return [prefix for prefix, factor in factors.items() if factor]


# Stages ----------------------------------------------------------------------------------------------------------


def run_fit(folder: Path, name: str, **more: Any) -> tuple[Run, FitResult]:
    run = create_run(folder, {"test": 1})
    source = FakeSource(n_frames=4, size_px=16)
    config = FitConfig(steps=8, lr=1e-4, batch_size=2, val_every=8, checkpoint_every=1, workers=0)
    loss = LOSS.get(name, LossConfig())
    return run, fit(small(name), source, source, config, run, loss=loss, learning=STEPS[name], guess_bpm=80.0, **more)


@pytest.mark.slow
@pytest.mark.parametrize("killed_at", [2, 4, 7])
def test_a_killed_training_in_stages_goes_on_bit_for_bit(tmp_path: Path, killed_at: int) -> None:
    """HR-CNN: extractor, then estimator, then both in turn."""
    whole, whole_result = run_fit(tmp_path / "whole", "hrcnn")

    with pytest.raises(Killed):
        run_fit(tmp_path / "parts", "hrcnn", progress=kill_at(killed_at + 1))
    parts, parts_result = run_fit(tmp_path / "parts", "hrcnn")
    assert state_bytes(parts) == state_bytes(whole) and parts_result == whole_result
    steps = [record for record in whole.read_log() if "loss" in record]
    assert [record["rate"] == 0 for record in steps] == [step / 8 < HRCNN_STAGES[0] for step in range(8)]


def test_rates_of_nets_that_regress_are_judged_as_they_are(tmp_path: Path) -> None:
    run, result = run_fit(tmp_path, "rhythmnet")
    assert result.last is not None and result.last["n_missing"] == 0
    assert result.last["mae_bpm"] is not None and result.last["mae_bpm"] < 100
    assert all({"rate", "smooth"} <= set(record) for record in run.read_log() if "loss" in record)


def test_every_parameter_of_a_net_in_stages_has_one_learning_rate() -> None:
    net = small("hrcnn")
    groups = parameter_groups(net, STEPS["hrcnn"], 10)
    assert sum(map(len, groups.values())) == len(list(net.parameters()))
    assert hrcnn_rates(Moment(0, 10)) == {"extractor.": 1.0, "estimator.": 0.0}
    assert {tuple(learning(hrcnn_rates(Moment(step, 100)))) for step in range(75, 100)} == {
        ("extractor.",),
        ("estimator.",),
    }
    half = dataclasses.replace(STEPS["hrcnn"], rates=lambda moment: {"extractor.": 1.0})
    with pytest.raises(ValueError, match="'estimator"):
        parameter_groups(net, half, 10)


@pytest.mark.parametrize(("name", "n_maps"), [("synrhythm", SYNTHETIC_MAPS), ("rhythmnet", SYNTHETIC_MAPS // 2)])
def test_simulated_maps_need_no_pixels(name: str, n_maps: int) -> None:
    """The first stage draws no clip, and learns from as many maps as it likes."""
    net, step = small(name), STEPS[name]
    assert step.n_simulated is not None
    first, last = Moment(0, 10), Moment(9, 10)
    batch = simulated_batch(step.n_simulated(first), 40)
    assert batch.frames.numel() == 0 and len(batch.fps) == n_maps and step.n_simulated(last) == 0
    learned = step.learn(in_precision(net, "fp32", CPU), net_input(batch.frames, CPU), batch, LossConfig(), first)
    assert learned.pred.shape == (n_maps,) and torch.isfinite(learned.total)


def test_the_last_stage_of_hrcnn_is_without_dropout_and_moves_no_norm() -> None:
    net, step = small("hrcnn").train(), STEPS["hrcnn"]
    batch = batch_of(1, 2, n_frames=8)
    before = copy_buffers(net)
    learned = step.learn(
        in_precision(net, "fp32", CPU), net_input(batch.frames, CPU), batch, LossConfig(), Moment(9, 10)
    )
    assert learned.pred.shape == (2, HRCNN_PACES)
    parts: Any = net
    assert not any(one.training for part in (parts.extractor, parts.estimator) for one in part.modules())
    assert all(torch.equal(one, other) for one, other in zip(before, net.buffers(), strict=True))


class CountingSource(FakeSource):
    """A source that counts its drawn clips."""

    n_drawn = 0

    def draw(self, seed: Any) -> Any:
        self.n_drawn += 1
        return super().draw(seed)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_norms_are_made_anew_from_the_same_clips_before_each_validation(tmp_path: Path, ema: float) -> None:
    """So the saved statistics do not hang on the last batches; clips are read at the paces of training."""
    learning = dataclasses.replace(STEPS["synrhythm"], n_simulated=None)
    source = FakeSource(n_frames=8, size_px=16)
    run = create_run(tmp_path, {"test": 1})
    net = small("synrhythm")
    config = FitConfig(
        steps=2, lr=1e-9, weight_decay=0, batch_size=2, val_every=2, norm_batches=3, ema=ema, optimiser="adamw"
    )
    saved: list[nn.Module] = []
    fit(
        net,
        source,
        source,
        config,
        run,
        learning=learning,
        guess_bpm=80.0,
        save_weights=lambda path, trained, measured: saved.append(copy.deepcopy(trained)),
    )
    # By hand: the first norm sees what the first convolution makes of the same three batches.
    wanted = small("synrhythm").eval()
    norm = next(one for one in wanted.modules() if isinstance(one, nn.BatchNorm2d))
    norm.reset_running_stats()
    norm.momentum = None
    norm.train()
    torch.manual_seed(NORM_SEED)
    for number in range(3):
        batch = collate([source.draw([config.seed, number, i, NORM_SEED]) for i in range(2)])
        learning.learn(wanted, net_input(batch.frames, CPU), batch, LossConfig(), Moment(1, 2))
    found = next(one for one in saved[-1].modules() if isinstance(one, nn.BatchNorm2d))
    assert torch.allclose(found.running_var, norm.running_var, rtol=1e-3)  # type: ignore[arg-type]
    assert found.momentum == 0.1 and not torch.equal(found.running_var, torch.ones_like(found.running_var))  # type: ignore[arg-type]


def test_norms_that_stand_are_not_made_anew(tmp_path: Path) -> None:
    """HR-CNN's last stage learns with the statistics that it has, so a validation must not move them."""
    source = CountingSource(n_frames=4, size_px=16)
    config = FitConfig(steps=8, batch_size=2, val_every=1, workers=0, norm_batches=2, lr=1e-6)
    loss = LossConfig(variant="snr")
    fit(small("hrcnn"), source, source, config, create_run(tmp_path, {"test": 1}), loss=loss, learning=STEPS["hrcnn"])
    drawn = 64 + 2 * 8 + 8 * source.n_windows  # the guess, the steps, and the validations, whose windows are drawn too
    n_before = math.ceil(8 * STEPS["hrcnn"].norms_stand_from)
    assert 0 < n_before < 8 and source.n_drawn == drawn + 2 * n_before * config.norm_batches


def test_norms_of_a_part_that_rests_stay(tmp_path: Path) -> None:
    """HR-CNN's estimator learns from signals of an extractor in use, so its norms are made anew from these."""
    net, kept = small("hrcnn"), {}

    def watch(progress: Progress) -> None:
        if progress.val is not None:
            kept[progress.step] = [copy_buffers(part) for part in (net.extractor, net.estimator)]  # type: ignore[arg-type]

    source = FakeSource(n_frames=8, size_px=16)
    config = FitConfig(steps=8, batch_size=2, val_every=1, workers=0, norm_batches=2, lr=1e-6)
    run, loss = create_run(tmp_path, {"test": 1}), LossConfig(variant="snr")
    fit(net, source, source, config, run, loss=loss, learning=STEPS["hrcnn"], guess_bpm=80.0, progress=watch)
    extractor, estimator = ([kept[step][part] for step in (4, 5)] for part in (0, 1))
    assert all(map(torch.equal, *extractor)) and not all(map(torch.equal, *estimator))


def test_a_factor_of_the_recipe_changes_the_rate_of_its_part(tmp_path: Path) -> None:
    """Adam's steps are as long as its learning rate."""
    moved = []
    for factor in (1.0, 0.1):
        net, before = small("hrcnn"), small("hrcnn")
        config = FitConfig(steps=3, lr=1e-5, weight_decay=0, batch_size=2, val_every=3, rates={"estimator.": factor})
        source = FakeSource(n_frames=8, size_px=16)
        run = create_run(tmp_path / str(factor), {"test": 1})
        fit(net, source, None, config, run, loss=LossConfig(variant="snr"), learning=STEPS["hrcnn"], guess_bpm=80.0)
        ends: list[Any] = [each.estimator for each in (net, before)]
        moved.append(float((ends[0][-1].weight - ends[1][-1].weight).detach().abs().max()))
    assert moved[1] == pytest.approx(0.1 * moved[0], rel=0.2)


# Units -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name, spec in NETS.items() if spec.kind == "rate"])
def test_the_same_frames_shown_twice_as_fast_have_twice_the_rate(name: str) -> None:
    net = small(name).eval()
    clip = net_input(batch_of(1).frames, CPU)
    with torch.inference_mode():
        slow, fast, usual = net(clip, torch.tensor([15.0])), net(clip, torch.tensor([30.0])), net(clip)
    assert torch.allclose(2 * slow, fast) and torch.equal(fast, usual)
    assert 30 < float(usual) < 150, "an untrained net gives a rate that people have"


def test_beats_per_frame_there_and_back() -> None:
    out, fps = torch.tensor([-1.0, 0.0, 2.0]), torch.tensor([15.0, 30.0, 60.0])
    hr_bpm = as_hr_bpm(out, fps)
    assert torch.allclose(hr_bpm, torch.tensor([27.5, 75.0, 230.0]))
    assert torch.allclose(at_30_fps(hr_bpm, fps), 75 + 20 * out)


def test_the_signal_to_noise_loss_wants_power_at_the_rate() -> None:
    t_s = torch.arange(300, dtype=torch.float64) / 30
    sine = torch.sin(2 * torch.pi * 1.25 * t_s)[None]
    fps = torch.tensor([30.0])
    right, wrong = (float(frequency_loss(sine, torch.tensor([bpm]).double(), fps, "snr")) for bpm in (75.0, 120.0))
    assert right < -10 and wrong > 10
    # Minus ten times the logarithm of near over far, by hand.
    share = rate_spectrum(sine, fps)[0]
    near = share[75 - 40 - 6 : 75 - 40 + 7].sum()
    assert right == pytest.approx(float(-10 * torch.log10(near / (1 - near))), abs=1e-3)
    assert np.isfinite(float(frequency_loss(torch.zeros(1, 300), torch.tensor([75.0]), fps, "snr")))


# What nets see, and learn from -----------------------------------------------------------------------------------


def test_the_wave_of_deepphys_is_the_sum_of_steps_without_drift() -> None:
    net = small("deepphys").eval()
    with torch.inference_mode():
        bvp = net(net_input(batch_of(1, 2).frames, CPU))
    assert torch.equal(bvp[:, 0], torch.zeros(2))
    assert torch.allclose(bvp.diff(dim=1).mean(1), torch.zeros(2), atol=1e-6)
    assert float(bvp.std()) > 0


def test_rows_of_a_map_have_no_brightness() -> None:
    maps = torch.rand(2, 3, ROWS, 40)
    assert torch.allclose(scaled_rows(maps), scaled_rows(0.3 * maps + 0.5), atol=1e-4)
    assert float(scaled_rows(maps).amin()) == 0 and float(scaled_rows(maps).amax()) == 1
    assert not bool(scaled_rows(torch.full((1, 3, ROWS, 40), 0.4)).any()), "a still picture has nothing to show"


def test_steps_of_rows_have_neither_brightness_nor_size() -> None:
    maps = torch.rand(2, 3, ROWS, 40)
    steps = steps_of_rows(maps)
    assert steps.shape == (2, 3, ROWS, 39) and float(steps.abs().amax()) <= MAX_STEP
    assert torch.allclose(steps, steps_of_rows(0.01 * maps + 0.5), atol=1e-3)
    assert not bool(steps_of_rows(0.4 + 0.4 * LEAST_STEP * maps).any()), "a still picture has nothing to show"


@pytest.mark.parametrize("inner", [(), (3, ROWS)])
def test_a_signal_at_another_pace_has_the_rate_that_it_had(inner: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    fps = torch.tensor([24.0, 30.0])
    beat = torch.sin(2 * torch.pi * 1.2 * torch.arange(256) / fps[:, None])  # 72 bpm
    signals = beat.reshape(2, *[1] * len(inner), 256).expand(2, *inner, 256)
    read, read_fps = at_paces(signals, fps, draw_paces(2, 5, CPU))
    assert read.shape[:-1] == (10, *inner) and len(set(read_fps.tolist())) == 10
    for one, one_fps in zip(read.reshape(10, -1, read.shape[-1])[:, -1], read_fps, strict=True):
        assert estimate_heart_rate(one.double().numpy(), float(one_fps)).hr_bpm == pytest.approx(72.0, abs=0.2)


def test_about_half_of_the_maps_are_hidden_for_a_while() -> None:
    torch.manual_seed(0)
    hidden = hide_some(torch.ones(400, 3, ROWS, 60)) == 0
    lengths = hidden[:, 0, 0].sum(1)
    assert 150 < int((lengths > 0).sum()) < 250
    assert lengths[lengths > 0].min() == 10 and lengths.max() == 30
    assert bool((hidden == hidden[:, :1, :1]).all())
    assert torch.equal(hide_some(torch.ones(4, 3, ROWS, 30)), torch.ones(4, 3, ROWS, 30))


def test_simulated_maps_beat_at_the_rate_that_they_say() -> None:
    torch.manual_seed(0)
    fps = torch.tensor([20.0, 25.0, 30.0, 30.0])
    maps, hr_bpm = synthetic_maps(400, fps)
    assert maps.shape == (4, 3, ROWS, 400)
    for one, bpm, clock in zip(maps, hr_bpm, fps, strict=True):
        rows = (one - one.mean(-1, keepdim=True)).reshape(-1, 400).diff(dim=1)
        share = rate_spectrum(rows, clock.expand(len(rows)), (38, 300)).mean(0)
        peak = int(share.argmax()) + 38
        assert min(abs(peak - float(bpm)), abs(peak - 2 * float(bpm))) < 3


def test_masks_show_where_skin_is() -> None:
    frames = torch.zeros(1, 4, 64, 64, 3, dtype=torch.uint8)
    frames[..., 0], frames[..., 1], frames[..., 2] = 40, 90, 200  # a blue wall
    frames[:, :, :, 12:52] = torch.tensor([190, 140, 110], dtype=torch.uint8)
    mask = skin_masks(frames, (32, 32))
    assert mask.shape == (1, 4, 32, 32)
    assert float(mask[..., 8:24, 10:22].mean()) > 0.95 and float(mask[..., :4].mean()) < 0.05


def test_a_signal_too_short_for_the_estimator_is_filled_up() -> None:
    assert LEAST_SIGNAL == 133, "8 convolutions of 16 and 3 pools of 5 (docs/background/systems.md)"
    net = small("hrcnn")
    estimator: Any = net.estimator
    assert estimator.eval()(torch.zeros(1, 1, LEAST_SIGNAL)).shape == (1, 1, 1)
