"""The training loop: it learns, resumes bit for bit, shares work exactly, and survives what stops it."""

from __future__ import annotations

import dataclasses
import math
import multiprocessing
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from autohr.errors import AutoHRError, BadWeights
from autohr.lab.metrics import score_rates
from autohr.lab.runs import Run, create_run
from autohr.lab.train import loop as looping
from autohr.lab.train import precision
from autohr.lab.train.batches import ahead, collate, draw_batch, net_input
from autohr.lab.train.fit import FitConfig, FitResult, counts_for_best, fit
from autohr.lab.train.loop import Progress, advice, learning_rate, print_progress
from autohr.lab.train.losses import LossConfig
from autohr.lab.train.state import RESUME, TrainingState, load_state, save_state
from autohr.lab.train.steps import STEPS, Step
from autohr.types import FaceClip, Float
from loops import (
    Killed,
    MadeClip,
    MadeSource,
    kill_at,
    made_clip,
    run_in_two_processes,
    state_bytes,
    timeless_log,
    wrong_convolutions,
)

pytestmark = pytest.mark.usefixtures("one_thread")

FPS, N_FRAMES, SIZE_PX = 16.0, 64, 4
NLL = LossConfig(variant="nll")
CPU = torch.device("cpu")


class FakeSource(MadeSource):
    """Clips of noise in which green follows a sine: 50 to 150 bpm, or one rate for all."""

    def __init__(self, n_windows: int = 6, hr_bpm: float | None = None) -> None:
        self.n_windows = n_windows
        self.hr_bpm = hr_bpm

    def draw(self, seed: Sequence[int], /) -> MadeClip:
        rng = np.random.default_rng(list(seed))

        def look(bvp: Float) -> Float:
            frames = 120 + rng.normal(0, 4, (N_FRAMES, SIZE_PX, SIZE_PX, 3))
            frames[..., 1] -= 6 * bvp[:, None, None]
            return frames

        return made_clip(rng, self.hr_bpm or float(rng.uniform(50, 150)), FPS, look, N_FRAMES)


class TinyNet(nn.Module):
    """Two temporal convolutions on the mean colour; with everything that has state or chance in training if asked."""

    def __init__(self, stateful: bool = False) -> None:
        super().__init__()
        self.first = nn.Conv3d(3, 6, (5, 1, 1), padding=(2, 0, 0))
        self.norm = nn.BatchNorm3d(6) if stateful else nn.Identity()
        self.drop = nn.Dropout(0.2 if stateful else 0.0)
        self.last = nn.Conv3d(6, 1, (5, 1, 1), padding=(2, 0, 0))

    def forward(self, clip: Tensor) -> Tensor:
        x = self.drop(torch.tanh(self.norm(self.first(10 * (clip - 0.47)))))
        bvp: Tensor = self.last(x).mean(dim=(1, 3, 4))
        return bvp


def tiny_net(stateful: bool = False) -> TinyNet:
    torch.manual_seed(7)
    return TinyNet(stateful)


def config(**changes: Any) -> FitConfig:
    return dataclasses.replace(FitConfig(steps=4, lr=1e-2, val_every=2, workers=0), **changes)


def run_fit(
    folder: Path | Run, net: nn.Module, settings: FitConfig, source: FakeSource | None = None, **more: Any
) -> tuple[Run, FitResult]:
    run = folder if isinstance(folder, Run) else create_run(folder, {})
    source = source or FakeSource()
    return run, fit(net, source, more.pop("val", source), settings, run, loss=NLL, guess_bpm=100.0, **more)


# It learns -------------------------------------------------------------------------------------------------------


