"""Measure how fast ``autohr measure`` is, stage by stage and beside others: 640x480, h264, 30 frames per second.

    python benchmarks/measure.py [--long-s 600] [--peer PYTHON] [--only start files stages peers] [--out-result OUT]

Four parts, each on a drawn face of 30 s. The long file is that one repeated, bit for bit.

    start   seconds from the start of the process until its first frame is decoded, and until its face is read
    files   the 30 s and the long file: wall and processor seconds, times real time and peak memory on two cores and on
            one; resident memory in each tenth of the long one's time
    stages  processor time of each stage for a second of video, on one core with one thread. Their sum is the floor:
            each frame decoded, its face read and passed through the network once, and one reading a second. What the
            command takes over that is lost in between.
    peers   the package open-rppg on the 30 s file, in turn with ours

Each run of start, files and peers is a fresh process, as a user starts it: imports, decoding, faces, rates and output
are all in the figures. Processor seconds are user and system time of the whole process; beside other programs they are
the figures to trust. The best of ``--runs`` counts, of the long file the only one. ``--long-s 3600`` shows an hour. An
older version is measured by giving its ``src`` folder as PYTHONPATH.

The peers need an environment of their own: python -m venv ENV; ENV/bin/pip install open-rppg; then
``--peer ENV/bin/python``. The wheel brings the networks' weights; nothing is fetched when it runs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from results import markdown_table, save_result

# Nothing of autohr is imported here, but in the processes that need it: on Linux a process counts the memory of the one
# that started it as its own peak, so this one must stay small.

SHORT_S, FPS = 30.0, 30.0
CRF = 14
"""About 4 Mbit/s here, as a good webcam or a phone at this size."""
STAGES = ("decode", "front end", "crops", "net", "readings")
PARTS = ("start", "files", "stages", "peers")
PIECE_FRAMES = 300
"""Frames of ten seconds, which are decoded, or fed to a network, at a time where stages are measured."""
POLL_S = 0.25
"""Time between two looks at a running process's memory."""
RIGHT_BPM = 3.0
"""Largest error of a rate that counts as right: a run that answers wrongly is no measurement of speed."""
PEERS = ("FacePhys.rlap", "PhysNet.rlap")
"""Models of open-rppg: its default, and the classic network."""

FIRST_FRAME = """
import sys, time
began_s = float(sys.argv.pop(1))
from autohr.video.decode import VideoReader
decode = VideoReader.__next__
def first_frame(video):
    frame = decode(video)
    VideoReader.__next__ = decode
    print("decoded", time.monotonic() - began_s, time.process_time(), file=sys.stderr, flush=True)
    return frame
VideoReader.__next__ = first_frame
from autohr.frontend import FaceReader
push = FaceReader.push
def first_push(reader, *given, **named):
    rows = push(reader, *given, **named)
    FaceReader.push = push
    print("read", time.monotonic() - began_s, time.process_time(), file=sys.stderr, flush=True)
    return rows
FaceReader.push = first_push
from autohr.cli.main import main
main()
"""
"""Program that runs the command line and writes seconds since the process was started, and processor seconds, when the
first frame was decoded and when its face was read."""

OURS = """
import json, sys, time
import autohr
method = autohr.load_method(sys.argv[1] or None, sys.argv[2] or None)
times_s = [time.process_time()]
for path in sys.argv[3:]:
    measured = autohr.measure(path, method)
    times_s.append(time.process_time())
print(json.dumps({"times_s": times_s, "hr_bpm": measured.face.hr_bpm, "name": measured.method}))
"""
THEIRS = """
import json, sys, time
import rppg
model = rppg.Model(sys.argv[1])
times_s = [time.process_time()]
for path in sys.argv[2:]:
    answer = model.process_video(path)
    times_s.append(time.process_time())
print(json.dumps({"times_s": times_s, "hr_bpm": float(answer["hr"]), "name": sys.argv[1]}))
"""
"""Programs that measure files in one process; ``times_s`` are processor seconds when it was ready, and after each."""


