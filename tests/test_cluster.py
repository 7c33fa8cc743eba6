"""Many workers on one cache: claims, parts, a dask scheduler, and workers that are killed in mid-work."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from autohr.cluster import on_cluster, share_out
from autohr.errors import AutoHRError, BadRecording, WorkerDied
from autohr.files import host_name, write_json
from autohr.frontend import CropConfig
from autohr.lab import claims
from autohr.lab.claims import FOLDER, Owner, claimed
from autohr.lab.datasets import manifest as manifests
from autohr.lab.datasets.cache import Entry, cache_folder, open_cached, prepare, read_manifest
from autohr.lab.datasets.manifest import manifest_path, merge_dataset, prepare_dataset, prepare_shard
from autohr.lab.datasets.recording import Absent, DatasetSpec, Listing, Recording, Reference
from autohr.lab.evaluate.run import run
from autohr.lab.shards import Shard, read_shard
from autohr.lab.synth.video import SceneConfig, write_scene
from autohr.methods import load_method
from autohr.types import FaceClip, Pulse
from autohr.workers import Report
from made import MiddleDetector
from made import run as autohr

SMALL = CropConfig(size_px=32)
N_RECORDINGS = 6


# --- claims


def test_a_claim_is_held_by_one(tmp_path: Path) -> None:
    with claimed(tmp_path, "a") as first:
        assert first is None
        with claimed(tmp_path, "a") as second, claimed(tmp_path, "b") as other:
            assert second == Owner(host_name(), os.getpid()) and other is None
        assert (tmp_path / FOLDER / "a").exists(), "whoever was refused does not free it"
    assert not list((tmp_path / FOLDER).iterdir())
    with pytest.raises(RuntimeError), claimed(tmp_path, "a"):
        raise RuntimeError
    with claimed(tmp_path, "a") as again:
        assert again is None


def test_a_claim_of_a_dead_owner_is_taken_over(tmp_path: Path) -> None:
    def stale(host: str, pid: int, age_s: float, text: str | None = None) -> Owner | None:
        path = tmp_path / FOLDER / "a"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text or json.dumps({"host": host, "pid": pid, "token": "x"}))
        os.utime(path, (time.time() - age_s,) * 2)
        with claimed(tmp_path, "a") as owner:
            return owner

    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    assert stale(host_name(), dead.pid, 0.0) is None, "its process is gone"
    assert stale(host_name(), os.getpid(), 0.0) is not None
    assert stale(host_name(), os.getpid(), 2 * claims.STALE_S) is None, "no sign of life, though the pid is taken"
    assert stale("elsewhere", 1, 0.5 * claims.STALE_S) == Owner("elsewhere", 1)
    assert stale("elsewhere", 1, 1.5 * claims.STALE_S) is None
    assert stale("", 0, 0.0, "{") == Owner("an unknown machine", 0), "it may be written this moment"
    assert stale("", 0, 2 * claims.STALE_S, "{") is None
    assert not [path for path in (tmp_path / FOLDER).iterdir() if path.name != "a"]

    for name in (
        f"a~{host_name()}-{dead.pid}-7",
        f"~now-{host_name()}-{dead.pid}-7",
        f"b~dead-{host_name()}-{dead.pid}-7",
    ):
        (tmp_path / FOLDER / name).touch()
    (tmp_path / FOLDER / f"b~{host_name()}-{os.getpid()}-7").touch()
    (tmp_path / FOLDER / "a").write_text(json.dumps({"host": host_name(), "pid": dead.pid, "token": "x"}))
    claims.tidy(tmp_path)
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == [f"b~{host_name()}-{os.getpid()}-7"]
    (tmp_path / FOLDER / f"b~{host_name()}-{os.getpid()}-7").unlink()
    claims.tidy(tmp_path)
    assert not (tmp_path / FOLDER).exists()


def test_an_owner_gives_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "BEAT_S", 0.02)
    with claimed(tmp_path, "a"):
        path = tmp_path / FOLDER / "a"
        os.utime(path, (0, 0))
        for _ in range(500):
            if path.stat().st_mtime > 0:
                break
            time.sleep(0.02)
        assert path.stat().st_mtime > 0


def count_under_claims(home: Path, n: int) -> None:
    for _ in range(n):
        while True:
            with claimed(home, "counter") as owner:
                if owner is None:
                    number = int((home / "n").read_text())
                    time.sleep(0.001)
                    (home / "n").write_text(str(number + 1))
                    break


@pytest.mark.slow
def test_processes_exclude_each_other(tmp_path: Path) -> None:
    (tmp_path / "n").write_text("0")
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=count_under_claims, args=(tmp_path, 20)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert (tmp_path / "n").read_text() == "40"


# --- parts


def test_parts_share_nothing_and_are_everything() -> None:
    jobs = list(range(23))
    parts = [Shard(number, 5).part(jobs) for number in range(1, 6)]
    assert sorted(job for part in parts for job in part) == jobs and {len(part) for part in parts} == {4, 5}
    for text in ("0/3", "4/3", "1", "1/0", "a/b", "-1/3", "1/3/5", ""):
        with pytest.raises(ValueError, match="not of the form I/N"):
            read_shard(text)


# --- a dataset of six recordings of one scene


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scene") / "face.mp4"
    write_scene(SceneConfig(seed=11, duration_s=6.0, width=96, height=72, fps=12.0, face_px=48), path)
    return path


def reference(seed: int) -> Reference:
    t_s = np.arange(0.0, 7.0, 0.05)
    return Reference(t_s, np.sin((6 + 0.3 * seed) * t_s), np.full(len(t_s), 60.0 + 3 * seed))


def deadly_reference(seed: int, deaths: Path, n_deaths: int) -> Reference:
    """The first ``n_deaths`` processes that read it are killed."""
    deaths.mkdir(exist_ok=True)
    if multiprocessing.parent_process() is not None and len(list(deaths.iterdir())) < n_deaths:
        (deaths / str(os.getpid())).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return reference(seed)


def recordings(video: Path, deaths: Path | None = None, n_deaths: int = 0) -> list[Recording]:
    found = [
        Recording("made", f"s{n}", "1", video, functools.partial(reference, n), groups={"n": str(n)})
        for n in range(N_RECORDINGS)
    ]
    if deaths is not None:
        deadly = functools.partial(deadly_reference, 2, deaths, n_deaths)
        found[2] = dataclasses.replace(found[2], reference=deadly)
    return found


def spec_of(found: list[Recording]) -> DatasetSpec:
    gone = (Absent("made/s9/1", "it is missing.", known_gap=True),)
    return DatasetSpec("made", "Made", lambda root: Listing(tuple(found), gone), "none needed")


def digest(folder: Path) -> str:
    """Digest of every name and every byte of what a cache holds."""
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            whole.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return whole.hexdigest()


@pytest.fixture(scope="module")
def undisturbed(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("undisturbed")
    prepare(recordings(scene), out, SMALL, workers=1, detector=MiddleDetector())
    return digest(out)


@pytest.mark.slow
def test_a_killed_worker_costs_one_try_and_changes_no_byte(scene: Path, tmp_path: Path, undisturbed: str) -> None:
    found = recordings(scene, tmp_path / "deaths", n_deaths=1)
    manifest = prepare(found, tmp_path / "cache", SMALL, workers=2, detector=MiddleDetector())
    assert len(list((tmp_path / "deaths").iterdir())) == 1 and len(manifest.kept) == N_RECORDINGS
    assert digest(tmp_path / "cache") == undisturbed


@pytest.mark.slow
def test_a_recording_that_kills_twice_stands_in_the_manifest(scene: Path, tmp_path: Path) -> None:
    found = recordings(scene, tmp_path / "deaths", n_deaths=2)
    spec = spec_of(found)
    make = functools.partial(prepare_dataset, spec, tmp_path, tmp_path / "cache", SMALL, detector=MiddleDetector())
    manifest = make(workers=2)
    (lost,) = manifest.excluded
    assert lost.id == "made/s2/1" and "killed by signal 9 (SIGKILL), twice" in str(lost.reason) and lost.damaged
    assert len(manifest.kept) == N_RECORDINGS - 1 and "made/s2/1" in str(manifest.refusal())
    rows = json.loads(manifest_path(tmp_path / "cache", SMALL, "made").read_text())["recordings"]
    assert {row["id"]: row["state"] for row in rows}["made/s2/1"] == "excluded" and len(rows) == N_RECORDINGS + 1
    assert len(open_cached(tmp_path / "cache", SMALL)) == N_RECORDINGS - 1
    assert len(make(workers=2).kept) == N_RECORDINGS, "the next call tries it anew"


def test_parts_are_merged_when_all_are_there(scene: Path, tmp_path: Path, undisturbed: str) -> None:
    found = recordings(scene)
    spec, out = spec_of(found), tmp_path / "cache"
    part = functools.partial(prepare_shard, spec, tmp_path, out, SMALL, workers=1, detector=MiddleDetector())
    merge = functools.partial(merge_dataset, spec, tmp_path, out, SMALL)
    with pytest.raises(BadRecording, match="6 of 6 recordings .*first made/s0/1. Prepare them, then merge"):
        merge()
    assert [entry.id for entry in part(shard=Shard(1, 3)).kept] == ["made/s0/1", "made/s3/1"]
    part(shard=Shard(3, 3))
    with pytest.raises(BadRecording, match="2 of 6 .*first made/s1/1. Run --shard 2/3 again"):
        merge()
    part(shard=Shard(2, 3))
    seen: list[Entry] = []
    merged = merge(progress=lambda done, total, entry: seen.append(entry))
    assert len(seen) == N_RECORDINGS
    whole = prepare_dataset(spec, tmp_path, tmp_path / "whole", SMALL, workers=1, detector=MiddleDetector())
    assert merged.as_dict() == whole.as_dict()
    for file in manifest_path(out, SMALL, "made").parent.iterdir():
        file.unlink()
    manifest_path(out, SMALL, "made").parent.rmdir()
    assert digest(out) == undisturbed

    # A part's record that cannot be read, and a label that has changed since.
    folder = manifest_path(out, SMALL, "made").parent
    folder.mkdir()
    write_json(folder / "shard_1_of_3.json", {"schema": "autohr.shard/1", "entries": [{"id": 3}]})
    with pytest.raises(BadRecording, match="shard_1_of_3.json.* is damaged"):
        merge()
    (folder / "shard_1_of_3.json").unlink()
    changed = dataclasses.replace(found[4], reference=functools.partial(reference, 5))
    with pytest.raises(BadRecording, match="first made/s4/1"):
        merge_dataset(spec_of([*found[:4], changed, *found[5:]]), tmp_path, out, SMALL)


@pytest.mark.slow
def test_a_part_tells_what_killed_its_workers(scene: Path, tmp_path: Path) -> None:
    spec = spec_of(recordings(scene, tmp_path / "deaths", n_deaths=2))
    for number in (1, 2):
        prepare_shard(spec, tmp_path, tmp_path / "cache", SMALL, Shard(number, 2), workers=2, detector=MiddleDetector())
    (lost,) = merge_dataset(spec, tmp_path, tmp_path / "cache", SMALL).excluded
    assert lost.id == "made/s2/1" and "twice" in str(lost.reason)


def prepare_in_turn(video: Path, out: Path, workers: int) -> None:
    prepare(recordings(video), out, SMALL, workers=workers, detector=MiddleDetector())


@pytest.mark.slow
def test_kills_at_random_moments_change_no_byte(scene: Path, tmp_path: Path, undisturbed: str) -> None:
    """The whole command, SIGKILLed again and again; benchmarks/cluster.py does it twenty times."""
    context, chance = multiprocessing.get_context("spawn"), random.Random(5)
    for _ in range(3):
        process = context.Process(target=prepare_in_turn, args=(scene, tmp_path, 1))
        process.start()
        process.join(chance.uniform(1.0, 4.0))
        process.kill()
        process.join()
    prepare_in_turn(scene, tmp_path, 1)
    assert digest(tmp_path) == undisturbed


def test_two_commands_share_the_work(
    scene: Path, tmp_path: Path, undisturbed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that finds a recording claimed does the others first, and waits for it."""
    monkeypatch.setattr("autohr.lab.datasets.cache.WAIT_S", 0.05)
    home = cache_folder(tmp_path, SMALL)
    other = claimed(home, next(iter(_folder_names())))
    assert other.__enter__() is None
    seen: list[str] = []

    def progress(done: int, total: int, entry: Entry) -> None:
        seen.append(entry.subject)
        if len(seen) == N_RECORDINGS - 1:
            other.__exit__(None, None, None)

    prepare(recordings(scene), tmp_path, SMALL, workers=1, detector=MiddleDetector(), progress=progress)
    assert seen == ["s1", "s2", "s3", "s4", "s5", "s0"] and digest(tmp_path) == undisturbed


