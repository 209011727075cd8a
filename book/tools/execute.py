"""Execute one chapter: python book/tools/execute.py CHAPTER PROFILE OUTPUT."""

from __future__ import annotations

import importlib.metadata
import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import papermill
import psutil

from anomaly_transfer.pages import contents

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"
CELL_TIMEOUT_S = 6 * 3600
SHOWN_VERSIONS = (
    "anomaly-transfer",
    "torch",
    "timm",
    "openvino",
    "scikit-learn",
    "numpy",
    "papermill",
    "jupyter-book",
)


def execute(chapter: str, profile: str, output: Path) -> None:
    """Run the notebook from its own folder with ``profile`` as parameter; ``output`` appears only if it succeeds."""
    source = NOTEBOOKS / f"{chapter}.ipynb"
    if "profile" not in papermill.inspect_notebook(source):
        raise SystemExit(
            f"{source.name} has no parameter `profile`: its second cell of code must be tagged `parameters`: copy "
            "that of another chapter."
        )
    started = time.perf_counter()

    def show(cell: dict, cell_index: int) -> None:
        if cell["cell_type"] == "code":
            first = next((line for line in cell["source"].splitlines() if line.strip()), "")
            print(
                f"[{time.perf_counter() - started:5.0f} s] {chapter}: {first[:70]}",
                file=sys.stderr,
                flush=True,
            )

    # Progress is what `show` prints; bars inside the notebook would make its outputs differ between runs.
    os.environ["TQDM_DISABLE"] = "1"
    output.parent.mkdir(parents=True, exist_ok=True)
    # A folder of its own for the kernel's connection file: chapters run side by side.
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["JUPYTER_RUNTIME_DIR"] = scratch
        unfinished = Path(scratch) / output.name
        executed = papermill.execute_notebook(
            source,
            unfinished,
            parameters={"profile": profile},
            cwd=NOTEBOOKS,
            progress_bar=False,
            execution_timeout=CELL_TIMEOUT_S,
            on_cell_start=show,
        )
        memory = psutil.virtual_memory().total / 2**30
        executed.metadata["machine"] = f"{os.cpu_count()} cores, {memory:.0f} GiB"
        executed.metadata["anomaly_transfer"] = {name: importlib.metadata.version(name) for name in SHOWN_VERSIONS}
        # Beside the output first, then renamed: readers see the old copy or the new one, whole.
        beside = output.with_suffix(".partial")
        nbformat.write(executed, beside)
        beside.replace(output)
    print(f"[{time.perf_counter() - started:5.0f} s] {chapter}: done", file=sys.stderr, flush=True)


if __name__ == "__main__":
    known = contents.chapters(ROOT)
    if len(sys.argv) != 4 or sys.argv[1] not in known:
        raise SystemExit(f"{__doc__}\nChapters: {', '.join(known)}.")
    try:
        execute(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
    except papermill.PapermillExecutionError as error:
        raise SystemExit(f"{sys.argv[1]} failed in cell {error.exec_count}:\n{error}") from None
