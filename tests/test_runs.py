"""The run folder: what it keeps through kills, and what it refuses to overwrite."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from autohr.errors import AutoHRError, BadRecipe
from autohr.files import (
    MAX_DEPTH,
    GrowingFile,
    check_file,
    hidden_beside,
    locked,
    make_folder,
    open_output,
    own_stream,
    read_json,
    read_json_object,
    read_limited,
    read_limited_text,
    read_toml,
    replacing,
    write_bytes,
    write_json,
    write_text,
)
from autohr.lab.runs import create_run, open_run
from autohr.reports.page import write_page

CONFIG = {"fit": {"lr": 1e-3, "steps": 10}, "sizes": (1, 2)}


def test_a_run_is_found_again_with_its_log(tmp_path: Path) -> None:
    run = create_run(tmp_path / "a" / "run", CONFIG)
    run.log({"step": 1, "loss": 2.5})
    run.log({"step": 2, "loss": float("nan"), "path": Path("x")})
    again = open_run(run.root)
    assert again.config == {"fit": {"lr": 1e-3, "steps": 10}, "sizes": [1, 2]}
    assert again.read_log() == [{"step": 1, "loss": 2.5}, {"step": 2, "loss": None, "path": "x"}]
    assert again.checkpoints.is_dir() and again.results.is_dir()


def test_the_same_config_goes_on_and_another_is_refused(tmp_path: Path) -> None:
    run = create_run(tmp_path / "run", CONFIG)
    run.log({"step": 1})
    (run.checkpoints / ".last.safetensors.123.part").touch()
    assert create_run(run.root, CONFIG).read_log() == [{"step": 1}]
    assert not list(run.checkpoints.iterdir())
    with pytest.raises(BadRecipe, match=r"fit\.lr: 0\.001 there, 0\.5 now"):
        create_run(run.root, {**CONFIG, "fit": {"lr": 0.5, "steps": 10}})
    assert open_run(run.root).read_log() == [{"step": 1}]


def test_overwriting_removes_the_run_and_only_when_told(tmp_path: Path) -> None:
    run = create_run(tmp_path / "run", CONFIG)
    run.log({"step": 1})
    (run.checkpoints / "best.safetensors").touch()
    fresh = create_run(run.root, {"other": 1}, overwrite=True)
    assert fresh.read_log() == [] and not list(fresh.checkpoints.iterdir())
    assert open_run(run.root).config == {"other": 1}


def test_a_folder_that_is_no_run_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(AutoHRError, match=r"thesis\.tex"):
        create_run(tmp_path, CONFIG, overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    with pytest.raises(AutoHRError, match="no run folder"):
        open_run(tmp_path)
    with pytest.raises(AutoHRError, match="is a file"):
        create_run(tmp_path / "thesis.tex", CONFIG)


def test_a_line_cut_short_by_a_kill_is_left_out_and_the_next_stands_alone(tmp_path: Path) -> None:
    run = create_run(tmp_path / "run", CONFIG)
    run.log({"step": 1})
    with (run.root / "log.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')
    assert run.read_log() == [{"step": 1}]
    run.keep_log(lambda record: record["step"] <= 5)
    run.log({"step": 2})
    assert run.read_log() == [{"step": 1}, {"step": 2}]


def test_a_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    run = create_run(tmp_path / "run", CONFIG)
    (run.root / "log.jsonl").write_text('{"step": 1}\nrubbish\n{"step": 2}\n')
    with pytest.raises(AutoHRError, match="line 2"):
        run.read_log()


def test_a_failed_write_leaves_the_old_content_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    write_json(path, {"n": 1})
    with pytest.raises(TypeError):
        write_json(path, {"n": object()})
    with pytest.raises(RuntimeError), replacing(path) as aside:
        aside.write_text("half")
        raise RuntimeError
    assert read_json(path) == {"n": 1}
    assert list(tmp_path.iterdir()) == [path]
    for content, message in ((b"{", "is not JSON"), (b"\xff", "is not UTF-8")):
        write_bytes(path, content)
        with pytest.raises(AutoHRError, match=message):
            read_json(path)
    with pytest.raises(AutoHRError, match="There is no"):
        read_json(tmp_path / "none.json")


def test_what_cannot_be_written_is_reported_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for write in (
        lambda: write_json(tmp_path / "nowhere" / "a.json", 1),
        lambda: create_run(tmp_path / "file" / "run", CONFIG),
    ):
        with pytest.raises(AutoHRError, match="Cannot write .*Make room or choose another folder"):
            write()


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kills by signal")
def test_a_kill_while_writing_leaves_a_whole_file(tmp_path: Path) -> None:
    program = (
        "import itertools, sys; from pathlib import Path; from autohr.files import write_json\n"
        "path = Path(sys.argv[1])\n"
        "for n in itertools.count(): write_json(path, [n] * 20000); print(n, flush=True)\n"
    )
    path = tmp_path / "big.json"
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.stdout.readline()
            process.send_signal(signal.SIGKILL)
        values = json.loads(path.read_text())
        assert len(values) == 20000 and len(set(values)) == 1


def test_a_lock_is_held_by_one_process_and_ends_with_it(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from autohr.files import locked\n"
        "with locked(Path(sys.argv[1]), ''): print(flush=True); time.sleep(600)\n"
    )
    path = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(AutoHRError, match="Wait for it"), locked(path, "Another one is at work. Wait for it."):
            pass
        process.kill()
    with locked(path, ""), pytest.raises(AutoHRError, match="At work"), locked(path, "At work"):
        pass
    with pytest.raises(AutoHRError, match="Cannot write"), locked(path / "below", ""):
        pass


def test_two_processes_do_not_work_in_one_run(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from autohr.lab.runs import create_run\n"
        "run = create_run(Path(sys.argv[1]), {}); print(flush=True); time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        for overwrite in (False, True):
            with pytest.raises(AutoHRError, match="Another autohr is at work in"):
                create_run(tmp_path, {}, overwrite=overwrite)
        assert open_run(tmp_path).config == {}
        process.kill()
    assert create_run(tmp_path, {}).config == {}


def test_a_file_of_at_most_so_many_bytes_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(b"\xef\xbb\xbfa = 1\n")
    assert read_limited(path, "recipe", 9, BadRecipe) == b"\xef\xbb\xbfa = 1\n"
    assert read_limited_text(path, "recipe", 9, BadRecipe) == "a = 1\n"
    with pytest.raises(BadRecipe, match=r"has 9 bytes; a recipe has at most 8\.") as caught:
        read_limited(path, "recipe", 8, BadRecipe)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.name != "posix", reason="pipes and devices are POSIX")
def test_what_is_no_regular_file_is_refused_without_reading(tmp_path: Path) -> None:
    pipe, huge, junk = tmp_path / "pipe", tmp_path / "huge", tmp_path / "junk"
    os.mkfifo(pipe)
    with huge.open("wb") as file:
        file.truncate(10 * 2**30)
    junk.write_bytes(b"\x00\xff\xfe")
    for path, message in (
        (Path("/dev/zero"), "is a device, pipe or socket; give the table as a regular file"),
        (pipe, "is a device, pipe or socket"),
        (tmp_path, "is a folder; give the table itself"),
        (tmp_path / "none", "There is no table"),
        (junk / "below", "There is no table"),
        (huge, "has 10737418240 bytes; a table has at most 100"),
        (tmp_path / "a\0b", "Cannot read table"),
        (tmp_path / ("x" * 300), "Cannot read table"),
    ):
        for read in (read_limited, read_limited_text, check_file):
            with pytest.raises(BadRecipe, match=message) as caught:
                read(path, "table", 100, BadRecipe)
            assert "\n" not in str(caught.value)
    with pytest.raises(BadRecipe, match=r"is not UTF-8 text \(byte 1 "):
        read_limited_text(junk, "table", 100, BadRecipe)


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs /proc")
def test_a_file_whose_size_is_unknown_is_read_to_the_limit_only() -> None:
    with pytest.raises(AutoHRError, match="has more than 10 bytes"):
        read_limited(Path("/proc/self/status"), "table", 10)


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 500, 200_000])
def test_files_nested_too_deeply_are_refused_in_one_line(depth: int, tmp_path: Path) -> None:
    """Above Python's limit a parser raises RecursionError; below it, whatever walks the value would."""
    path = tmp_path / "deep"
    brackets = "[" * depth + "]" * depth
    cases: list[tuple[Callable[..., object], str]] = [
        (read_json, brackets),
        (read_json, '{"a":' * depth + "1" + "}" * depth),
        (read_toml, f"a = {brackets}"),
        (read_toml, ".".join("a" * min(depth, 2000)) + " = 1"),
    ]
    for read, text in cases:
        path.write_text(text)
        with pytest.raises(BadRecipe, match="nested too deeply") as refused:
            read(path, what="recipe", max_bytes=2**22, error=BadRecipe)
        assert "\n" not in str(refused.value)
    path.write_text("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    assert read_json(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
@pytest.mark.parametrize("read", [read_json, read_toml, read_json_object])
def test_what_is_no_file_of_the_kind_is_refused_in_one_line(read: Callable[..., object], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_text(" " * 101)
    (tmp_path / "rubbish").write_text('{"a": "' + "x\n" * 40)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    cases = {
        tmp_path: "is a folder",
        tmp_path / "pipe": "device, pipe or socket",
        Path("/dev/zero"): "device, pipe or socket",
        tmp_path / "large": "101 bytes",
        tmp_path / "rubbish": "is not (JSON|TOML)",
        tmp_path / "bytes": "is not UTF-8",
        tmp_path / "none": "There is no recipe",
    }
    for path, message in cases.items():
        with pytest.raises(BadRecipe, match=message) as refused:
            read(path, what="recipe", max_bytes=100, error=BadRecipe)
        assert "\n" not in str(refused.value)


def test_an_object_lacks_no_key(tmp_path: Path) -> None:
    path = tmp_path / "fit.json"
    write_json(path, {"step": 1})
    assert read_json_object(path, "step") == {"step": 1}
    with pytest.raises(AutoHRError, match="lacks n_steps"):
        read_json_object(path, "step", "n_steps")
    for value in ([1], "text", None):
        write_json(path, value)
        with pytest.raises(AutoHRError, match="no JSON object"):
            read_json_object(path)


def test_a_page_on_a_full_disk_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "page.html"
    write_page("old", out)

    def full(path: Path, content: bytes) -> int:
        with path.open("wb") as file:
            file.write(content[:1])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(AutoHRError, match="No space left"):
        write_page("new", out)
    assert out.read_text() == "old" and list(tmp_path.iterdir()) == [out]


def test_what_a_full_disk_refused_is_written_once_there_is_room_and_leaves_no_empty_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for has_room in (False, True):
        file = GrowingFile(tmp_path / "lines")
        with monkeypatch.context() as patched:
            patched.setattr("autohr.files._write_all", full)
            assert file.read(file.append(b"one")) == b"one"
            if not has_room:
                assert file.keep() is None and list(tmp_path.iterdir()) == []
        if has_room:
            assert file.keep() == tmp_path / "lines" and (tmp_path / "lines").read_bytes() == b"one"


def test_devices_are_written_into_and_links_followed(tmp_path: Path) -> None:
    (tmp_path / "target.txt").write_text("old")
    (tmp_path / "link").symlink_to("target.txt")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "target.txt").read_text() == "new"
    with pytest.raises(AutoHRError, match="Is a directory.*Name a file in it"):
        write_text(tmp_path, "x")
    if Path("/dev/null").is_char_device():
        write_text(Path("/dev/null"), "x")
        assert Path("/dev/null").is_char_device()
    if Path("/dev/full").is_char_device():
        with pytest.raises(AutoHRError, match="Cannot write '/dev/full': No space left"):
            write_text(Path("/dev/full"), "x")


@pytest.mark.skipif(os.name != "posix", reason="needs pipes with names")
def test_a_pipe_gets_the_whole_content(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["cat", str(tmp_path / "pipe")], stdout=subprocess.PIPE) as reader:
        write_text(tmp_path / "pipe", "all of it\n" * 1000)
        assert reader.communicate()[0] == b"all of it\n" * 1000
    assert (tmp_path / "pipe").is_fifo()


def test_open_streams_have_names(capfd: pytest.CaptureFixture[str]) -> None:
    assert own_stream(Path("/dev/stdout")) == 1 and own_stream(Path("/dev/fd/7")) == 7
    assert own_stream(Path("/dev/null")) is None
    with open_output(Path("/dev/stdout")) as stream:
        stream.write(b"line\n")
    assert capfd.readouterr().out == "line\n"


def test_long_names_are_written_and_too_long_ones_are_reported(tmp_path: Path) -> None:
    longest = tmp_path / ("\u00e9" * 125 + ".json")
    write_json(longest, 1)
    assert read_json(longest) == 1 and list(tmp_path.iterdir()) == [longest]
    hidden, other = (hidden_beside(longest.with_stem(name), "resume.jsonl").name for name in ("é" * 125, "é" * 124))
    assert len(os.fsencode(hidden)) <= 255 and hidden != other
    too_long = tmp_path / ("x" * 300)
    for write in (
        lambda: write_json(too_long, 1),
        lambda: create_run(too_long, CONFIG),
        lambda: make_folder(too_long),
    ):
        with pytest.raises(AutoHRError, match=r"File name too long\. Choose a shorter name"):
            write()
    with pytest.raises(AutoHRError, match="File name too long"):
        open_run(too_long)


def test_text_that_is_no_unicode_is_written_with_escapes(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "caf\udce9 \u5fc3")
    assert (tmp_path / "a").read_text(encoding="utf-8") == "caf\\udce9 \u5fc3"
    write_json(tmp_path / "b", {"path": "caf\udce9"})
    assert read_json(tmp_path / "b") == {"path": "caf\udce9"}