def _folder_names() -> list[str]:
    from autohr.lab.datasets.recording import file_stem

    return [file_stem(f"made/s{n}/1") for n in range(N_RECORDINGS)]


# --- a scheduler


def double_or_die(job: int, report: Report) -> int:
    report("not sent")
    if job == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * job


def complain(job: int, report: Report) -> int:
    raise ValueError(f"job {job}")


pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.mark.slow
def test_a_scheduler_does_the_jobs_and_outlives_its_workers(cluster: tuple[str, object]) -> None:
    address, _ = cluster
    deaths: list[int] = []
    jobs = list(range(8))
    done = dict(on_cluster(double_or_die, jobs, address, on_death=lambda number, _: deaths.append(number)))
    assert 3 in deaths and isinstance(done.pop(3), WorkerDied)
    assert done == {job: 2 * job for job in jobs if job != 3}
    with pytest.raises(ValueError, match="job 1"):
        list(share_out(complain, [1], cluster=address))


@pytest.mark.slow
def test_a_scheduler_prepares_the_same_bytes_though_a_worker_is_killed(
    cluster: tuple[str, object], scene: Path, tmp_path: Path, undisturbed: str
) -> None:
    found = recordings(scene, tmp_path / "deaths", n_deaths=1)
    manifest = prepare(found, tmp_path / "cache", SMALL, cluster=cluster[0], detector=MiddleDetector())
    assert len(list((tmp_path / "deaths").iterdir())) == 1 and len(manifest.kept) == N_RECORDINGS
    assert digest(tmp_path / "cache") == undisturbed


