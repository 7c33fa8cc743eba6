"""The losses against the figures of the author's form, and against what a loss must do."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from autohr.lab.train.losses import LossConfig, frequency_loss, overall_loss, rate_spectrum, time_loss


def sine(bpm: float, fps: float, n_frames: int) -> Tensor:
    t_s = torch.arange(n_frames, dtype=torch.float64) / fps
    return torch.sin(2 * torch.pi * bpm / 60 * t_s)[None]


def one(value: float) -> Tensor:
    return torch.tensor([value], dtype=torch.float64)


@pytest.mark.parametrize(
    ("pred_bpm", "true_bpm", "fps", "n_frames", "loss"),
    [
        (75, 75, 30, 160, 4.8900),
        (75, 75, 25, 160, 4.8783),
        (75, 75, 30, 128, 4.9018),
        (75, 75, 30, 300, 4.8383),
        (75, 150, 30, 160, 4.9489),
    ],
)
def test_author_form_gives_the_reference_figures(
    pred_bpm: float, true_bpm: float, fps: float, n_frames: int, loss: float
) -> None:
    got = frequency_loss(sine(pred_bpm, fps, n_frames), one(true_bpm), one(fps))
    assert got.item() == pytest.approx(loss, abs=6e-5)


def test_author_form_has_two_softmaxes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its range: a uniform spectrum, all on the target, all elsewhere (docs/background/autohr.md, "Losses")."""
    spectra = torch.zeros(3, 140, dtype=torch.float64)
    spectra[0] = 1 / 140
    spectra[1, 35] = 1
    spectra[2, 110] = 1
    for row, loss in zip(spectra, (4.94164, 3.95384, 4.95384), strict=True):
        monkeypatch.setattr("autohr.lab.train.losses.rate_spectrum", lambda *_, row=row: row[None])
        got = frequency_loss(torch.zeros(1, 160, dtype=torch.float64), one(75.9), one(30))
        assert got.item() == pytest.approx(loss, abs=1e-5)


@pytest.mark.parametrize("bpm", [41, 75, 120, 178])
@pytest.mark.parametrize("fps", [20.0, 23.854083, 60.0])
def test_spectrum_peaks_at_the_rate_on_any_clock(bpm: float, fps: float) -> None:
    share = rate_spectrum(sine(bpm, fps, round(10 * fps)), one(fps))
    assert share.sum().item() == pytest.approx(1)
    assert abs(int(share.argmax()) + 40 - bpm) <= 1


@pytest.mark.parametrize("sd_bpm", [0.0, 1.0, 3.0])
def test_nll_prefers_the_true_rate_and_spans_far_more_than_the_author_form(sd_bpm: float) -> None:
    def loss(bpm: float) -> float:
        return frequency_loss(sine(bpm, 30, 160), one(75), one(30), "nll", sd_bpm=sd_bpm).item()

    assert loss(75) < loss(80) < loss(90) < loss(150)
    assert loss(150) - loss(75) > 2


def test_nll_ignores_offset_and_scale() -> None:
    wave = sine(75, 30, 160)
    losses = [frequency_loss(w, one(75), one(30), "nll").item() for w in (wave, 50 + wave, 1e-3 * wave)]
    assert losses == pytest.approx([losses[0]] * 3, abs=1e-5)


@pytest.mark.parametrize("variant", ["author", "nll"])
def test_a_batch_of_different_clocks_is_the_mean_of_its_clips(variant: str) -> None:
    preds = [sine(75, 30, 160), sine(110, 24, 160)]
    rates, clocks = [one(80), one(110)], [one(30), one(24)]
    alone = [frequency_loss(p, h, f, variant).item() for p, h, f in zip(preds, rates, clocks, strict=True)]  # type: ignore[arg-type]
    together = frequency_loss(torch.cat(preds), torch.cat(rates), torch.cat(clocks), variant)  # type: ignore[arg-type]
    assert together.item() == pytest.approx(sum(alone) / 2)


@pytest.mark.parametrize("variant", ["author", "nll"])
@pytest.mark.parametrize(("outside", "nearest"), [(20.0, 40.0), (179.9, 179.0), (240.0, 179.0)])
def test_rates_outside_the_band_count_as_its_nearest_class(variant: str, outside: float, nearest: float) -> None:
    pred = sine(90, 30, 160)
    inside = frequency_loss(pred, one(nearest), one(30), variant)  # type: ignore[arg-type]
    assert frequency_loss(pred, one(outside), one(30), variant).item() == pytest.approx(inside.item())  # type: ignore[arg-type]