def test_two_steps_lower_the_loss_on_one_clip(tmp_path: Path) -> None:
    source = FakeSource(hr_bpm=90)
    clip = source.draw([1])
    source.draw = lambda seed: clip  # type: ignore[method-assign]
    run, _ = run_fit(tmp_path, tiny_net(), config(steps=3), source, val=None)
    first, second, third = (record["loss"] for record in run.read_log())
    assert third < second < first


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["author", "nll"])
def test_it_learns_to_measure_far_better_than_chance(tmp_path: Path, variant: str) -> None:
    run = create_run(tmp_path, {})
    source = FakeSource(n_windows=20)
    settings = config(steps=100, lr=2e-2, val_every=50, ema=0.9, warmup_steps=5, schedule="cosine", clip_norm=1.0)
    result = fit(tiny_net(), source, source, settings, run, loss=LossConfig(variant=variant))  # type: ignore[arg-type]
    assert result.last is not None and result.best is not None
    mae, chance = result.last["mae_bpm"], result.last["chance_mae_bpm"]
    assert mae is not None and chance is not None and mae < 0.3 * chance
    assert result.last["within_5_bpm"] is not None and result.last["within_5_bpm"] > 0.7


@pytest.mark.parametrize("optimiser", ["adam", "adamw"])
def test_bf16_trains_too(tmp_path: Path, optimiser: str) -> None:
    net = tiny_net(stateful=True)
    settings = config(precision="bf16", optimiser=optimiser)
    _, result = run_fit(tmp_path, net, settings)
    assert result.step == 4 and all(p.dtype == torch.float32 for p in net.parameters())


# It resumes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_two_and_two_steps_equal_four_bit_for_bit(tmp_path: Path, ema: float) -> None:
    """Batch norm, dropout, optimiser, schedule and running mean all go on where they were."""
    settings = config(ema=ema, schedule="cosine", warmup_steps=1, checkpoint_every=2)
    whole, whole_result = run_fit(tmp_path / "whole", tiny_net(stateful=True), settings)

    with pytest.raises(Killed):
        run_fit(tmp_path / "parts", tiny_net(stateful=True), settings, progress=kill_at(3))
    torch.manual_seed(12345)
    parts, parts_result = run_fit(tmp_path / "parts", TinyNet(stateful=True), settings)
    assert state_bytes(parts) == state_bytes(whole)
    assert parts_result == whole_result
    assert timeless_log(parts) == timeless_log(whole)


def _train_until_killed(folder: Path) -> None:
    torch.set_num_threads(1)

    def kill(progress: Progress) -> None:
        if progress.step == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    run_fit(folder, tiny_net(stateful=True), config(checkpoint_every=1), progress=kill)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kills by signal")
def test_a_killed_process_goes_on_by_repeating_the_call(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_train_until_killed, args=(tmp_path / "parts",))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    settings = config(checkpoint_every=1)
    parts, _ = run_fit(tmp_path / "parts", tiny_net(stateful=True), settings)
    whole, _ = run_fit(tmp_path / "whole", tiny_net(stateful=True), settings)
    assert state_bytes(parts) == state_bytes(whole)
    assert [record["step"] for record in parts.read_log() if "loss" in record] == [1, 2, 3, 4]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_training_with_a_checkpoint(tmp_path: Path, number: signal.Signals) -> None:
    def stop(progress: Progress) -> None:
        if progress.step == 2:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    saved: list[str] = []
    settings = config(steps=50, val_every=50, checkpoint_every=50)
    run, result = run_fit(
        tmp_path, tiny_net(), settings, progress=stop, save_weights=lambda path, net, measured: saved.append(path.name)
    )
    assert result.stopped_by == number.name and 2 <= result.step <= 3
    assert (run.checkpoints / "resume.safetensors").exists() and saved == ["last.safetensors"]
    assert signal.getsignal(number) is before
    _, finished = run_fit(tmp_path, tiny_net(), settings)
    assert finished.step == 50 and finished.stopped_by is None


def test_a_finished_run_has_nothing_left_to_do(tmp_path: Path) -> None:
    run, result = run_fit(tmp_path, tiny_net(), config())
    before = state_bytes(run)
    _, again = run_fit(tmp_path, tiny_net(), config())
    assert again == result and state_bytes(run) == before