def test_a_scheduler_that_is_not_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autohr.cluster.CONNECT_S", 0.5)
    with pytest.raises(AutoHRError, match="neither an address .* nor a scheduler file"):
        list(on_cluster(double_or_die, [1], str(tmp_path / "none.json")))
    with pytest.raises(AutoHRError, match="No scheduler answers at 'tcp://127.0.0.1:9'.*dask scheduler"):
        list(on_cluster(double_or_die, [1], "tcp://127.0.0.1:9"))
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(AutoHRError, match=r"pip install 'autohr\[cluster\]'"):
        list(on_cluster(double_or_die, [1], "tcp://127.0.0.1:9"))


# --- the commands


def test_the_commands_refuse_what_is_no_part(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, err = autohr(capsys, "prepare", "folder", tmp_path, "--shard", "4/3")
    assert code == 2 and "not of the form I/N" in err


def test_the_commands_prepare_parts_and_merge_them(
    capsys: pytest.CaptureFixture[str], scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(recordings(scene))
    monkeypatch.setattr("autohr.lab.datasets.cache._detector", MiddleDetector)
    monkeypatch.setattr("autohr.lab.datasets.DATASETS", {"made": spec})
    monkeypatch.setattr(manifests, "check_needs", lambda spec: None)
    words = ("made", tmp_path, "--out", tmp_path / "cache", "--size-px", 32)
    code, out, _ = autohr(capsys, "prepare", *words, "--workers", 1, "--shard", "1/2")
    assert code == 0 and "Part 1 of 2: 3 of 3 recordings kept." in out and "autohr merge made" in out
    code, _, err = autohr(capsys, "merge", *words)
    assert code == 1 and "3 of 6 recordings" in err and "--shard 2/2" in err
    assert autohr(capsys, "prepare", *words, "--workers", 1, "--shard", "2/2")[0] == 0
    # All show one video, which is a finding.
    code, out, _ = autohr(capsys, "merge", *words, "--allow-missing")
    assert code == 0 and "6 of 6 recordings kept" in out


# --- methods, and the commands on a scheduler


def deadly_wave(deaths: Path, n_deaths: int, from_s: float, clip: FaceClip) -> Pulse:
    """GREEN, whose process is killed by the first ``n_deaths`` clips that begin at ``from_s`` or later."""
    deaths.mkdir(exist_ok=True)
    if (
        clip.start_s >= from_s
        and multiprocessing.parent_process() is not None
        and len(list(deaths.iterdir())) < n_deaths
    ):
        (deaths / str(os.getpid())).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return load_method("green").wave(clip)


@pytest.fixture(scope="module")
def prepared(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared")
    prepare(recordings(scene), out, SMALL, workers=1, detector=MiddleDetector())
    return out


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["processes", "scheduler"])
def test_methods_are_asked_side_by_side_and_say_the_same(
    engine: str, cluster: tuple[str, object], prepared: Path, tmp_path: Path
) -> None:
    opened = open_cached(prepared, SMALL)
    entries = read_manifest(prepared, SMALL).entries
    options = {"workers": 2} if engine == "processes" else {"cluster": cluster[0]}
    judge = functools.partial(run, "reference", recordings=opened, entries=entries, crop=SMALL)
    alone = judge(load_method("green"), out=tmp_path / "alone")
    wave = functools.partial(deadly_wave, tmp_path / "deaths", 1, 0.0)
    deadly = dataclasses.replace(load_method("green"), wave=wave)
    seen: list[int] = []
    both = judge(deadly, out=tmp_path / "both", progress=lambda done, total, _: seen.append(done), **options)
    assert both.accounts == alone.accounts and seen == list(range(1, N_RECORDINGS + 1))
    assert len(list((tmp_path / "deaths").iterdir())) == 1
    for file in (tmp_path / "alone" / "results" / "green").iterdir():
        assert file.read_bytes() == (tmp_path / "both" / "results" / "green" / file.name).read_bytes()


@pytest.mark.slow
def test_a_recording_that_kills_a_method_twice_says_so_and_is_tried_anew(prepared: Path, tmp_path: Path) -> None:
    wave = functools.partial(deadly_wave, tmp_path / "deaths", 2, 0.4)
    one, two, *_ = open_cached(prepared, SMALL)
    judge = functools.partial(
        run,
        "reference",
        dataclasses.replace(load_method("green"), wave=wave),
        [one, dataclasses.replace(two, start_s=0.5)],
        tmp_path / "run",
        crop=SMALL,
    )
    lost = [one for one in judge(workers=2).accounts if one.state != "scored"]
    assert [one.recording_id for one in lost] == [two.recording_id] and "killed by signal 9 (SIGKILL), twice" in str(
        lost[0].reason
    )
    assert {one.state for one in judge(workers=2).accounts} == {"scored"}


@pytest.mark.slow
def test_a_folder_is_measured_on_a_scheduler(
    cluster: tuple[str, object], capsys: pytest.CaptureFixture[str], scene: Path, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.mp4").write_bytes(scene.read_bytes())
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    results: list[bytes] = []
    for more in ((), ("--cluster", cluster[0])):
        out = tmp_path / f"out{len(results)}.json"
        code, _, err = autohr(capsys, "measure", tmp_path, "--method", "pos", "--json", out, *more)
        assert code == 1 and "broken.mp4" in err
        results.append(out.read_bytes())
    assert results[0] == results[1]