def test_time_loss_is_one_minus_pearson() -> None:
    wave = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    assert time_loss(5 + 3 * wave, wave).item() == pytest.approx(0, abs=1e-6)
    assert time_loss(-wave, wave).item() == pytest.approx(2, abs=1e-6)
    other = torch.randn(3, 64, generator=torch.Generator().manual_seed(1))
    by_hand = [1 - torch.corrcoef(torch.stack([a, b]))[0, 1].item() for a, b in zip(wave, other, strict=True)]
    assert time_loss(wave, other).item() == pytest.approx(sum(by_hand) / 3, abs=1e-6)


@pytest.mark.parametrize("variant", ["author", "nll"])
def test_a_constant_prediction_stays_finite(variant: str) -> None:
    pred = torch.full((2, 64), 0.3, requires_grad=True)
    true = sine(75, 20, 64).float().expand(2, -1)
    losses = overall_loss(pred, true, torch.full((2,), 75.0), torch.full((2,), 20.0), LossConfig(variant=variant))  # type: ignore[arg-type]
    losses.total.backward()  # type: ignore[no-untyped-call]
    assert math.isfinite(losses.total.item())
    assert pred.grad is not None and bool(torch.isfinite(pred.grad).all())
    assert losses.time.item() == pytest.approx(1)


@pytest.mark.parametrize("variant", ["author", "nll"])
def test_descending_the_loss_finds_the_rate(variant: str) -> None:
    """Gradients point somewhere useful: a wave fitted to the loss alone takes the label's rate."""
    torch.manual_seed(0)
    pred = torch.randn(1, 128, requires_grad=True)
    optimiser = torch.optim.Adam([pred], lr=0.1)
    for _ in range(150):
        optimiser.zero_grad()
        frequency_loss(pred, one(100), one(25), variant).backward()  # type: ignore[arg-type, no-untyped-call]
        optimiser.step()
    assert abs(int(rate_spectrum(pred.detach().double(), one(25)).argmax()) + 40 - 100) <= 2


def test_overall_is_the_weighted_sum() -> None:
    pred, true = torch.randn(2, 4, 160, generator=torch.Generator().manual_seed(0)).unbind(0)
    hr_bpm, fps = torch.tensor([50.0, 70, 90, 110]), torch.tensor([30.0, 30, 25, 24])
    losses = overall_loss(pred, true, hr_bpm, fps)
    assert losses.total.item() == pytest.approx(0.2 * losses.time.item() + losses.frequency.item())
    only_time = overall_loss(pred, true, hr_bpm, fps, LossConfig(time_weight=1, frequency_weight=0))
    assert only_time.total.item() == pytest.approx(time_loss(pred, true).item())


def test_wrong_shapes_and_names_are_refused() -> None:
    pred = torch.zeros(2, 64)
    with pytest.raises(ValueError, match=r"hr_bpm \(1,\)"):
        frequency_loss(pred, one(75), torch.full((2,), 30.0))
    with pytest.raises(ValueError, match="both be"):
        time_loss(pred, pred[0])
    with pytest.raises(ValueError, match="'author', 'nll' or 'snr'"):
        LossConfig(variant="paper")  # type: ignore[arg-type]


def test_doubt_lets_clips_that_cannot_be_read_count_less() -> None:
    """A read and an unread clip: with doubt the gradient of the read one is as before, that of the other is small."""
    read, true = sine(75, 30, 300).float(), sine(75, 30, 300).float()
    unread = torch.randn(1, 300, generator=torch.Generator().manual_seed(0))
    hr_bpm, fps = torch.full((2,), 75.0), torch.full((2,), 30.0)

    def gradients(doubt: float) -> torch.Tensor:
        pred = torch.cat([read + 0.1 * unread, unread]).requires_grad_()
        losses = overall_loss(pred, true.expand(2, -1), hr_bpm, fps, LossConfig(variant="nll", doubt=doubt))
        losses.total.backward()  # type: ignore[no-untyped-call]
        assert pred.grad is not None
        sizes: torch.Tensor = pred.grad.norm(dim=1)
        return sizes

    ratio = gradients(0.5) / gradients(0.0)
    assert 0.7 < float(ratio[0]) <= 1
    assert float(ratio[1]) < 0.45
    with pytest.raises(ValueError, match="doubt=0.5"):
        LossConfig(variant="author", doubt=0.5)