@dataclass(frozen=True)
class Run:
    """One process that has ended well."""

    wall_s: float
    cpu_s: float
    """User and system time, its own and its children's."""
    peak_mib: float
    rss_mib: list[tuple[float, float]]
    """(seconds since the start, resident memory of it and its children), every ``POLL_S``."""
    stdout: str
    stderr: str


@contextlib.contextmanager
def on_cores(n_cores: int | None) -> Iterator[None]:
    """Hold this process, and those it starts, to so many cores; None leaves them all."""
    if n_cores is None or not hasattr(os, "sched_setaffinity"):
        yield
        return
    all_cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(all_cores)[-n_cores:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, all_cores)


def run(arguments: Sequence[str], n_cores: int | None = None, env: dict[str, str] | None = None) -> Run:
    """Run a program to its end on so many cores. Raises SystemExit where it fails."""
    import psutil

    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        began_s = time.monotonic()
        with on_cores(n_cores):
            process = subprocess.Popen(arguments, stdout=out, stderr=err, env=env)
        rss_mib: list[tuple[float, float]] = []
        done = threading.Event()

        def watch() -> None:
            with contextlib.suppress(psutil.Error):
                root = psutil.Process(process.pid)
                while not done.wait(POLL_S):
                    family = [root, *root.children(recursive=True)]
                    total = sum(one.memory_info().rss for one in family)
                    rss_mib.append((time.monotonic() - began_s, total / 2**20))

        watcher = threading.Thread(target=watch)
        watcher.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.monotonic() - began_s
        done.set()
        watcher.join()
        process.returncode = os.waitstatus_to_exitcode(status)
        for stream in (out, err):
            stream.seek(0)
        text, errors = out.read(), err.read()
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(arguments[:4])} ... failed with {process.returncode}: {errors.strip()[-2000:]}")
    # Bytes on a Mac. The largest process alone, where there are several; hence the samples of all together too.
    peak_mib = usage.ru_maxrss / 2**10 / (2**10 if sys.platform == "darwin" else 1)
    peak_mib = max([peak_mib, *(mib for _, mib in rss_mib)])
    return Run(wall_s, usage.ru_utime + usage.ru_stime, peak_mib, rss_mib, text, errors)


def measure(video: Path, true_bpm: float, chosen: Chosen, n_cores: int | None) -> tuple[str, Run]:
    """Run ``autohr measure`` and return the method's name and the run. Raises SystemExit for a wrong rate."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        arguments = [sys.executable, "-m", "autohr", "measure", str(video), "--json", str(out), *chosen.options]
        one = run(arguments, n_cores)
        measured = json.loads(out.read_text(encoding="utf-8"))
    rate_bpm = measured["faces"][0]["hr_bpm"]
    check_rate(rate_bpm, true_bpm, measured["method"])
    return str(measured["method"]), one


def check_rate(rate_bpm: float | None, true_bpm: float, name: str) -> None:
    """Raise SystemExit for a rate that is not right."""
    if rate_bpm is None or not abs(rate_bpm - true_bpm) <= RIGHT_BPM:
        raise SystemExit(f"{name} answers {rate_bpm} bpm where {true_bpm:.1f} is true; its speed is not reported.")


def in_tenths(one: Run) -> list[int]:
    """Return the largest resident memory (MiB) in each tenth of a run's time."""
    tenths: list[float] = []
    for k in range(10):
        inside = [mib for at_s, mib in one.rss_mib if k <= 10 * at_s / one.wall_s < k + 1]
        tenths.append(max(inside) if inside else tenths[-1] if tenths else 0.0)
    return [round(mib) for mib in tenths]


# ---------------------------------------------------------------------------------------------------------------------
# Work that is done in processes of its own


