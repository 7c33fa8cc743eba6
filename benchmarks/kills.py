"""Kill a command at random moments, let it go on, and compare the result with that of an undisturbed run.

    python benchmarks/kills.py prepare --kills 20
    python benchmarks/kills.py evaluate --kills 20
    python benchmarks/kills.py train --kills 20

Each job makes its own small input once, runs undisturbed once, then is killed (SIGKILL: the command, the command with
its worker processes, and one worker alone, in turn) at moments drawn evenly from the time that the undisturbed run
took, until it was killed often enough. Whenever it gets to its end in spite of that, the result is compared and the
next round begins with nothing. Compared are the files named by the job, byte by byte. Exit code 1 where anything
differs, or where a kill leaves behind what cannot be read.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from autohr.errors import BadRecording
from autohr.frontend import CropConfig
from autohr.lab.datasets.cache import open_cached
from autohr.lab.evaluate.results import read_results
from autohr.lab.synth.recordings import write_recordings

AUTOHR = (sys.executable, "-m", "autohr")
N_SUBJECTS, DURATION_S, SIZE_PX = 4, 6.0, 40
RECIPE = Path("autohr_cpu")


@dataclass(frozen=True)
class Job:
    """Something that may be killed."""

    make_input: Callable[[Path], None]
    """Fills a folder that every run reads."""
    command: Callable[[Path, Path], list[str]]
    """(folder of the input, folder of the result) -> what to run; the same line begins and goes on."""
    content: Callable[[Path], dict[str, bytes]]
    """(folder of the result) -> what must be equal."""
    check: Callable[[Path], None]
    """Raises where what a kill left behind cannot be used."""


def make_recordings(given: Path) -> None:
    write_recordings(
        given / "recordings", n_subjects=N_SUBJECTS, per_subject=1, duration_s=DURATION_S, seed=5, workers=2
    )


def make_cache(given: Path) -> None:
    make_recordings(given)
    subprocess.run(prepare_command(given, given / "cache"), check=True, capture_output=True)


def prepare_command(given: Path, out: Path) -> list[str]:
    words = ("prepare", "synthetic", given / "recordings", "--out", out, "--size-px", SIZE_PX, "--workers", 2)
    return [*AUTOHR, *map(str, words), "--allow-missing"]


def make_evaluation(given: Path) -> None:
    """Make a cache, and a recipe of 21 windows in each recording, so that most of the time goes into them."""
    make_cache(given)
    (given / "evaluate.toml").write_text(
        "\n".join(
            [
                'dataset = "synthetic"',
                f"root = '{given / 'recordings'}'",
                f"cache = '{given / 'cache'}'",
                'methods = ["green", "chrom", "pos"]',
                "[protocol_config]",
                "window_s = 4.0",
                "stride_s = 0.1",
                f"crop = {{size_px = {SIZE_PX}}}",
            ]
        )
    )


def evaluate_command(given: Path, out: Path) -> list[str]:
    return [*AUTOHR, "evaluate", str(given / "evaluate.toml"), "--out", str(out), "--workers", "2"]


def results_content(out: Path) -> dict[str, bytes]:
    """Return the config and every file of the results; half-written ones show as differing."""
    files = [out / "config.json", *sorted((out / "results").rglob("*"))]
    return {str(path.relative_to(out)): path.read_bytes() for path in files if path.is_file()}


def check_results(out: Path) -> None:
    if list(out.glob("results/*/method.json")):
        for results in read_results(out):
            assert all(window.bvp is not None for window in results.windows if window.scored)


def train_command(given: Path, out: Path) -> list[str]:
    changes = (
        *("fit.steps=12", "fit.batch_size=1", "fit.val_every=4", "fit.val_windows=1", "fit.checkpoint_every=2"),
        *("fit.warmup_steps=2", "fit.precision=fp32", "net_config.preset=tiny", f"data.cache={given / 'cache'}"),
        *("data.n_frames=120", "data.size_px=32", f"crop.size_px={SIZE_PX}", "data.val_share=0.5"),
    )
    return [*AUTOHR, "train", str(RECIPE), "--out", str(out), *(w for change in changes for w in ("--set", change))]


def cache_content(out: Path) -> dict[str, bytes]:
    """Every file of the cache, its manifest and page too; half-made ones would show as differing."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != "lock"
    }


def check_cache(out: Path) -> None:
    if not list(out.glob("*/config.json")):
        return
    try:
        cached = open_cached(out, CropConfig(size_px=SIZE_PX))
    except BadRecording as error:
        if "Run autohr prepare" in str(error):
            return
        raise
    for one in cached:
        clip = one.face_clip(0, one.n_frames, crop=SIZE_PX)
        assert len(one.bvp) == clip.n_frames and clip.clip is not None