def test_a_damaged_or_foreign_state_is_refused_in_one_line(tmp_path: Path) -> None:
    run, _ = run_fit(tmp_path, tiny_net(), config())
    path = run.checkpoints / "resume.safetensors"
    with pytest.raises(BadWeights, match="another net"):
        run_fit(tmp_path, tiny_net(stateful=True), config())
    wider = tiny_net()
    wider.last = nn.Conv3d(6, 1, (3, 1, 1), padding=(1, 0, 0))
    with pytest.raises(BadWeights, match=r"\(1, 6, 5, 1, 1\) there and \(1, 6, 3, 1, 1\) here"):
        run_fit(tmp_path, wider, config())
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BadWeights, match="damaged"):
        run_fit(tmp_path, tiny_net(), config())


# It shares work --------------------------------------------------------------------------------------------------


def _train_as_one_of_two(run: Run) -> nn.Module:
    net = tiny_net()
    # Each of the two adds up its clips one by one; one process alone takes all four at once.
    run_fit(run, net, config(steps=2, accumulate=2))
    return net


@pytest.mark.slow
def test_two_processes_make_the_steps_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the validation, which they share, and its best."""
    two, net_of_two = run_in_two_processes(_train_as_one_of_two, tmp_path / "two", monkeypatch)
    one, _ = run_fit(tmp_path / "one", net_of_one := tiny_net(), config(steps=2))
    for mine, theirs in zip(net_of_one.parameters(), net_of_two.parameters(), strict=True):
        # The last bias has a gradient of rounding errors alone, which Adam makes a hundredth of its step of 1e-2.
        torch.testing.assert_close(theirs, mine, rtol=1e-4, atol=1e-4)
    for of_one, of_two in zip(one.read_log(), two.read_log(), strict=True):
        assert of_two.keys() == of_one.keys()
        if "loss" in of_one:
            assert of_two["loss"] == pytest.approx(of_one["loss"], rel=1e-5)
        else:
            assert of_two["val"] == pytest.approx(of_one["val"], rel=1e-3)


def test_the_processes_of_a_step_draw_the_clips_of_one() -> None:
    source = FakeSource()
    whole = draw_batch(source, 4, seed=0, step=3)
    parts = [draw_batch(source, 4, seed=0, step=3, rank=rank, world=2) for rank in range(2)]
    assert torch.equal(whole.frames, torch.cat([part.frames for part in parts]))
    assert not torch.equal(whole.frames, draw_batch(source, 4, seed=0, step=4).frames)


@pytest.mark.parametrize("n_parts", [2, 3, 9])
def test_a_batch_in_parts_makes_the_step_of_the_whole(tmp_path: Path, n_parts: int) -> None:
    whole, _ = run_fit(tmp_path / "whole", net := tiny_net(), config(val_every=4))
    parts, _ = run_fit(tmp_path / "parts", other := tiny_net(), config(val_every=4, accumulate=n_parts))
    for mine, theirs in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(theirs, mine, rtol=1e-4, atol=1e-4)
    for of_whole, of_parts in zip(whole.read_log(), parts.read_log(), strict=True):
        if "loss" in of_whole:
            names = ("loss", "frequency", "time", "grad_norm")
            assert [of_parts[name] for name in names] == pytest.approx([of_whole[name] for name in names], rel=1e-4)


@pytest.mark.parametrize("workers", [1, 3])
def test_background_threads_change_nothing(tmp_path: Path, workers: int) -> None:
    plain, _ = run_fit(tmp_path / "plain", tiny_net(), config())
    threaded, _ = run_fit(tmp_path / "threaded", tiny_net(), config(workers=workers, prefetch=2))
    assert state_bytes(plain) == state_bytes(threaded)


def test_ahead_keeps_order_and_passes_errors_on() -> None:
    def job(i: int) -> int:
        if i == 7:
            raise OSError("disk gone")
        return i * i

    results = ahead((lambda i=i: job(i) for i in range(10)), workers=3, depth=4)  # type: ignore[misc]
    assert [next(results) for _ in range(7)] == [i * i for i in range(7)]
    with pytest.raises(OSError, match="disk gone"):
        next(results)


# What it reports ---------------------------------------------------------------------------------------------------


def test_a_loss_that_is_no_number_stops_with_advice(tmp_path: Path) -> None:
    net = tiny_net()
    with torch.no_grad():
        net.last.weight.fill_(float("inf"))
    with pytest.raises(AutoHRError, match=r"step 0: loss nan.*Lower fit\.lr"):
        run_fit(tmp_path, net, config())


def test_best_is_the_lowest_loss_and_last_the_last(tmp_path: Path) -> None:
    saved: list[tuple[str, Any]] = []
    _, result = run_fit(
        tmp_path,
        tiny_net(),
        config(steps=8),
        save_weights=lambda path, net, measured: saved.append((path.name, measured["loss"])),
    )
    assert result.best is not None
    assert [name for name, _ in saved][-1] == "last.safetensors" and saved[0][0] == "best.safetensors"
    assert min(loss for _, loss in saved) == result.best["loss"] == saved[-2][1]


def test_score_counts_a_window_without_a_rate_as_the_guess() -> None:
    score = score_rates(np.array([60.0, np.nan, 104.0]), np.array([62.0, 90.0, 100.0]), guess_bpm=80.0)
    assert score["n_missing"] == 1
    assert score["mae_bpm"] == pytest.approx((2 + 10 + 4) / 3)
    assert score["rmse_bpm"] == pytest.approx(np.sqrt((4 + 100 + 16) / 3))
    assert score["within_5_bpm"] == pytest.approx(2 / 3)
    assert score["chance_mae_bpm"] == pytest.approx((18 + 10 + 20) / 3)
    assert score["pearson_r"] == pytest.approx(1)
    assert score_rates(np.full(2, 70.0), np.array([60.0, 80.0]), 70.0)["pearson_r"] is None


def test_learning_rate_warms_up_and_falls_to_zero() -> None:
    rates = [learning_rate(step, 100, 1.0, "cosine", warmup_steps=9) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == pytest.approx(1, abs=0.01) == rates[9]
    assert all(np.diff(rates[:10]) > 0) and all(np.diff(rates[10:]) < 0) and rates[-1] < 0.01
    assert {learning_rate(step, 100, 1e-4, "constant") for step in range(100)} == {1e-4}


def test_input_is_that_of_measuring() -> None:
    frames = FakeSource().draw([5]).frames
    n = len(frames)
    clip = FaceClip(
        fps=FPS,
        start_s=0.0,
        rgb=np.zeros((n, 3)),
        traces=np.zeros((n, 1, 3)),
        background_rgb=np.zeros((n, 3)),
        box_xywh=np.zeros((n, 4)),
        found=np.ones(n, dtype=bool),
        clip=frames,
    )
    x = net_input(collate([FakeSource().draw([5])]).frames, CPU)
    assert x.is_contiguous(memory_format=torch.channels_last_3d)
    np.testing.assert_allclose(x.numpy(), clip.as_net_input(), atol=1e-7)


def test_progress_tells_rate_and_time_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_fit(tmp_path, tiny_net(), config(), progress=print_progress)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "step 2/4" in captured.err and "clips/s" in captured.err and "left" in captured.err
    assert "validation: MAE" in captured.err and "chance" in captured.err


# curves is imported in its tests: the processes that other tests start import this file, and need no matplotlib.
@pytest.mark.parametrize("validated", [True, False])
@pytest.mark.slow
def test_curves_are_drawn_from_the_log_alone(tmp_path: Path, validated: bool) -> None:
    from autohr.lab.train import curves

    run, _ = run_fit(tmp_path, tiny_net(), config(), **({} if validated else {"val": None}))
    svg, png = curves.draw_curves(run)
    assert svg.read_text().rstrip().endswith("</svg>") and png.read_bytes().startswith(b"\x89PNG")


def test_curves_of_an_empty_log_are_refused(tmp_path: Path) -> None:
    from autohr.lab.train import curves

    with pytest.raises(AutoHRError, match="no training step yet"):
        curves.draw_curves(create_run(tmp_path, {}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": None}, "exactly one"),
        ({"epochs": 2.0}, "exactly one"),
        ({"lr": 0.0}, "lr\n.*greater than 0"),
        ({"ema": 1.0}, "ema"),
        ({"precision": "fp8"}, "'fp32', 'bf16' or 'fp16'"),
        ({"val_windows": 0}, "val_windows"),
        ({"clip_norm": -1.0}, "clip_norm"),
    ],
)
def test_configs_that_contradict_themselves_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**changes)


def test_epochs_become_steps(tmp_path: Path) -> None:
    _, result = run_fit(tmp_path, tiny_net(), config(steps=None, epochs=1.5), FakeSource(n_windows=6))
    assert result.n_steps == 3


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without CUDA")
def test_cuda_where_there_is_none_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no CUDA device"):
        run_fit(tmp_path, tiny_net(), config(device="cuda"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_cuda_trains_and_resumes(tmp_path: Path, precision: str) -> None:
    run_fit(tmp_path, tiny_net(stateful=True), config(device="cuda", precision=precision, steps=2))
    _, result = run_fit(tmp_path, tiny_net(stateful=True), config(device="cuda", precision=precision))
    assert result.step == 4


# Gradients that are not right ------------------------------------------------------------------------------------


class FaultyInBf16(torch.autograd.Function):
    """The input itself; backwards, in bf16 only, the gradient times ``factor``. On any processor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor if torch.is_autocast_enabled("cpu") else 1.0
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.factor, None