def make_videos(short: Path, long: Path, long_s: float) -> float:
    """Write the 30 s video, and its packets again and again up to ``long_s``; return the true rate in bpm."""
    import av

    from autohr.lab.synth.video import SceneConfig, write_scene

    truth = write_scene(SceneConfig(seed=3, duration_s=SHORT_S, pulse_depth=0.02, noise_sd=1.5), short, crf=CRF)
    with av.open(str(long), "w") as out:
        stream = None
        for turn in range(round(long_s / SHORT_S)):
            with av.open(str(short)) as source:
                video = source.streams.video[0]
                stream = stream or out.add_stream_from_template(video)
                for packet in source.demux(video):
                    if packet.pts is None or packet.dts is None or packet.time_base is None:
                        continue  # the empty packet at the end
                    later = round(turn * SHORT_S / packet.time_base)
                    packet.pts, packet.dts, packet.stream = packet.pts + later, packet.dts + later, stream
                    out.mux(packet)
    assert truth.mean_hr_bpm is not None
    return truth.mean_hr_bpm


def stage_costs(
    video: Path, method_name: str | None, weights: str | None, runs: int
) -> tuple[str, dict[str, float | None]]:
    """Return the method's name and the processor time of each stage alone, in ms for a second of ``video``.

    The best of ``runs`` counts. "crops" is making them small as the method is given them and reading their cells. The
    network reads each crop once, ten seconds at a time. A reading is the verdict on one window's wave with its
    evidence, MVDR for a net, and the wave itself for a formula: the calls that measuring makes are recorded and made
    again.
    """
    import numpy as np

    from autohr.confidence import verdict
    from autohr.confidence.evidence import CELLS
    from autohr.frontend import CropConfig, FaceReader, FaceRow, shrink
    from autohr.measure import measure as measure_video
    from autohr.methods import find_weights, load_method
    from autohr.runtime import load_onnx
    from autohr.types import FaceClip, as_net_input
    from autohr.video.decode import VideoFrame, open_video
    from autohr.video.regions import cells_of

    method = load_method(method_name, weights)
    judge = verdict.estimate
    judged: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def recorded(*given: Any, **named: Any) -> Any:
        judged.append((given, named))
        return judge(*given, **named)

    users = [module for name, module in sys.modules.items() if name.startswith("autohr.")]
    names = [(module, name) for module in users for name, value in vars(module).items() if value is judge]
    for module, name in names:
        setattr(module, name, recorded)
    measured = measure_video(video, method)
    for module, name in names:
        setattr(module, name, judge)
    if not judged:
        raise SystemExit("No reading came by autohr.confidence.verdict.estimate: stage_costs must follow the engine.")

    def again(value: Any) -> Any:
        """Return a window that nothing is known of yet: some results are kept for each one."""
        return replace(value) if isinstance(value, FaceClip) else value

    def read_frames() -> int:
        with open_video(video) as reader:
            return sum(1 for _ in reader)

    def read_faces() -> tuple[float, list[FaceRow]]:
        """Return processor seconds of the front end, and its rows; ten seconds of frames are decoded before."""
        crop = method.crop.stored if method.crop is not None else CropConfig()
        faces = FaceReader(crop, with_crops=method.crop is not None)
        took_s, waiting, rows = 0.0, list[VideoFrame](), list[FaceRow]()

        def push_all() -> None:
            for frame in waiting:
                rows.extend(faces.push(frame.rgb, frame.t_s, whole=frame.whole))
            waiting.clear()

        with open_video(video) as reader:
            for frame in reader:
                waiting.append(frame)
                if len(waiting) >= PIECE_FRAMES:
                    took_s += _cpu_s(push_all)
        return took_s + _cpu_s(push_all), rows

    def judge_all() -> None:
        for given, named in judged:
            if not method.is_net:
                method(again(given[0]))
                continue
            judge(*map(again, given), **{key: again(value) for key, value in named.items()})

    costs: dict[str, list[float]] = {}
    for _ in range(runs):
        costs.setdefault("decode", []).append(_cpu_s(read_frames) / SHORT_S)
        took_s, rows = read_faces()
        costs.setdefault("front end", []).append(took_s / SHORT_S)
        # One reading a second; the last window of a video may be one more.
        costs.setdefault("readings", []).append(_cpu_s(judge_all) / len(measured.face.windows))
        if method.crop is None:
            continue
        small = []
        began_s = time.process_time()
        for row in rows:
            if row.crop is not None:
                small.append(shrink(row.crop, method.crop.size_px))
                cells_of(small[-1][None], CELLS)
        costs.setdefault("crops", []).append((time.process_time() - began_s) / SHORT_S)
    if method.crop is not None and method.is_net:
        net = load_onnx(find_weights(method.name, weights, ".onnx")[0])
        # The rest would be a shorter piece.
        pieces = [small[first : first + PIECE_FRAMES] for first in range(0, len(small), PIECE_FRAMES)]
        pieces = [piece for piece in pieces if len(piece) == PIECE_FRAMES]
        for piece in pieces:
            fed = as_net_input(np.stack(piece))
            best_s = min(_cpu_s(partial(net.run, fed, FPS)) for _ in range(runs))
            costs.setdefault("net", [0.0])[0] += best_s * FPS / PIECE_FRAMES / len(pieces)
    return method.name, {stage: 1000 * min(costs[stage]) if stage in costs else None for stage in STAGES}


