"""Both roles with what the wheel installs, as ``make smoke`` runs them outside the checkout.

``python tests/smoke.py WHEEL`` makes two virtual environments. A collector host's is fresh and gets the base
dependencies. A monitor's gets nothing but the wheel and borrows the dependencies of the environment that runs
this program, which saves a download of torch; pip checks without an index that these are all that the extra
``monitor`` asks for. No code of the project is imported here: commands of the two environments do everything.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

N_WINDOWS = 6
N_WINDOW = 100
WAIT_SECONDS = 90.0
ENVIRONMENT = {name: text for name, text in os.environ.items() if not name.startswith(("DQM_", "PYTHON"))} | {
    "OMP_NUM_THREADS": "1",
    "COLUMNS": "200",
}
WRITE_HITS = """
from pathlib import Path
from dqm_collectors.chamber.hits import RawHits, write_tdc
from dqm_collectors.simulate import SimulateCollector
options = SimulateCollector.Options(chambers=(0,), seed=2, seconds=5.0, rate_hz=60.0)
write_tdc(RawHits.concatenate(list(SimulateCollector(options).raw_hits())), Path("hits.csv"))
"""
WHERE = "import dqm, dqm_collectors; print(*dqm.__path__, *dqm_collectors.__path__)"
DAEMON = """
[daemon]
listen = ["ipc://windows.ipc"]
http = "{http}"
workers = 1

[[streams]]
name = "chamber-0"
bundle = "chamber.dqmref"
"""
COLLECTOR = f"""
[collector]
name = "replay"
run = 7
connect = "ipc://windows.ipc"

[window]
events = {N_WINDOW}

[options]
inputs = ["windows.parquet"]

[streams]
0 = "chamber-0"
"""


class Role:
    """A virtual environment with the wheel, and a folder in which its commands run.

    Parameters
    ----------
    environment : Path
        Directory to make it in.
    folder : Path
        Working directory.
    """

    def __init__(self, environment: Path, folder: Path) -> None:
        self.environment = environment.resolve()
        self.folder = folder
        venv.create(self.environment, symlinks=True)

    def install(self, *arguments: object) -> None:
        """Install packages with the pip of the environment that runs this program."""
        pip = (
            sys.executable,
            "-m",
            "pip",
            "--python",
            self.environment / "bin" / "python",
            "install",
            "--quiet",
        )
        subprocess.run([*pip, *map(str, arguments)], check=True, cwd=self.folder)

    def borrow_dependencies(self) -> None:
        """Make what is installed beside this program importable, after what is installed here."""
        (own,) = self.environment.glob("lib/python3.*/site-packages")
        lent = [path for path in sys.path if path.endswith("site-packages")]
        (own / "borrowed.pth").write_text("\n".join(lent))

    def run(self, program: str, *arguments: object, code: int = 0) -> str:
        """Run a program to its end, check its exit code, and give back its output."""
        told = subprocess.run(
            [self.environment / "bin" / program, *map(str, arguments)],
            cwd=self.folder,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=WAIT_SECONDS,
            check=False,
        )
        text = told.stdout + told.stderr
        if told.returncode != code:
            sys.exit(f"{program} {' '.join(map(str, arguments))}: exit code {told.returncode}\n{text}")
        if "Traceback" in text:
            sys.exit(text)
        return told.stdout if code == 0 else text

    @contextmanager
    def daemon(self, http: str) -> Iterator[None]:
        """Run the daemon until the block ends; it must end with code 0."""
        log = self.folder / "daemon.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [self.environment / "bin" / "dqm", "run", "daemon.toml"],
                cwd=self.folder,
                env=ENVIRONMENT,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        try:
            end = time.monotonic() + WAIT_SECONDS
            while not is_listening(http):
                check(process.poll() is None and time.monotonic() < end, log.read_text())
                time.sleep(0.1)
            yield
            process.send_signal(signal.SIGTERM)
            check(process.wait(WAIT_SECONDS) == 0, log.read_text())
        finally:
            process.kill()
            process.wait()


def check(holds: bool, otherwise: str) -> None:
    """End the program with a text unless something holds."""
    if not holds:
        sys.exit(otherwise)


def is_listening(http: str) -> bool:
    """Whether something accepts connections there."""
    host, _, port = http.partition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def free_address() -> str:
    """Address on the loopback that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def get(url: str) -> str:
    """Fetch a text; no proxy is asked."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=WAIT_SECONDS) as answer:
        text: str = answer.read().decode()
        return text


def make_roles(wheel: Path, folder: Path) -> tuple[Role, Role]:
    """Install the wheel on a collector host and on a monitor."""
    collector, monitor = Role(folder / "collector", folder), Role(folder / "monitor", folder)
    collector.install(wheel)
    monitor.install("--no-deps", wheel)
    monitor.borrow_dependencies()
    monitor.install("--no-index", "dqm[monitor]")
    for role in (collector, monitor):
        for path in role.run("python", "-c", WHERE).split():
            check(Path(path).is_relative_to(role.environment), f"{path} is not from the wheel")
    for package in ("torch", "scipy", "sqlalchemy", "starlette"):
        collector.run("python", "-c", f"import importlib.util as u; assert not u.find_spec({package!r})")
    return collector, monitor


def main(wheel: Path, folder: Path) -> None:
    """Go from simulated hits to the history of a daemon."""
    collector, monitor = make_roles(wheel, folder)
    http = free_address()
    (folder / "daemon.toml").write_text(DAEMON.format(http=http))
    (folder / "collector.toml").write_text(COLLECTOR)

    collector.run("python", "-c", WRITE_HITS)
    collector.run("dqm", "extract", "tdc", "hits.csv", "-o", "segments.parquet")
    simulated = ("--set", "chambers=[0]", "--set", "rate_hz=60.0")
    healthy, sent = 2000, N_WINDOWS * N_WINDOW
    collector.run("dqm", "extract", "simulate", "-o", "healthy.parquet", "--events", healthy, *simulated)
    collector.run(
        "dqm", "extract", "simulate", "-o", "windows.parquet", "--events", sent, *simulated, "--set", "seed=5"
    )
    collector.run("dqm", "check", "collector.toml")
    said = collector.run("dqm", "run", "daemon.toml", code=2)
    check("install dqm with its extra 'monitor'" in said, said)

    features = "t_1,t_2,t_3,t_4,theta"
    size = ("--events", 300, "--window", N_WINDOW, "--centers", 100)
    monitor.run(
        "dqm", "reference", "build", "healthy.parquet", "-o", "chamber.dqmref", "--features", features, *size
    )
    monitor.run("dqm", "reference", "calibrate", "chamber.dqmref", "--toys", 200, "--processes", 1)
    monitor.run("dqm", "check", "daemon.toml")
    with monitor.daemon(http):
        said = collector.run("dqm", "collect", "collector.toml")
        check(f"{N_WINDOWS} windows, {N_WINDOWS} sent, 0 lost" in said, said)
        check("chamber-0" in get(f"http://{http}/"), "the page does not show the stream")
        check("dqm_windows_total" in get(f"http://{http}/metrics"), "the metrics do not count windows")
    history = monitor.run("dqm", "history", "daemon.toml", "--json")
    verdicts = [json.loads(line) for line in history.splitlines()]
    check(len(verdicts) == N_WINDOWS, f"{len(verdicts)} of {N_WINDOWS} verdicts in the history")
    check(all(verdict["p"] is not None for verdict in verdicts), f"verdicts without p: {verdicts}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        main(Path(sys.argv[1]).resolve(), Path(scratch))
    sys.stdout.write("both roles work with what the wheel installs\n")
