"""Fetching: from a server in this process, with everything that goes wrong on the way."""

import gzip
import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import textwrap
import threading
import time
import zipfile
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from anomaly_transfer.data import downloads
from anomaly_transfer.data.downloads import Source, check_content, content_hash, download, fetch_folder, unpack
from anomaly_transfer.errors import DataError

pytestmark = pytest.mark.skipif(
    not hasattr(tarfile, "data_filter"), reason="this Python cannot unpack tar archives safely"
)

CONTENT = b"pixels " * 5000


def sha256(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


@pytest.fixture
def server():
    """Serves what is put into ``server.files``; counts requests; can break off in the middle."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            found.requests.append(self.path)
            content = found.files.get(self.path.lstrip("/"))
            if content is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if found.breaks else content)

        def log_message(self, *args):
            pass

    found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.files, found.requests, found.breaks = {"a.bin": CONTENT}, [], False
    found.url = f"http://127.0.0.1:{found.server_address[1]}"
    thread = threading.Thread(target=found.serve_forever, daemon=True)
    thread.start()
    yield found
    found.shutdown()


def source(server, name="a.bin", content=CONTENT):
    return Source(f"{server.url}/{name}", sha256(content), name)


def test_a_file_is_downloaded_once(server, tmp_path):
    assert download(source(server), tmp_path).read_bytes() == CONTENT
    assert download(source(server), tmp_path).read_bytes() == CONTENT
    assert server.requests == ["/a.bin"]


def test_a_file_at_hand_needs_no_network(server, tmp_path, monkeypatch):
    (tmp_path / "a.bin").write_bytes(CONTENT)
    monkeypatch.setenv("ANOMALY_TRANSFER_OFFLINE", "1")
    assert download(source(server), tmp_path).read_bytes() == CONTENT
    assert not server.requests


def test_offline_says_where_to_put_the_file(server, tmp_path, monkeypatch):
    monkeypatch.setenv("ANOMALY_TRANSFER_OFFLINE", "1")
    with pytest.raises(DataError, match=r"OFFLINE forbids.*put it at .*a\.bin"):
        download(source(server), tmp_path)
    assert not server.requests


@pytest.mark.parametrize("damage", ["truncated", "other"])
def test_a_damaged_file_at_hand_is_replaced(server, tmp_path, damage):
    (tmp_path / "a.bin").write_bytes(CONTENT[:100] if damage == "truncated" else b"x")
    assert download(source(server), tmp_path).read_bytes() == CONTENT


def left(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_another_checksum_keeps_nothing(server, tmp_path):
    with pytest.raises(DataError, match="not the file that was expected"):
        download(source(server, content=b"something else"), tmp_path)
    assert left(tmp_path) == []


def test_a_download_that_breaks_off_keeps_nothing_and_starts_anew(server, tmp_path):
    server.breaks = True
    with pytest.raises(DataError, match=r"cannot be downloaded|not the file"):
        download(source(server), tmp_path)
    assert left(tmp_path) == []
    server.breaks = False
    assert download(source(server), tmp_path).read_bytes() == CONTENT


def test_what_a_killed_download_left_is_removed(server, tmp_path):
    (tmp_path / "a.bin.partial").mkdir()
    (tmp_path / "a.bin.partial" / "tmpx").write_bytes(b"half")
    download(source(server), tmp_path)
    assert left(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/a.bin", "http://no.such.host.invalid/a.bin"])
def test_without_network_the_message_says_what_to_do(tmp_path, url):
    with pytest.raises(DataError, match="is there a network"):
        download(Source(url, sha256(CONTENT), "a.bin"), tmp_path)


def test_a_missing_page_is_a_clear_error(server, tmp_path):
    with pytest.raises(DataError, match=r"b\.bin cannot be downloaded \(HTTPError\)"):
        download(source(server, "b.bin"), tmp_path)


def test_a_mirror_takes_the_place_of_every_address(server, tmp_path, monkeypatch):
    monkeypatch.setenv("ANOMALY_TRANSFER_MIRROR", server.url + "/")
    elsewhere = Source("http://no.such.host.invalid/deep/a.bin", sha256(CONTENT), "a.bin")
    assert download(elsewhere, tmp_path).read_bytes() == CONTENT


def test_a_full_disk_is_said_and_leaves_nothing(server, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(downloads.pooch, "retrieve", full)
    with pytest.raises(DataError, match=r"disk is full.*ANOMALY_TRANSFER_DATA"):
        download(source(server), tmp_path)
    assert left(tmp_path) == []


def test_a_place_that_cannot_be_written_is_said(server, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        download(source(server), tmp_path / "file")


def tar(path, members, mode="w:gz"):
    """An archive of (name, content) or TarInfo members."""
    with tarfile.open(path, mode) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return path


def zipped(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


PACKERS = {"x.tar.gz": tar, "x.zip": zipped}


@pytest.mark.parametrize("name", PACKERS)
def test_archives_are_unpacked_without_their_top_folder(tmp_path, name):
    archive = PACKERS[name](tmp_path / name, [("top/a/1.txt", b"one"), ("top/2.txt", b"two")])
    folder = tmp_path / "out"
    folder.mkdir()
    unpack(archive, folder, 1000)
    assert (folder / "a" / "1.txt").read_bytes() == b"one"
    assert left(folder) == ["2.txt", "a"]


@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.parametrize("evil", ["../evil.txt", "/tmp/evil.txt", "a/../../evil.txt", "..\\evil.txt", "C:/evil.txt"])
def test_nothing_is_written_outside(tmp_path, name, evil):
    archive = PACKERS[name](tmp_path / name, [(evil, b"evil")])
    folder = tmp_path / "deep" / "out"
    folder.mkdir(parents=True)
    # Refused, or put inside by the rest of its name.
    with suppress(DataError):
        unpack(archive, folder, 1000)
    assert all(path.is_relative_to(folder) for path in tmp_path.rglob("*evil*"))
    assert not Path("/tmp/evil.txt").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_that_lead_outside_and_devices_in_a_tar_are_refused(tmp_path, kind):
    info = tarfile.TarInfo("link")
    info.type, info.linkname = kind, "/etc/passwd"
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="does not belong there"):
        unpack(tar(tmp_path / "x.tar", [info], "w"), tmp_path / "out", 1000)
    assert left(tmp_path / "out") == []


def test_a_python_that_cannot_tell_says_so(tmp_path, monkeypatch):
    monkeypatch.delattr(tarfile, "data_filter", raising=False)
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match=r"too old to unpack .*x.tar safely: use 3.11.4 or newer"):
        unpack(tar(tmp_path / "x.tar", [("a.txt", b"one")]), tmp_path / "out", 1000)
    unpack(zipped(tmp_path / "x.zip", [("a.txt", b"one")]), tmp_path / "out", 1000)
    assert left(tmp_path / "out") == ["a.txt"]


def test_a_link_in_a_zip_is_a_file(tmp_path):
    info = zipfile.ZipInfo("link")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    (tmp_path / "out").mkdir()
    unpack(tmp_path / "x.zip", tmp_path / "out", 1000)
    assert not (tmp_path / "out" / "link").is_symlink()


def test_a_zip_that_lies_of_its_size_stops_at_what_it_says(tmp_path):
    archive = zipped(tmp_path / "x.zip", [("zeros", bytes(5_000))])
    archive.write_bytes(archive.read_bytes().replace((5_000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="is damaged"):
        unpack(archive, tmp_path / "out", 1000)
    assert (tmp_path / "out" / "zeros").stat().st_size <= 10


@pytest.mark.parametrize("name", PACKERS)
def test_a_bomb_is_stopped_at_the_limit(tmp_path, name):
    archive = PACKERS[name](tmp_path / name, [("zeros", bytes(10_000_000))])
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="unpacks to more than 1 MB"):
        unpack(archive, tmp_path / "out", 1_000_000)
    assert left(tmp_path / "out") == []


@pytest.mark.parametrize("name", PACKERS)
def test_a_truncated_archive_says_so(tmp_path, name):
    archive = PACKERS[name](tmp_path / name, [("a", os.urandom(50_000))])
    archive.write_bytes(archive.read_bytes()[:25_000])
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="is damaged"):
        unpack(archive, tmp_path / "out", 1_000_000)


def test_something_else_than_an_archive_says_so(tmp_path):
    (tmp_path / "page.tar.gz").write_text("<html>Please log in</html>")
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="is damaged"):
        unpack(tmp_path / "page.tar.gz", tmp_path / "out", 1000)


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    def half(folder):
        (folder / "first").touch()
        raise DataError("no more")

    with pytest.raises(DataError, match="no more"):
        fetch_folder(tmp_path / "set", half)
    assert left(tmp_path) == []
    fetch_folder(tmp_path / "set", lambda folder: (folder / "first").touch())
    assert left(tmp_path / "set") == ["first"]


def test_a_folder_that_is_there_is_left_alone(tmp_path):
    (tmp_path / "set").mkdir()
    fetch_folder(tmp_path / "set", lambda folder: pytest.fail("filled again"))


def test_content_is_known_by_names_and_bytes(tmp_path):
    (tmp_path / "a.txt").write_text("one")
    first = content_hash(tmp_path, "*.txt")
    check_content(tmp_path, "*.txt", first, Source("http://somewhere", None, "x"))
    (tmp_path / "a.txt").rename(tmp_path / "b.txt")
    with pytest.raises(DataError, match="not what was expected"):
        check_content(tmp_path, "*.txt", first, Source("http://somewhere", None, "x"))


SLOW = """
    import sys, time
    from pathlib import Path
    from anomaly_transfer.data.downloads import Source, download, fetch_folder, unpack

    url, checksum, data, pause = sys.argv[1], sys.argv[2], Path(sys.argv[3]), float(sys.argv[4])

    def fill(folder):
        archive = download(Source(url, checksum, "x.tar.gz"), data / "downloads")
        unpack(archive, folder, 10**7)
        print("unpacked", flush=True)
        time.sleep(pause)

    fetch_folder(data / "set", fill)
    print("done", flush=True)
"""


def process(server, checksum, data, pause):
    command = [sys.executable, "-c", textwrap.dedent(SLOW), f"{server.url}/x.tar.gz", checksum, str(data), str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def archive(server, tmp_path):
    content = tar(tmp_path / "made.tar.gz", [(f"top/{n}.txt", b"x" * 1000) for n in range(50)]).read_bytes()
    server.files["x.tar.gz"] = content
    return sha256(content)


def test_two_processes_fetch_once(server, archive, tmp_path):
    both = [process(server, archive, tmp_path / "data", 0.5) for _ in range(2)]
    outputs = [p.communicate(timeout=120)[0] for p in both]
    assert all(p.returncode == 0 for p in both)
    assert sorted(output.split() for output in outputs) == [["done"], ["unpacked", "done"]]
    assert server.requests == ["/x.tar.gz"]
    assert len(left(tmp_path / "data" / "set")) == 50


def test_killed_while_unpacking_then_a_good_second_run(server, archive, tmp_path):
    first = process(server, archive, tmp_path / "data", 60)
    assert first.stdout.readline() == "unpacked\n"
    first.send_signal(signal.SIGKILL)
    first.wait(timeout=30)
    assert not (tmp_path / "data" / "set").exists(), "half-made is not published"
    assert (tmp_path / "data" / "set.partial").is_dir()
    start = time.monotonic()
    second = process(server, archive, tmp_path / "data", 0)
    assert second.communicate(timeout=120)[0].split() == ["unpacked", "done"]
    assert time.monotonic() - start < 60, "the lock of a dead process is free"
    assert left(tmp_path / "data") == ["downloads", "set"]
    assert len(left(tmp_path / "data" / "set")) == 50
    assert server.requests == ["/x.tar.gz"], "the archive was not fetched again"


def test_gzip_of_nothing_is_no_archive(tmp_path):
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(b"hello"))
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="is damaged"):
        unpack(tmp_path / "x.tar.gz", tmp_path / "out", 1000)


def test_an_archive_without_checksum_is_known_by_its_content(server, tmp_path):
    members = [("top/a/1.txt", b"one"), ("top/more.md", b"any")]
    server.files["y.zip"] = zipped(tmp_path / "made.zip", members).read_bytes()
    (tmp_path / "same" / "a").mkdir(parents=True)
    (tmp_path / "same" / "a" / "1.txt").write_bytes(b"one")
    expected = content_hash(tmp_path / "same", "a/*")
    of = Source(f"{server.url}/y.zip", None, "y.zip")
    with pytest.raises(DataError, match="not what was expected"):
        downloads.fetch_archive(of, tmp_path / "data" / "set", 1000, pattern="a/*", content="0" * 64)
    assert left(tmp_path / "data") == ["downloads"]
    downloads.fetch_archive(of, tmp_path / "data" / "set", 1000, pattern="a/*", content=expected)
    assert left(tmp_path / "data" / "set") == ["a", "more.md"]
    downloads.fetch_archive(of, tmp_path / "data" / "other", 1000, inside="in")
    assert left(tmp_path / "data" / "other") == ["in"]
