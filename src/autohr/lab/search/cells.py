"""One row of a table of cells: a network with a given cell, trained and tested on clips that are made once.

The clips are drawn, shrunk and given a strong pulse beforehand (``make_pack``), so that a training costs about a minute
of one core and reads nothing but memory. What is compared is cells and not trainings, so every row sees the same clips;
its seed decides the initial weights and the order.

    train     (N, T, S, S, 3)   people to learn from, a simulated pulse in each clip (``datasets/repulse.py``)
    val, test (N, T', S, S, 3)  other people of the same recordings, likewise
    second_*  (N, T', S, S, 3)  another world: its own recordings with their own pulse, of nobody in ``train``

A row is a minute long and is made again if it is killed; so it needs nothing of ``train/loop.py``, which saves and
resumes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from autohr.errors import BadRecording
from autohr.files import make_folder, read_json_object, write_json
from autohr.lab.datasets.augment import AugmentConfig
from autohr.lab.datasets.cache import CachedRecording
from autohr.lab.datasets.clips import Clip, ClipSource, at_clock
from autohr.lab.datasets.folds import split_subjects
from autohr.lab.metrics import score_rates
from autohr.lab.nets._genotype import Genotype
from autohr.lab.nets._inference import as_channels_last
from autohr.lab.nets.autohr import AutoHR, AutoHRConfig
from autohr.lab.search.space import SpaceConfig
from autohr.lab.train.loop import learning_rate
from autohr.lab.train.losses import LossConfig, frequency_loss, overall_loss
from autohr.signals.rate import estimate_heart_rate
from autohr.types import Float

PARTS = ("train", "val", "test", "second_val", "second_test")
"""Parts of a pack; the two of the second world are empty where there is none."""
EARLY = (0.1, 0.3)
"""Shares of the steps after which a row also notes its validation loss: what a strategy that stops early would see."""
SIZES = ("stem_channels", "channels", "cells_per_block", "stem_stride", "input")
"""Fields that network and supernet share."""
TEST_BATCH = 16
"""Clips tested together; from 16 on, torch computes small kernels on one thread by its faster way."""
CLOCK_FPS = (20.0, 40.0)
"""Lowest and highest frame rate of clips; others are brought between them (``datasets.clips.at_clock``)."""


@dataclass(frozen=True)
class CellConfig:
    """Size of clips, net and training.

    Chosen by us so that a row costs half a minute of one core and still separates cells (``docs/search.md``).
    """

    size_px: int = 24
    n_frames: int = 128
    """Frames of a clip to learn from (the paper's search has 128)."""
    test_frames: int = 240
    """Frames of a clip to be tested on; a rate is read from each."""
    n_train: int = 768
    n_val: int = 96
    n_test: int = 128
    n_folds: int = 5
    """Parts of the people: one validates, one tests, the others are learned from."""
    pulse_depth: tuple[float, float] = (0.02, 0.05)
    """Depth of the pulses laid into clips to learn from: untrained nets begin to learn from strong ones."""
    test_depth: tuple[float, float] = (0.005, 0.05)
    """Depth of those laid into clips for testing."""
    pack_seed: int = 0
    stem_channels: int = 8
    channels: int = 8
    cells_per_block: int = 1
    stem_stride: int = 2
    input: str = "difference"
    steps: int = 160
    """Steps of the budget called 1x."""
    batch_size: int = 4
    lr: float = 2e-3
    weight_decay: float = 5e-5
    clip_norm: float = 5.0

    @property
    def digest(self) -> str:
        """Eight letters that change with any field, so that rows of different settings are never mixed."""
        return hashlib.sha256(json.dumps(dataclasses.asdict(self)).encode()).hexdigest()[:8]

    def net_config(self, genotype: Genotype) -> AutoHRConfig:
        """Return the config of the network of a row."""
        return AutoHRConfig(genotype=genotype, **{name: getattr(self, name) for name in SIZES})

    def space(self, partial: int = 1) -> SpaceConfig:
        """Return the space whose derived networks are those of the rows."""
        return SpaceConfig(**{name: getattr(self, name) for name in SIZES}, partial=partial, widen=1)


# ---------------------------------------------------------------------------------------------------------------------
# Clips


@dataclass(frozen=True)
class Clips:
    """Clips side by side."""

    frames: NDArray[np.uint8]
    """(N, T, S, S, 3) RGB."""
    bvp: NDArray[np.float32]
    """(N, T) z-scored; NaN where the recording has no wave."""
    rates: NDArray[np.float32]
    """(N, 2): bpm, frames per second."""

    def __len__(self) -> int:
        return len(self.frames)


Pack = dict[str, Clips]
"""Part of ``PARTS`` -> its clips."""


def make_pack(
    recordings: Sequence[CachedRecording], second: Sequence[CachedRecording], config: CellConfig, folder: Path
) -> Pack:
    """Make the clips and keep them in ``folder``; read them from there if they were made with these settings.

    Parameters
    ----------
    recordings
        Recordings with a wave, of people enough for ``config.n_folds``.
    second
        Recordings of another world, which may have a rate alone. Whoever has the name of a person to learn from is left
        out; one half of the people validates, the other tests.
    """
    own = folder / f"pack-{config.digest}"
    if (own / "pack.json").exists():
        return read_pack(own)
    make_folder(own)
    at = [at_clock(one, *CLOCK_FPS) for one in recordings]
    val, test, *others = split_subjects({one.subject for one in at}, config.n_folds, config.pack_seed)
    learned = set().union(*others)
    plain = AugmentConfig(
        erase=False, tempo=False, flip=False, reverse=False, crop=False, colour=False, gamma=False,
        pulse=True, pulse_p=1.0, pulse_depth=config.test_depth,
    )  # fmt: skip
    varied = AugmentConfig(crop_least=0.75, pulse=True, pulse_p=1.0, pulse_depth=config.pulse_depth)
    for number, (part, people, n, n_frames, augment) in enumerate(
        (
            ("train", learned, config.n_train, config.n_frames, varied),
            ("val", val, config.n_val, config.test_frames, plain),
            ("test", test, config.n_test, config.test_frames, plain),
        )
    ):
        source = ClipSource([one for one in at if one.subject in people], n_frames, config.size_px, augment)
        _write_clips(own / part, [source.draw([config.pack_seed, number, i]) for i in range(n)])
    strangers = [at_clock(one, *CLOCK_FPS) for one in second if one.subject not in learned]
    names = sorted({one.subject for one in strangers} - val - test)
    halves = (val | set(names[::2]), test | set(names[1::2]))
    for part, people in zip(PARTS[3:], halves, strict=True):
        chosen = [one for one in strangers if one.subject in people and one.n_frames >= config.test_frames]
        clips: list[Clip] = []
        if chosen:
            source = ClipSource(chosen, config.test_frames, config.size_px, needs_bvp=False)
            clips = list(source.windows())
        _write_clips(own / part, clips)
    write_json(own / "pack.json", {"schema": "autohr.pack/1", **dataclasses.asdict(config)})
    return read_pack(own)


def _write_clips(stem: Path, clips: Sequence[Clip]) -> None:
    arrays: list[NDArray[Any]] = [
        np.zeros((0, 1, 1, 1, 3), np.uint8),
        np.zeros((0, 1), np.float32),
        np.zeros((0, 2), np.float32),
    ]
    if clips:
        arrays = [
            np.stack([clip.frames for clip in clips]),
            np.stack([clip.bvp for clip in clips]).astype(np.float32),
            np.array([(clip.hr_bpm, clip.fps) for clip in clips], np.float32),
        ]
    for name, array in zip(("frames", "bvp", "rates"), arrays, strict=True):
        np.save(stem.with_name(f"{stem.name}_{name}.npy"), array)


def read_pack(folder: Path) -> Pack:
    """Read what ``make_pack`` kept; frames are mapped, so that processes share them. BadRecording for damaged files."""
    read_json_object(folder / "pack.json", "steps")
    try:
        return {
            part: Clips(*(np.load(folder / f"{part}_{name}.npy", mmap_mode="r") for name in ("frames", "bvp", "rates")))
            for part in PARTS
        }
    except (OSError, ValueError) as error:
        raise BadRecording(f"The clips in {str(folder)!r} cannot be read ({error}). Delete the folder.") from None


class PackSource:
    """Clips of a pack as a search draws them (``train.batches.Source``): those with the numbers ``which``."""

    def __init__(self, clips: Clips, which: Sequence[int]) -> None:
        self.clips, self.which = clips, list(which)

    @property
    def n_windows(self) -> int:
        """Number of clips."""
        return len(self.which)

    def draw(self, seed: Sequence[int], /) -> Clip:
        """Return one clip, decided by ``seed``."""
        return self.window(int(np.random.default_rng(list(seed)).integers(len(self.which))))

    def window(self, i: int, /) -> Clip:
        """Return the i-th clip."""
        at, clips = self.which[i], self.clips
        bpm, fps = map(float, clips.rates[at])
        return Clip(np.asarray(clips.frames[at]), clips.bvp[at].astype(np.float64), bpm, fps, f"clip {at}")


# ---------------------------------------------------------------------------------------------------------------------
# Training


def as_input(frames: NDArray[np.uint8]) -> Tensor:
    """Return frames (B, T, S, S, 3) as a net reads them, (B, 3, T, S, S) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 4, 1, 2, 3).float() / 255.0


def batch_of(clips: Clips, which: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return (input, bvp, hr_bpm, fps) of the clips with these numbers."""
    rates = torch.from_numpy(np.array(clips.rates[which]))
    return as_input(clips.frames[which]), torch.from_numpy(np.array(clips.bvp[which])), rates[:, 0], rates[:, 1]


def orders(n_clips: int, n_steps: int, batch_size: int, seed: int) -> NDArray[np.int64]:
    """Return the clips of every step, (n_steps, batch_size): epoch by epoch, each in another order."""
    rng = np.random.default_rng(seed)
    n_epochs = math.ceil(n_steps * batch_size / n_clips)
    whole = np.concatenate([rng.permutation(n_clips) for _ in range(n_epochs)])
    return whole[: n_steps * batch_size].reshape(n_steps, batch_size)


@dataclass(frozen=True)
class Score:
    """Errors on the clips of one part."""

    loss: float
    """Mean frequency loss (nll): smooth where errors in bpm jump."""
    mae_bpm: float
    within_5: float
    """Share of rates within 5 bpm."""


def train_cell(
    genotype: Genotype,
    pack: Pack,
    config: CellConfig,
    *,
    seed: int,
    steps: int,
    tests: Sequence[str] = PARTS[1:],
    watch: Callable[[int, float], None] | None = None,
) -> dict[str, float]:
    """Train a network with this cell from its beginning, and return its errors, losses and times by column.

    ``tests`` are the parts that it is tested on at the end; ``watch`` is called with each step and its loss.
    """
    began_s, began_cpu_s = time.monotonic(), time.process_time()
    torch.manual_seed(seed)
    net = AutoHR(config.net_config(genotype))
    as_channels_last(net)
    optimiser = torch.optim.Adam(net.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True)
    loss_config = LossConfig(variant="nll")
    clips, losses, row = pack["train"], [], {}
    for step, which in enumerate(orders(len(clips), steps, config.batch_size, seed), 1):
        x, bvp, hr_bpm, fps = batch_of(clips, which)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step - 1, steps, config.lr, "cosine")
        loss = overall_loss(net(x), bvp, hr_bpm, fps, loss_config).total
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), config.clip_norm)
        optimiser.step()
        losses.append(loss.item())
        if watch is not None:
            watch(step, losses[-1])
        for share in EARLY:
            if step == max(1, round(share * steps)):
                row[f"train_loss_{100 * share:.0f}"] = float(np.mean(losses[step // 2 :]))
                row[f"val_loss_{100 * share:.0f}"] = judge(net, pack["val"]).loss
                net.train()
    row["train_loss"] = float(np.mean(losses[-max(1, steps // 10) :]))
    row["train_cpu_s"] = time.process_time() - began_cpu_s
    for part in tests:
        if len(pack[part]):
            score = judge(net, pack[part])
            row |= {f"{part}_loss": score.loss, f"{part}_mae_bpm": score.mae_bpm, f"{part}_within_5": score.within_5}
    row["cpu_s"], row["wall_s"] = time.process_time() - began_cpu_s, time.monotonic() - began_s
    return row


def judge(net: nn.Module, clips: Clips) -> Score:
    """Return the errors of a net on clips; it is left in evaluation mode."""
    net.eval()
    losses, rates = [], []
    with torch.inference_mode():
        for first in range(0, len(clips), TEST_BATCH):
            which = np.arange(first, min(first + TEST_BATCH, len(clips)))
            x, _, hr_bpm, fps = batch_of(clips, which)
            waves = net(x)
            losses += [
                float(frequency_loss(wave[None], hr[None], f[None], "nll"))
                for wave, hr, f in zip(waves, hr_bpm, fps, strict=True)
            ]
            rates += [_rate(wave.double().numpy(), float(f)) for wave, f in zip(waves, fps, strict=True)]
    true = clips.rates[:, 0].astype(np.float64)
    scores = score_rates(np.array(rates), true, float(true.mean()))
    return Score(float(np.mean(losses)), float(scores["mae_bpm"] or 0.0), float(scores["within_5_bpm"] or 0.0))


def _rate(wave: Float, fps: float) -> float:
    """Return the rate of a wave; NaN where it has none."""
    found = estimate_heart_rate(wave, fps).hr_bpm if np.isfinite(wave).all() else None
    return math.nan if found is None else found
