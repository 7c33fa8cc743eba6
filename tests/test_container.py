"""Images without docker: the commands of Dockerfile and compose.yaml, in a clean environment."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml", reason="compose.yaml is read with PyYAML, which comes with mkdocs")
pytest.importorskip("fastapi", reason="the page needs pip install 'autohr[serve]'")
pytest.importorskip("setuptools", minversion="77", reason="the package is built with it")

ROOT = Path(__file__).resolve().parent.parent
TOKEN = "a token of a test"


def stages() -> dict[str, list[tuple[str, str]]]:
    """Return stage -> its instructions, after those of the stages that it is built from."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found: dict[str, list[tuple[str, str]]] = {}
    name = ""
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            found[name] = list(found.get(base, []))
        else:
            found[name].append((word, rest))
    return found


def last(stage: str, word: str) -> str:
    return next(rest for one, rest in reversed(stages()[stage]) if one == word)


def copy_context(target: Path) -> None:
    """Copy what .dockerignore lets through, as COPY does."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    kept = [line[1:] for line in lines if line.startswith("!")]
    assert "*" in lines, "everything is left out but what is named"
    target.mkdir()
    for name in kept:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(ROOT / name, target / name)


@pytest.fixture(scope="module", params=["serve", "measure"])
def installed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A stage's RUN of pip in a new environment; what this one has of other packages is not fetched again."""
    folder = tmp_path_factory.mktemp("image")
    copy_context(folder / "src")
    home = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", home], check=True)
    # An older one would be found before that of this environment.
    subprocess.run([home / "bin" / "pip", "uninstall", "--quiet", "--yes", "setuptools"], check=True)
    site = home / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (command,) = (rest for word, rest in stages()[request.param] if word == "RUN" and rest.startswith("pip "))
    offline = {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_IGNORE_INSTALLED": "1"}
    environment = {**environ(home), **offline}
    environment.pop("PIP_CONSTRAINT", None)
    done = subprocess.run(
        ["sh", "-c", command.replace("/src", str(folder / "src"))], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    yield request.param, home


def environ(home: Path) -> dict[str, str]:
    cleared = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**cleared, "PATH": f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}"}


@pytest.mark.slow
def test_the_commands_of_an_image_run_in_a_clean_environment(installed: tuple[str, Path], tmp_path: Path) -> None:
    stage, home = installed
    program = json.loads(last(stage, "ENTRYPOINT"))
    where = [str(home / "bin" / "python"), "-c", "import autohr; print(autohr.__file__)"]
    assert str(home) in subprocess.run(where, env=environ(home), capture_output=True, text=True, check=True).stdout
    if stage == "measure":
        done = subprocess.run(
            [*program, *json.loads(last(stage, "CMD"))], env=environ(home), cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0 and "measure" in done.stdout
        return
    service = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["autohr"]
    assert service["build"] == {"context": ".", "target": stage}
    assert [*json.loads(last(stage, "CMD")), "--port", last(stage, "EXPOSE")] == service["command"]
    assert all(port.endswith(f":{last(stage, 'EXPOSE')}") and port.startswith("127.") for port in service["ports"])
    assert set(service["environment"]) == {"AUTOHR_TOKEN"} and ":?" in service["environment"]["AUTOHR_TOKEN"]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    words = [word.replace("8000", port) for word in [*program, *service["command"]]]
    server = subprocess.Popen(words, env={**environ(home), "AUTOHR_TOKEN": TOKEN}, cwd=tmp_path, text=True)
    try:
        check = [word.replace("8000", port) for word in json.loads(last(stage, "HEALTHCHECK").split(" CMD ", 1)[1])]
        deadline_s = time.monotonic() + 120
        while subprocess.run(check, env=environ(home), stderr=subprocess.DEVNULL).returncode:
            assert server.poll() is None and time.monotonic() < deadline_s
            time.sleep(0.2)
        assert ask(port, "/health")["version"]
        assert ask(port, "/api/openapi.json")["openapi"].startswith("3.1")
        page = urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"Authorization": f"Bearer {TOKEN}"})
        assert b"<html" in urllib.request.urlopen(page, timeout=20).read()
        server.send_signal(signal.SIGTERM)
        # The first process of a container does not die of a signal that it raises anew.
        assert server.wait(60) in (0, -signal.SIGTERM)
    finally:
        server.kill()
        server.wait()


def ask(port: str, path: str) -> Any:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Authorization": f"Bearer {TOKEN}"})
    return json.load(urllib.request.urlopen(request, timeout=20))


def test_the_last_stage_is_the_one_that_is_built_without_a_target() -> None:
    assert list(stages())[-1] == "measure"
    for stage in ("serve", "measure"):
        words = [word for word, _ in stages()[stage]]
        assert words.index("USER") > words.index("RUN") and last(stage, "USER") == "autohr", "nothing runs as root"