def run_content(out: Path) -> dict[str, bytes]:
    """Weights with their headers, and the log without its speeds."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    for line in lines:
        line.pop("clips_per_s", None)
    weights = {path.name: in_one_order(path.read_bytes()) for path in (out / "checkpoints").glob("*.safetensors")}
    return weights | {"log.jsonl": json.dumps(lines, indent=1).encode()}


def in_one_order(weights: bytes) -> bytes:
    """Return a safetensors file with its header sorted: the library writes the entries of one in random order."""
    end = 8 + int.from_bytes(weights[:8], "little")
    return json.dumps(json.loads(weights[8:end]), sort_keys=True).encode() + weights[end:]


def check_run(out: Path) -> None:
    if (out / "config.json").exists():
        json.loads((out / "config.json").read_text())


JOBS: dict[str, Job] = {
    "prepare": Job(make_recordings, prepare_command, cache_content, check_cache),
    "evaluate": Job(make_evaluation, evaluate_command, results_content, check_results),
    "train": Job(make_cache, train_command, run_content, check_run),
}


def run_whole(command: list[str]) -> float:
    """Seconds that it took. Raises RuntimeError where it fails."""
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return time.monotonic() - began


def workers_of(pid: int) -> list[int]:
    """Return the processes that a process has started, without the helper that looks after semaphores."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            is_child = int(stat.read_text().rpartition(")")[2].split()[1]) == pid
            if is_child and b"resource_tracker" not in (stat.parent / "cmdline").read_bytes():
                found.append(int(stat.parent.name))
    return found


def run_and_kill(command: list[str], after_s: float, who: str) -> tuple[bool, bool]:
    """Return (something was killed, the command ended by itself all the same). RuntimeError where it failed."""
    with (
        tempfile.TemporaryFile() as output,
        subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True) as process,
    ):
        has_killed = False
        try:
            code = process.wait(after_s)
        except subprocess.TimeoutExpired:
            workers = workers_of(process.pid) if who == "worker" else []
            if not workers:
                os.killpg(process.pid, signal.SIGKILL) if who == "all" else process.kill()
                process.wait()
                return True, False
            with contextlib.suppress(ProcessLookupError):
                os.kill(workers[-1], signal.SIGKILL)
                has_killed = True
            code = process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                if process.poll() is None:
                    process.kill()
        if code:
            output.seek(0)
            raise RuntimeError(f"It ended by itself with {code}:\n{output.read().decode(errors='replace')}")
    return has_killed, True


def fingerprint(content: dict[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", choices=JOBS)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    wanted = parser.parse_args()
    job, rng = JOBS[wanted.job], random.Random(wanted.seed)
    with tempfile.TemporaryDirectory(prefix="autohr-kills-") as name:
        # Weights say the name of their run, so both results have one name.
        given, whole, out = (Path(name) / part for part in ("given", "whole/result", "killed/result"))
        for folder in (given, whole.parent, out.parent):
            folder.mkdir()
        job.make_input(given)
        whole_s = run_whole(job.command(given, whole))
        expected = fingerprint(job.content(whole))
        print(f"{wanted.job}: {whole_s:.1f} s undisturbed, {len(expected)} files to compare", flush=True)
        n_kills = n_rounds = n_wrong = 0
        while n_kills < wanted.kills or out.exists():
            if n_kills < wanted.kills:
                after_s = rng.uniform(0.05, 0.95) * whole_s
                began = time.monotonic()
                fresh = not out.exists()
                who = ("command", "all", "worker")[n_kills % 3]
                has_killed, has_ended = run_and_kill(job.command(given, out), after_s, who)
                if has_killed:
                    n_kills += 1
                    job.check(out)
                    print(f"  killed {n_kills} of {wanted.kills} ({who}) after {after_s:.1f} s", flush=True)
                if not has_ended:
                    continue
                if fresh and not has_killed:
                    # Other programs may have slowed the first run; kills must come before the end.
                    whole_s = min(whole_s, time.monotonic() - began)
            else:
                run_whole(job.command(given, out))
            found = fingerprint(job.content(out))
            wrong = sorted(one for one in {*expected, *found} if expected.get(one) != found.get(one))
            n_rounds += 1
            n_wrong += bool(wrong)
            print(f"  round {n_rounds}: {'equal' if not wrong else 'DIFFERS in ' + ', '.join(wrong)}", flush=True)
            shutil.rmtree(out)
    print(f"{wanted.job}: {n_kills} kills, {n_rounds} results, {n_wrong} of them other than undisturbed")
    if n_wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