class FaultyNet(TinyNet):
    def __init__(self, factor: float) -> None:
        super().__init__(stateful=True)
        self.factor = factor

    def forward(self, clip: Tensor) -> Tensor:
        bvp: Tensor = FaultyInBf16.apply(super().forward(clip), self.factor)  # type: ignore[no-untyped-call]
        return bvp


@pytest.mark.parametrize("factor", [2.0, 1e30, math.inf, math.nan])
def test_bf16_with_wrong_convolutions_goes_on_in_fp32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], factor: float
) -> None:
    """A finite error of the gradient's own size, too; the run is then that of fp32 bit for bit, resumed or not."""
    settings = config(precision="bf16", checkpoint_every=2)
    exact, _ = run_fit(tmp_path / "exact", tiny_net(stateful=True), config(checkpoint_every=2))
    wrong_convolutions(monkeypatch, factor)
    whole, result = run_fit(tmp_path / "whole", tiny_net(stateful=True), settings, progress=print_progress)
    message = [line for line in capsys.readouterr().err.splitlines() if "bf16" in line]
    assert len(message) == 1 and "convolution_backward" in message[0] and "fit.precision = 'fp32'" in message[0]
    assert result.precision == "fp32" and state_bytes(whole) == state_bytes(exact)
    assert [record["precision"] for record in whole.read_log() if "precision" in record] == ["fp32"]

    with pytest.raises(Killed):
        run_fit(tmp_path / "parts", tiny_net(stateful=True), settings, progress=kill_at(3))
    # Sound again: what was decided stands.
    monkeypatch.undo()
    parts, resumed = run_fit(tmp_path / "parts", tiny_net(stateful=True), settings)
    assert resumed == result and state_bytes(parts) == state_bytes(whole)