def _cpu_s(work: Callable[[], object]) -> float:
    began_s = time.process_time()
    work()
    return time.process_time() - began_s


def in_process(work: Callable[..., Any], *arguments: Any, n_cores: int | None = None) -> Any:
    """Call a function in a process of its own, started afresh, with one thread for numerical libraries."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        with on_cores(n_cores), multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.apply(work, arguments)
    finally:
        del os.environ["OMP_NUM_THREADS"]
        if before is not None:
            os.environ["OMP_NUM_THREADS"] = before


# ---------------------------------------------------------------------------------------------------------------------
# The four parts


@dataclass(frozen=True)
class Chosen:
    """A method as a user chooses it; None is the default."""

    method: str | None = None
    weights: str | None = None

    @property
    def options(self) -> list[str]:
        """Options of ``autohr measure``."""
        given = (("--method", self.method), ("--weights", self.weights))
        return [text for name, value in given if value is not None for text in (name, value)]


@dataclass(frozen=True)
class Bench:
    """Settings of one run of this benchmark, and the tables and values that come of it."""

    short: Path
    long: Path
    long_s: float
    true_bpm: float
    methods: list[Chosen]
    cores: list[int]
    runs: int
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    whole: dict[str, float] = field(default_factory=dict)
    """Processor seconds of the command for a second of the long video on one core, by method."""

    def show(self, name: str, table: dict[str, Any]) -> None:
        """Print a table and keep it."""
        self.tables[name] = table
        print(f"\n{markdown_table(**table)}", flush=True)


def seconds_to_first_frame(bench: Bench) -> None:
    rows: list[list[Any]] = []
    for chosen in bench.methods:
        seen: dict[str, list[tuple[float, float]]] = {"decoded": [], "read": []}
        for _ in range(bench.runs):
            with tempfile.TemporaryDirectory() as folder:
                out = Path(folder) / "out.json"
                given = ["measure", str(bench.short), "--end-s", "10", "--json", str(out), *chosen.options]
                one = run([sys.executable, "-c", FIRST_FRAME, str(time.monotonic()), *given], 2)
                name = json.loads(out.read_text(encoding="utf-8"))["method"]
            for line in one.stderr.splitlines():
                word, *seconds = line.split()
                if word in seen and len(seconds) == 2:
                    seen[word].append((float(seconds[0]), float(seconds[1])))
        if not all(seen.values()):
            raise SystemExit("No frame came by VideoReader and FaceReader.push: FIRST_FRAME must follow the engine.")
        rows.append([name, *(seconds for moments in seen.values() for seconds in min(moments))])
    columns = ["method", "first frame decoded (s)", "CPU until then (s)", "its face read (s)", "that CPU (s)"]
    bench.show("start", {"columns": columns, "formats": dict.fromkeys(columns[1:], ".2f"), "rows": rows})


def speed_of_files(bench: Bench) -> None:
    rows: list[list[Any]] = []
    memory: list[list[Any]] = []
    files = [(bench.short, SHORT_S, bench.runs), (bench.long, bench.long_s, 1)]
    for chosen in bench.methods:
        for video, duration_s, runs in files:
            for n_cores in bench.cores:
                done = [measure(video, bench.true_bpm, chosen, n_cores) for _ in range(runs)]
                method = done[0][0]
                wall_s, cpu_s = min(one.wall_s for _, one in done), min(one.cpu_s for _, one in done)
                peak_mib = max(one.peak_mib for _, one in done)
                name = f"{method}, {_long(duration_s)}, {_cores(n_cores)}"
                rows.append([name, duration_s / wall_s, wall_s, cpu_s, cpu_s / duration_s, peak_mib])
                print(
                    f"{name}: {wall_s:.1f} s = {duration_s / wall_s:.1f}x real time, {cpu_s:.1f} CPU s = "
                    f"{duration_s / cpu_s:.1f}x, peak {peak_mib:.0f} MiB",
                    flush=True,
                )
                if video == bench.long:
                    memory.append([name, *in_tenths(done[0][1])])
                    if n_cores == 1:
                        bench.whole[method] = cpu_s / duration_s
    columns = ["run", "times real time", "wall (s)", "CPU (s)", "CPU s per s of video", "peak memory (MiB)"]
    formats = dict(zip(columns[1:], (".1f", ".1f", ".1f", ".3f", ".0f"), strict=True))
    bench.show("measure", {"columns": columns, "formats": formats, "rows": rows})
    columns = ["largest resident memory (MiB) up to", *(f"{tenth} %" for tenth in range(10, 101, 10))]
    bench.show("memory", {"columns": columns, "rows": memory})


def cost_of_stages(bench: Bench) -> None:
    stages: dict[str, list[float | None]] = {}
    columns = ["CPU ms per s of video"]
    for chosen in bench.methods:
        method, costs = in_process(stage_costs, bench.short, chosen.method, chosen.weights, bench.runs, n_cores=1)
        if method not in bench.whole:
            bench.whole[method] = measure(bench.long, bench.true_bpm, chosen, 1)[1].cpu_s / bench.long_s
        columns.append(method)
        floor, whole = sum(cost for cost in costs.values() if cost is not None), 1000 * bench.whole[method]
        costs |= {
            "floor: the sum": floor,
            f"autohr measure, {_long(bench.long_s)}": whole,
            "above the floor": whole - floor,
        }
        for stage, cost in costs.items():
            stages.setdefault(stage, []).append(cost)
        bench.values[f"{method}-over-floor"] = whole / floor
        print(f"{method}: {whole:.0f} ms for a second of video, {whole / floor:.2f} times the floor of {floor:.0f} ms")
    rows = [[stage, *cells] for stage, cells in stages.items()]
    bench.show("stages", {"columns": columns, "formats": dict.fromkeys(columns[1:], ".1f"), "rows": rows})


def beside_peers(bench: Bench, python: str) -> None:
    """Measure the 30 s file with ours and with each peer in turn, and once more with each, the file given twice."""
    # Their interpreter must not find our packages.
    theirs = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    programs: dict[str, tuple[list[str], dict[str, str] | None]] = {}
    for chosen in bench.methods:
        given = [sys.executable, "-c", OURS, chosen.method or "", chosen.weights or ""]
        programs[f"autohr {chosen.method or '(default)'}"] = given, None
    for model in PEERS:
        programs[f"open-rppg {model}"] = [python, "-c", THEIRS, model], theirs
    cores = [2, None] if (os.cpu_count() or 1) > 2 else [2]
    rows: list[list[Any]] = []
    for n_cores in cores:
        done: dict[str, list[tuple[Run, dict[str, Any]]]] = {name: [] for name in programs}
        for turn in range(bench.runs + 1):
            # The last turn tells what a file costs once all is loaded and compiled.
            files = [str(bench.short)] * (2 if turn == bench.runs else 1)
            for name, (arguments, env) in programs.items():
                one = run([*arguments, *files], n_cores, env)
                said = json.loads(one.stdout.splitlines()[-1])
                check_rate(said["hr_bpm"], bench.true_bpm, name)
                done[name].append((one, said))
        for name, runs in done.items():
            *once, (_, twice) = runs
            _, first_s, second_s = twice["times_s"]
            one = min((one for one, _ in once), key=lambda one: one.cpu_s)
            wall_s, ready_s = min(one.wall_s for one, _ in once), min(said["times_s"][0] for _, said in once)
            label = name + (f", {_cores(n_cores)}" if len(cores) > 1 else "")
            rows.append([label, one.cpu_s, wall_s, ready_s, second_s - first_s, one.peak_mib, twice["hr_bpm"]])
            print(f"{label}: {', '.join(f'{one.cpu_s:.1f}' for one, _ in once)} CPU s", flush=True)
    columns = [
        "on two cores" if len(cores) == 1 else "program",
        "CPU (s)",
        "wall (s)",
        "CPU until ready (s)",
        "CPU of a second file (s)",
        "peak memory (MiB)",
        "answer (bpm)",
    ]
    formats = dict(zip(columns[1:], (".1f", ".1f", ".1f", ".1f", ".0f", ".1f"), strict=True))
    bench.show("peers", {"columns": columns, "formats": formats, "rows": rows})


def _long(seconds: float) -> str:
    return f"{seconds / 60:g} min" if seconds >= 60 else f"{seconds:g} s"


def _cores(n_cores: int | None) -> str:
    return "all cores" if n_cores is None else f"{n_cores} core{'s' * (n_cores > 1)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", action="append", help="may be repeated; the default method and pos if not given")
    parser.add_argument("--weights", help="for a net: a name of `autohr list weights` or a file")
    parser.add_argument("--long-s", type=float, default=600.0, help="length of the long video, a multiple of 30 s")
    parser.add_argument("--cores", type=int, nargs="+", default=[2, 1], help="cores that the files are measured on")
    parser.add_argument("--runs", type=int, default=3, help="of each short measurement; the best counts")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--peer", metavar="PYTHON", help="interpreter of an environment with open-rppg")
    parser.add_argument("--out-result", type=Path, help="result file, docs/results/speed.json")
    options = parser.parse_args()
    if options.long_s < 2 * SHORT_S or options.long_s % SHORT_S:
        parser.error(f"--long-s {options.long_s:g} must be twice {SHORT_S:g} s, or three times, and so on.")
    if options.runs < 1 or min(options.cores) < 1:
        parser.error("--runs and --cores must be at least 1.")
    names = options.method or [None, "pos"]
    methods = [Chosen(name, None if name == "pos" else options.weights) for name in names]
    with tempfile.TemporaryDirectory() as folder:
        short, long = Path(folder) / "short.mp4", Path(folder) / "long.mp4"
        true_bpm = in_process(make_videos, short, long, options.long_s)
        rate = short.stat().st_size * 8 / SHORT_S / 1e6
        print(
            f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {rate:.1f} Mbit/s; {true_bpm:.1f} bpm", flush=True
        )
        bench = Bench(short, long, options.long_s, true_bpm, methods, options.cores, options.runs)
        bench.values["cores"] = os.cpu_count()
        if "start" in options.only:
            seconds_to_first_frame(bench)
        if "files" in options.only:
            speed_of_files(bench)
        if "stages" in options.only:
            cost_of_stages(bench)
        if "peers" in options.only and options.peer:
            beside_peers(bench, options.peer)
        elif "peers" in options.only:
            print("\nNo peers: --peer PYTHON, of an environment with open-rppg, was not given.")
    print(f"load {os.getloadavg()[0]:.1f} at the end")
    if options.out_result is not None:
        save_result(
            options.out_result,
            question="How fast is `autohr measure` on this machine, and how much memory does it take?",
            values=bench.values,
            tables=bench.tables,
        )


if __name__ == "__main__":
    main()
