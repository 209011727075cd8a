"""Each notebook alone, as on Colab: our wheel in a fresh environment, the one file in an empty folder.

nbval runs it as `make preview` left it and compares every output, so that what a chapter shows does not hang on the
chapters that ran before it. Features and trained networks, which take longest, are those that `make preview` stored;
everything that is computed from them is computed again.
"""

import json
import shutil
import site
import subprocess
import sys
from pathlib import Path

import pytest
from tests.book.conftest import AS_BUILT, EXECUTED, ROOT

from anomaly_transfer.pages import contents

CHAPTERS = contents.chapters(ROOT)


@pytest.fixture(scope="session")
def python(tmp_path_factory):
    """The interpreter of a fresh environment: third-party packages are shared, ours comes from the built wheel."""
    folder = tmp_path_factory.mktemp("alone")
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, ROOT]
    subprocess.run(build, check=True)
    (wheel,) = folder.glob("anomaly_transfer-*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    interpreter = folder / "venv" / "bin" / "python"
    purelib = subprocess.run(
        [interpreter, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    # A plain line in a .pth file adds the folder but runs none of its own .pth files, so our editable install
    # is not among what is shared.
    Path(purelib, "shared.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    install = [sys.executable, "-m", "pip", "--python", interpreter, "install", "-q", "--no-deps", "--no-index", wheel]
    subprocess.run(install, check=True)
    return interpreter


@pytest.fixture
def store(tmp_path):
    built = Path(AS_BUILT.get("ANOMALY_TRANSFER_STORE", ROOT / "_store"))
    folder = tmp_path / "store"
    folder.mkdir()
    for kind in ("features", "encoders", "tunings"):
        if (built / kind).is_dir():
            (folder / kind).symlink_to(built / kind)
    return folder


def environment(store):
    kept = {name: value for name, value in AS_BUILT.items() if not name.startswith(("PYTHON", "PYTEST", "JUPYTER"))}
    return kept | {"ANOMALY_TRANSFER_STORE": str(store), "TQDM_DISABLE": "1"}


def test_the_package_is_the_wheel_and_not_the_repository(python, store, tmp_path):
    code = "import anomaly_transfer, sys; print(anomaly_transfer.__file__); print(sys.path)"
    result = subprocess.run([python, "-c", code], cwd=tmp_path, env=environment(store), capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    file, path = result.stdout.splitlines()
    assert file.startswith(str(python.parents[1]))
    assert str(ROOT / "lib") not in path


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_notebook_alone_shows_the_same(python, store, tmp_path, chapter):
    executed = EXECUTED / f"{chapter}.ipynb"
    if not executed.is_file():
        pytest.skip("it was not executed: make preview")
    folder = tmp_path / "empty"
    folder.mkdir()
    shutil.copy(executed, folder)
    command = [python, "-m", "pytest", "-q", "--nbval", "--nbval-current-env", "-p", "no:cacheprovider", executed.name]
    result = subprocess.run(command, cwd=folder, env=environment(store), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-1000:]
    cells = [cell for cell in json.loads(executed.read_text())["cells"] if cell["cell_type"] == "code"]
    assert f"{len(cells)} passed" in result.stdout
