"""What is written is there whole or not at all, and nothing of somebody else is lost where a reader said."""

import errno
import json
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from anomaly_transfer import atomic
from anomaly_transfer.errors import DataError


def put(folder, text, name="result"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def write(out, text="first", force=False, names=("result",)):
    with atomic.replacing(out, force) as made:
        for name in names:
            put(made, text, name)


def content(folder):
    """Everything in a folder but the list; a name that ends with / is a folder."""
    found = {}
    for path in folder.rglob("*"):
        if path.name != atomic.LIST:
            name = path.relative_to(folder).as_posix()
            found[f"{name}/" if path.is_dir() else name] = None if path.is_dir() else path.read_text()
    return found


@pytest.fixture
def small_disk():
    """Files of more than 10 kB cannot be written, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_an_output_takes_the_place_of_an_earlier_one(tmp_path):
    out = tmp_path / "deep" / "out"
    write(out, "first", names=("result", "maps/a", "maps/b"))
    write(out, "second", names=("result", "maps/b"))
    assert content(out) == {"result": "second", "maps/": None, "maps/b": "second"}
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_an_empty_folder_and_a_link_to_one_are_written_to(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    write(tmp_path / "link")
    assert content(tmp_path / "empty") == {"result": "first"}
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_what_fails_leaves_the_earlier_one(tmp_path, error):
    write(tmp_path / "out")

    def fail():
        with atomic.replacing(tmp_path / "out") as folder:
            put(folder, "second")
            raise error

    with pytest.raises(error):
        fail()
    assert content(tmp_path / "out") == {"result": "first"}
    assert [path.name for path in tmp_path.iterdir() if path.name != "store"] == ["out"]


def add(out):
    put(out, "mine", "notes.txt")


def add_below(out):
    put(out, "mine", "maps/deep/notes.txt")


def add_folder(out):
    (out / "kept").mkdir()


def change(out):
    put(out, "mine")


def forge(out):
    (out / atomic.LIST).write_text("{")


def unlist(out):
    """A folder of somebody else that holds a file of the same name."""
    (out / atomic.LIST).unlink()


@pytest.mark.parametrize(
    ("do", "named"),
    [
        (add, "notes.txt"),
        (add_below, "maps/deep/notes.txt"),
        (add_folder, "kept"),
        (change, "result"),
        (forge, "result"),
        (unlist, "result"),
    ],
)
def test_what_others_put_there_stops_it_before_any_work_and_is_kept_by_force(tmp_path, do, named):
    out = tmp_path / "out"
    write(out, names=("result", "maps/a"))
    do(out)
    before = content(out)
    with pytest.raises(DataError, match=rf"did not write, or was changed since \(.*{named}.*\).*--force"):
        write(out, "second")
    assert content(out) == before
    write(out, "second", force=True)
    after = content(out)
    assert after["result"] == "second"
    if do is change:
        assert after == {"result": "second", "result~": "mine"}
    elif do in (forge, unlist):
        assert after["result~"] == before["result"]
        assert after["maps/a"] == before["maps/a"]
    else:
        assert {
            name: text for name, text in before.items() if "notes" in name or "kept" in name
        }.items() <= after.items()
        assert "maps/a" not in after, "ours, and of the earlier output"


def test_a_file_and_a_folder_in_each_others_way_are_both_kept(tmp_path):
    put(tmp_path / "out", "mine", "result/notes.txt")
    put(tmp_path / "out", "mine", "maps")
    write(tmp_path / "out", force=True, names=("result", "maps/a"))
    found = content(tmp_path / "out")
    assert {name: text for name, text in found.items() if text} == {
        "result": "first",
        "maps/a": "first",
        "maps~": "mine",
        "result~/notes.txt": "mine",
    }


def test_what_comes_during_the_work_is_kept(tmp_path):
    write(tmp_path / "out")
    with atomic.replacing(tmp_path / "out") as made:
        put(made, "second")
        put(tmp_path / "out", "mine")
        put(tmp_path / "out", "mine", "notes.txt")
    assert content(tmp_path / "out") == {"result": "second", "result~": "mine", "notes.txt": "mine"}


def test_what_systems_leave_in_a_folder_is_kept_and_stops_nothing(tmp_path):
    write(tmp_path / "out")
    put(tmp_path / "out", "x", ".DS_Store")
    write(tmp_path / "out", "second")
    assert content(tmp_path / "out") == {"result": "second", ".DS_Store": "x"}


def test_names_that_are_not_text_are_listed(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    for _ in range(2):
        write(tmp_path / "out", names=(name,))
    assert not atomic.foreign_files(tmp_path / "out")


@pytest.mark.parametrize("force", [False, True])
def test_neighbours_are_left_alone(tmp_path, force):
    names = [f"out.{state}" for state in ("old", "partial", "new", "tmp", "lock")] + ["old", "new", ".out.x"]
    for name in names:
        put(tmp_path / name, "mine", "precious")
    write(tmp_path / "out")
    write(tmp_path / "out", force=force)
    with atomic.writing(tmp_path / "scores.csv") as made:
        made.write_text("x")
    with atomic.creating(tmp_path / "example", "it") as made:
        put(made, "x")
    assert all((tmp_path / name / "precious").read_text() == "mine" for name in names)
    here = {path.name for path in tmp_path.iterdir()}
    assert here == {*names, "out", "scores.csv", "example", "store"}


def test_what_cannot_be_written_to_is_said_before_any_work(tmp_path, monkeypatch):
    put(tmp_path / "photos", "mine", "holiday.jpg")

    def refused(manager, match):
        with pytest.raises(DataError, match=match), manager:
            pytest.fail("the work began")

    refused(atomic.replacing(tmp_path / "photos"), r"photos holds what .*\(holiday.jpg\)")
    refused(atomic.replacing(tmp_path / "photos" / "holiday.jpg"), r"holiday.jpg is a file")
    refused(atomic.replacing(tmp_path / "photos" / "holiday.jpg" / "out"), r"cannot be written \(.*\): choose another")
    refused(atomic.writing(tmp_path / "photos"), "photos is a folder")
    refused(atomic.writing(tmp_path / "photos" / "holiday.jpg"), "holiday.jpg is there already: .*--force")
    refused(atomic.creating(tmp_path / "photos", "the example"), "not empty: choose another folder for the example")
    monkeypatch.chdir(tmp_path / "photos")
    refused(atomic.replacing(tmp_path / "photos", force=True), "folder where you are")
    monkeypatch.setattr(os.path, "ismount", lambda path: path == tmp_path / "disk")
    refused(atomic.replacing(tmp_path / "disk", force=True), "a disk of its own")
    put(tmp_path, "x", "no folder")
    monkeypatch.setenv("ANOMALY_TRANSFER_STORE", str(tmp_path / "no folder"))
    refused(atomic.replacing(tmp_path / "new"), "set ANOMALY_TRANSFER_STORE")
    assert content(tmp_path / "photos") == {"holiday.jpg": "mine"}


def test_a_second_writer_is_told_before_its_work(tmp_path):
    out, told = tmp_path / "out", []

    def second():
        try:
            with atomic.replacing(out):
                told.append("worked")
        except DataError as error:
            told.append(str(error))

    with atomic.replacing(out) as made:
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
        # Another place is free.
        write(tmp_path / "another")
        put(made, "first")
    assert len(told) == 1
    assert "Another process is writing" in told[0]
    write(out, "third")
    assert content(out) == {"result": "third"}


def test_a_file_is_replaced_only_if_asked_for_and_then_whole(tmp_path):
    out = tmp_path / "scores.csv"
    out.write_text("mine")

    def fail():
        with atomic.writing(out, force=True) as made:
            made.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert out.read_text() == "mine"
    with atomic.writing(out, force=True) as made:
        made.write_text("new")
    assert out.read_text() == "new"
    with atomic.writing(tmp_path / "late.csv") as made:
        made.write_text("new")
        (tmp_path / "late.csv").write_text("mine")
    assert [(tmp_path / name).read_text() for name in ("late.csv", "late.csv~")] == ["new", "mine"]


def test_a_pipe_is_written_to(tmp_path):
    pipe, found = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: found.append(pipe.read_text()), daemon=True)
    reader.start()
    with atomic.writing(pipe) as made:
        made.write_text("scores")
    reader.join(5)
    assert found == ["scores"]
    assert pipe.is_fifo()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_device_that_is_full_is_one_clear_error():
    message = r"/dev/full cannot be written \(No space"
    with pytest.raises(DataError, match=message), atomic.writing(Path("/dev/full")) as made:
        made.write_text("scores")


def test_a_full_disk_leaves_what_was_there(tmp_path, small_disk):
    write(tmp_path / "out")
    (tmp_path / "scores.csv").write_text("mine")

    def fill(manager, name):
        with pytest.raises(DataError, match=r"cannot be written .* as it was before: free some space"), manager as made:
            (made / name if name else made).write_text("x" * 20_000)

    fill(atomic.replacing(tmp_path / "out"), "result")
    fill(atomic.replacing(tmp_path / "new"), "result")
    fill(atomic.writing(tmp_path / "scores.csv", force=True), None)
    fill(atomic.writing(tmp_path / "new.csv"), None)
    assert content(tmp_path / "out") == {"result": "first"}
    assert (tmp_path / "scores.csv").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"out", "scores.csv", "store"}


def test_other_errors_of_the_work_are_not_the_outputs(tmp_path):
    with pytest.raises(FileNotFoundError), atomic.replacing(tmp_path / "out"):
        raise FileNotFoundError(errno.ENOENT, "something else")


def test_files_have_the_modes_that_the_user_has_set(tmp_path):
    before = os.umask(0o027)
    try:
        write(tmp_path / "out")
    finally:
        os.umask(before)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "out" / "result").stat().st_mode & 0o777 == 0o640


def test_where_no_two_folders_can_change_places_it_works_too(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "_exchanged", lambda one, other: False)
    for text in ("first", "second"):
        write(tmp_path / "out", text)
    assert content(tmp_path / "out") == {"result": "second"}


#: Dies at the n-th line of ``atomic``, for every n, and says what is then there.
DYING = """
import json, os, sys
from pathlib import Path
from anomaly_transfer import atomic

root, exchange = Path(sys.argv[1]), sys.argv[2] == "exchange"
# No power is lost here, and it takes most of the time.
os.fsync = lambda stream: None
if not exchange:
    atomic._exchanged = lambda one, other: False

def write(out, text):
    with atomic.replacing(out, force=True) as made:
        for name in ("a", "maps/b"):
            (made / name).parent.mkdir(exist_ok=True)
            (made / name).write_text(text)

def content(out):
    return {str(p.relative_to(out)): p.read_text() for p in out.rglob("*") if p.is_file() and p.name != atomic.LIST}

def die_at(line):
    count = 0
    def trace(frame, event, _):
        nonlocal count
        if frame.f_code.co_filename != atomic.__file__:
            return None
        count += event == "line"
        if count == line:
            os._exit(9)
        return trace
    sys.settrace(trace)

seen = []
for line in range(1, 1000):
    out = root / str(line) / "out"
    write(out, "old")
    (out / "notes").write_text("mine")
    child = os.fork()
    if not child:
        die_at(line)
        write(out, "new")
        os._exit(0)
    died = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    there = content(out) if out.exists() else None
    write(out, "again")
    seen.append([died, there, content(out), sorted(os.listdir(out.parent))])
    if not died:
        break
print(json.dumps(seen))
"""


@pytest.mark.parametrize("how", ["exchange", "rename"])
def test_a_process_that_dies_at_any_line_leaves_the_old_or_the_new(tmp_path, how):
    command = [sys.executable, "-c", DYING, tmp_path, how]
    seen = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    assert len(seen) > 50
    assert not seen[-1][0], "the last one must come through"
    old, new, again = ({"a": text, "maps/b": text, "notes": "mine"} for text in ("old", "new", "again"))
    for _, there, after, beside in seen:
        # Without an exchange there is a moment with neither; the next run begins with the old one.
        assert there in ([old, new] if how == "exchange" else [old, new, None])
        assert after == again
        assert beside == ["out"]
    assert all(which in [there for _, there, *_ in seen] for which in (old, new))


def test_the_old_one_is_put_back_if_its_writer_died_between(tmp_path):
    write(tmp_path / "out")
    put(tmp_path / "out", "mine", "notes.txt")
    with atomic._beside(tmp_path / "out") as (out, work):
        kept = work.with_name("kept")
        out.rename(work / "old")
        work.rename(kept)
        name = work.name
    kept.rename(tmp_path / name)
    with pytest.raises(DataError, match=r"notes.txt"):
        write(tmp_path / "out", "second")
    assert content(tmp_path / "out") == {"result": "first", "notes.txt": "mine"}


@pytest.mark.parametrize("before", [None, "old"])
@pytest.mark.parametrize("fails", [False, True])
def test_a_file_of_our_own_is_whole_or_as_it_was(tmp_path, before, fails):
    path = tmp_path / "record.json"
    if before:
        path.write_text(before)

    def write_it():
        with atomic.file(path) as made:
            made.write_text("new")
            assert made.parent == tmp_path
            assert (path.read_text() if path.exists() else None) == before
            if fails:
                raise InterruptedError

    if fails:
        with pytest.raises(InterruptedError):
            write_it()
    else:
        write_it()
    assert (path.read_text() if path.exists() else None) == (before if fails else "new")
    assert [found.name for found in tmp_path.iterdir()] == ["record.json"] * path.exists()


@pytest.mark.parametrize("flush", [True, False])
@pytest.mark.parametrize("fails", [False, True])
def test_a_folder_of_our_own_is_whole_or_as_it_was(tmp_path, flush, fails, monkeypatch):
    path, flushed = tmp_path / "deep" / "entry", []
    monkeypatch.setattr(os, "fsync", lambda number: flushed.append(number))
    (path.parent / "entry.partial").mkdir(parents=True)
    put(path.parent / "entry.partial", "left by the dead", "rest")
    put(path, "old", "gone")

    def fill():
        with atomic.folder(path, flush) as made:
            assert content(made) == {}
            put(made, "new")
            put(made, "map", "maps/a")
            assert content(path) == {"gone": "old"}
            if fails:
                raise InterruptedError

    if fails:
        with pytest.raises(InterruptedError):
            fill()
        assert content(path) == {"gone": "old"}
    else:
        fill()
        assert content(path) == {"result": "new", "maps/": None, "maps/a": "map"}
        assert len(flushed) == 2 * flush
    assert [found.name for found in path.parent.iterdir()] == ["entry"]