@pytest.mark.parametrize("factor", [1e30, math.inf])
def test_bf16_with_a_wrong_gradient_of_the_whole_net_goes_on_in_fp32(tmp_path: Path, factor: float) -> None:
    torch.manual_seed(7)
    _, result = run_fit(tmp_path, FaultyNet(factor), config(precision="bf16"))
    assert result.precision == "fp32" and result.n_skipped == 0


def test_the_check_of_bf16_leaves_everything_as_it_was() -> None:
    net = tiny_net(stateful=True)
    clip = net_input(draw_batch(FakeSource(), 4, seed=0, step=0).frames, CPU)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    torch.manual_seed(5)
    following = torch.rand(3)
    torch.manual_seed(5)

    def work(tried: nn.Module, in_bf16: bool) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=in_bf16):
            loss: Tensor = tried(clip).float().square().mean()
        return loss

    precision.find_bf16_fault(net, work)
    assert torch.equal(torch.rand(3), following)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())


def test_honest_rounding_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_operation(func: Any, args: Any, kwargs: Any) -> list[Tensor]:
        values = sound(func, tuple(v.float() if isinstance(v, Tensor) else v for v in args), kwargs)
        return [value.to(torch.bfloat16) for value in values] if args[0].dtype == torch.bfloat16 else values

    sound = precision.run_operation
    monkeypatch.setattr(precision, "run_operation", run_operation)
    a, b = torch.randn(2, 20, 20, generator=torch.Generator().manual_seed(1)).bfloat16()
    found = []
    with precision._Comparison() as comparison:
        found.append(a @ b)
    assert comparison.fault is None and found[0].dtype == torch.bfloat16


