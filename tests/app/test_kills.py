"""`evaluate` and `fit` killed at random moments leave the old output or the new one, and what is the user's."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from anomaly_transfer import atomic

#: Real kills for each command; more of them, by hand: ANOMALY_TRANSFER_KILLS=30.
KILLS = int(os.environ.get("ANOMALY_TRANSFER_KILLS", "3"))

#: Imports once, and forks for each line of words that it reads.
WORKER = """
import os, sys
from anomaly_transfer.app import cli, inspection, models
from anomaly_transfer.pages import plots
print("ready", flush=True)
for line in sys.stdin:
    child = os.fork()
    if not child:
        sys.argv = ["anomaly-transfer", *line.rstrip("\\n").split("\\t")]
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        try:
            cli.entry()
        except SystemExit as stop:
            os._exit(stop.code or 0)
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    environment = os.environ | {"ANOMALY_TRANSFER_STORE": str(tmp_path_factory.mktemp("store")), "TQDM_DISABLE": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout.readline() == "ready\n"
    yield process
    process.stdin.close()
    process.wait()


def run(worker, words, kill_after=None):
    """The exit status, and seconds."""
    begun = time.monotonic()
    worker.stdin.write("\t".join(map(str, words)) + "\n")
    worker.stdin.flush()
    child = int(worker.stdout.readline())
    if kill_after is not None:
        time.sleep(kill_after)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    return int(worker.stdout.readline()), time.monotonic() - begun


def state(folder):
    """What is in an output; it must be whole: all that its list names, and nothing else but the user's hidden file."""
    assert [str(path) for path in atomic.foreign_files(folder)] == [".mine"]
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("command", "method"), [("evaluate", "patch-gaussian"), ("fit", "gaussian")])
def test_a_kill_at_any_moment_leaves_the_old_or_the_new(worker, mvtec_folder, tmp_path, command, method):
    out, neighbours = tmp_path / "out", [tmp_path / name for name in ("out.old", "out.partial")]
    for neighbour in neighbours:
        neighbour.mkdir()
        (neighbour / "mine").write_text("mine")
    words = (command, mvtec_folder, "--out", out, "--image-size", 64, "--method", method)
    assert run(worker, words)[0] == 0
    (out / ".mine").write_text("mine")
    status, seconds = run(worker, words)
    assert status == 0
    killed, old, runs = 0, 0, 0
    while killed < KILLS:
        before = state(out)
        status, _ = run(worker, words, random.uniform(0, seconds))
        killed, runs = killed + (status == -signal.SIGKILL), runs + 1
        old += state(out) == before
        assert runs < 10 * KILLS, "it is done before it can be killed"
    assert run(worker, words)[0] == 0
    assert all((neighbour / "mine").read_text() == "mine" for neighbour in neighbours)
    here = {path.name for path in tmp_path.iterdir()} - {"store"}
    assert here == {"out", "out.old", "out.partial"}
    print(f"{command}: {runs} runs, {killed} killed; {old} left the old output, {runs - old} the new one")
