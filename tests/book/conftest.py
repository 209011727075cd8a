"""These tests look at what `make preview` built; without it they say so and skip."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SITE = ROOT / "_site" / "smoke" / "_build" / "html"
EXECUTED = ROOT / "_executed" / "smoke"
#: With the data folder that `make preview` saw; each test has one of its own.
AS_BUILT = dict(os.environ)


@pytest.fixture(scope="session")
def site() -> Path:
    if not (SITE / "index.html").is_file():
        pytest.skip("there is no built site: make preview")
    return SITE


@pytest.fixture(scope="session")
def served(site):
    """The site on a loopback port."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium, where one is installed."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    flags = ["--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    # How far ahead pictures are loaded depends on what Chromium thinks of the connection.
    flags.append("--force-effective-connection-type=4G")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        flags.append("--no-sandbox")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=flags)
        yield chromium
        chromium.close()