def test_a_resumed_bf16_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    settings = config(precision="bf16", checkpoint_every=2)
    whole, _ = run_fit(tmp_path / "whole", tiny_net(stateful=True), settings)

    with pytest.raises(Killed):
        run_fit(tmp_path / "parts", tiny_net(stateful=True), settings, progress=kill_at(3))
    parts, _ = run_fit(tmp_path / "parts", tiny_net(stateful=True), settings)
    assert state_bytes(parts) == state_bytes(whole)


def test_a_resumed_fp16_run_equals_an_uninterrupted_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The factor of the loss, which grows in the third step, goes on as well."""
    monkeypatch.setattr(looping, "SCALE_GROWS_AFTER", 3)
    settings = config(precision="fp16", checkpoint_every=2, clip_norm=1.0)
    whole, result = run_fit(tmp_path / "whole", tiny_net(stateful=True), settings)
    with pytest.raises(Killed):
        run_fit(tmp_path / "parts", tiny_net(stateful=True), settings, progress=kill_at(3))
    parts, _ = run_fit(tmp_path / "parts", tiny_net(stateful=True), settings)
    assert state_bytes(parts) == state_bytes(whole) and result.precision == "fp16" and result.n_skipped == 0
    assert state_of(whole).loss_scale == 2 * TrainingState().loss_scale


def test_fp16_steps_are_those_of_fp32_but_for_rounding(tmp_path: Path) -> None:
    run_fit(tmp_path / "half", half := tiny_net(), config(precision="fp16"))
    run_fit(tmp_path / "full", full := tiny_net(), config())
    for mine, theirs in zip(full.parameters(), half.parameters(), strict=True):
        assert theirs.dtype == torch.float32
        torch.testing.assert_close(theirs, mine, rtol=0.05, atol=5e-3)


def test_a_step_that_overflows_in_fp16_halves_the_factor_and_ends_nothing(tmp_path: Path) -> None:
    """Overflows are no sign of divergence as long as the factor can fall; at 1 they count as in fp32."""
    run, result = run_fit(tmp_path / "a", flaky_net(*range(12)), config(precision="fp16", steps=14, val_every=14))
    assert result.n_skipped == 12 and state_of(run).loss_scale == TrainingState().loss_scale / 2**12
    with pytest.raises(AutoHRError, match=r"step 25: .*10 in a row.*fit\.precision=fp32"):
        run_fit(tmp_path / "b", flaky_net(*range(40)), config(precision="fp16", steps=40, val_every=40))


def state_of(run: Run) -> TrainingState:
    net = tiny_net(stateful=True)
    return load_state(run.checkpoints / RESUME, net, None, torch.optim.Adam(net.parameters()))


class FlakyNet(TinyNet):
    """Its gradient is not finite at the passes in training that ``bad`` holds."""

    def __init__(self, bad: Sequence[int]) -> None:
        super().__init__(stateful=True)
        self.bad, self.n_passes = bad, 0

    def forward(self, clip: Tensor) -> Tensor:
        bvp = super().forward(clip)
        if self.training:
            if self.n_passes in self.bad:
                bvp.register_hook(lambda gradient: gradient * math.inf)  # type: ignore[no-untyped-call]
            self.n_passes += 1
        return bvp


def flaky_net(*bad: int) -> FlakyNet:
    torch.manual_seed(7)
    return FlakyNet(bad)


def test_a_step_without_a_finite_gradient_is_left_out_and_logged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Weights, optimiser, averages and batch norm are as if the step had not been."""
    kept: list[dict[str, Tensor]] = []
    net = flaky_net(1)

    def look(progress: Progress) -> None:
        kept.append({name: value.clone() for name, value in net.state_dict().items()})
        print_progress(progress)

    run, result = run_fit(tmp_path, net, config(val_every=4, clip_norm=1.0, ema=0.5), progress=look)
    assert result.step == 4 and result.n_skipped == 1 and result.stopped_by is None
    assert all(torch.equal(kept[1][name], kept[0][name]) for name in kept[0])
    assert not torch.equal(kept[2]["last.weight"], kept[1]["last.weight"])
    assert all(torch.isfinite(value).all() for value in net.state_dict().values())
    assert [record["step"] for record in run.read_log() if "loss" in record] == [1, 3, 4]
    assert [record["step"] for record in run.read_log() if "skipped" in record] == [2]
    assert "step 2/4  left out" in capsys.readouterr().err


def test_skipped_steps_are_counted_over_a_resume(tmp_path: Path) -> None:
    settings = config(steps=30, val_every=30, checkpoint_every=1)

    with pytest.raises(Killed):
        run_fit(tmp_path, flaky_net(*range(2, 30)), settings, progress=kill_at(8))
    # Steps 2 to 6 were left out and kept in the file; the one after that at which it was killed is made again.
    with pytest.raises(AutoHRError, match=r"step 11: .*10 in a row"):
        run_fit(tmp_path, flaky_net(*range(30)), settings)


def test_many_steps_in_a_row_end_the_run_with_advice_that_helps(tmp_path: Path) -> None:
    settings = config(steps=30, val_every=30)
    with pytest.raises(AutoHRError, match=r"step 12: .*10 in a row.*Lower fit\.lr.*fit\.clip_norm") as refused:
        run_fit(tmp_path / "a", flaky_net(*range(3, 30)), settings)
    assert "precision" not in str(refused.value) and "\n" not in str(refused.value)
    _, result = run_fit(tmp_path / "b", flaky_net(*(i for i in range(30) if i % 10)), settings)
    assert result.step == 30 and result.n_skipped == 27
    with pytest.raises(AutoHRError, match="step 3: "):
        run_fit(tmp_path / "c", flaky_net(*range(4)), config(val_every=4))


def test_the_advice_names_what_is_not_yet_set() -> None:
    message = advice(config(), "bf16", 1e-2, "fit")
    assert "--set fit.precision=fp32" in message and "fit.clip_norm=1" in message
    message = advice(config(clip_norm=1.0), "fp32", 1e-2, "search")
    assert "precision" not in message and "clip_norm" not in message and "search.lr" in message


def test_one_process_with_a_fault_decides_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([True, *[False] * 4])
    monkeypatch.setattr(looping, "find_bf16_fault", lambda *_: None)
    monkeypatch.setattr(looping, "any_process", lambda *_: next(answers))
    run, result = run_fit(tmp_path, tiny_net(), config(precision="bf16"))
    assert result.precision == "fp32" and "another process" in run.read_log()[0]["note"]


# Stages ----------------------------------------------------------------------------------------------------------


def in_stages() -> Step:
    return dataclasses.replace(STEPS["autohr"], stages=(0.25, 0.5))


def scores(monkeypatch: pytest.MonkeyPatch, *losses: float) -> None:
    """Let the validations of an 8-step run have these losses, after steps 2, 4, 6 and 8."""
    at = iter(losses)
    score = {"chance_mae_bpm": 9.0, "mae_bpm": 1.0}
    monkeypatch.setattr(looping.Loop, "validate", lambda *_: {"loss": next(at), **score})


def test_only_the_last_stage_chooses_the_best_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[tuple[str, Any]] = []
    scores(monkeypatch, 1.0, 2.0, 8.0, 9.0)
    _, result = run_fit(
        tmp_path,
        tiny_net(),
        config(steps=8),
        learning=in_stages(),
        save_weights=lambda path, net, measured: saved.append((path.name, measured["step"])),
    )
    assert result.best is not None and result.best["step"] == 6
    assert saved == [("best.safetensors", 6), ("last.safetensors", 8)]


@pytest.mark.parametrize("killed_at", [3, 5, 7])
def test_a_resumed_run_in_stages_has_the_same_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    losses = (1.0, 2.0, 8.0, 9.0)

    scores(monkeypatch, *losses)
    with pytest.raises(Killed):
        run_fit(tmp_path, tiny_net(), config(steps=8), learning=in_stages(), progress=kill_at(killed_at))
    scores(monkeypatch, *losses[killed_at // 2 :])
    _, result = run_fit(tmp_path, tiny_net(), config(steps=8), learning=in_stages())
    assert result.best is not None and result.best["step"] == 6


def test_a_best_of_an_earlier_stage_in_an_old_file_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    scores(monkeypatch, 1.0, 2.0, 9.0, 8.0)
    with pytest.raises(Killed):
        run_fit(tmp_path, tiny_net(), config(steps=8), progress=kill_at(3))
    scores(monkeypatch, 2.0, 9.0, 8.0)
    _, result = run_fit(tmp_path, tiny_net(), config(steps=8), learning=in_stages())
    assert result.best is not None and result.best["step"] == 8


def test_the_end_counts_for_best_where_no_step_is_of_the_last_stage() -> None:
    hrcnn = STEPS["hrcnn"]
    assert [counts_for_best(hrcnn, step, 8) for step in range(1, 9)] == [False] * 7 + [True]
    assert counts_for_best(hrcnn, 1, 1) and not counts_for_best(hrcnn, 1, 2) and counts_for_best(hrcnn, 2, 2)
    assert all(counts_for_best(STEPS["autohr"], step, 8) for step in range(1, 9))


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("[" * 100_000, "nested too deeply"),
        ("{", "not JSON"),
        ("[]", "is no autohr.resume/1 file"),
        ('{"format": "autohr.resume/1", "step": {}}', "step: Input should be a valid integer"),
        ('{"format": "autohr.resume/1", "best": 3}', "best: Input should be a valid dict"),
    ],
)
def test_a_damaged_state_is_refused_in_one_line(header: str, said: str, tmp_path: Path) -> None:
    net, path = nn.Linear(1, 1), tmp_path / RESUME
    optimiser = torch.optim.SGD(net.parameters())
    save_state(path, net, None, optimiser, TrainingState(step=3, best={"mae_bpm": float("nan")}))
    assert load_state(path, net, None, optimiser).step == 3
    save_file({f"net.{name}": value for name, value in net.state_dict().items()}, path, {"autohr": header})
    with pytest.raises(BadWeights, match=said) as refused:
        load_state(path, net, None, optimiser)
    assert "\n" not in str(refused.value) and "to start again" in str(refused.value)
