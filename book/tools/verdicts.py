"""Write what is derived from claims and verdicts: the stubs of their pages, and table and figure of README.md.

python book/tools/verdicts.py; with --check only compare. The verdicts themselves are computed by `anomaly-transfer
claims`.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from anomaly_transfer.claims import ledger
from anomaly_transfer.pages import plots, verdicts

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "book" / "claims"
README = ROOT / "README.md"
FIGURE = ROOT / "book" / "_static" / "verdicts.svg"
BEGIN, END = "<!-- verdicts: written by book/tools/verdicts.py -->", "<!-- end of verdicts -->"


def table() -> str:
    """The board in Markdown."""
    rows = ledger.board(ledger.claims(), ledger.recorded()).reset_index()
    lines = ["| Claim | | Verdict | Cases that meet it | that miss it |", "|---|---|---|--:|--:|"]
    lines += [
        f"| {row['id']} | {row['claim']} | **{row['verdict']}** | {row['met']} | {row['missed']} |"
        for _, row in rows.iterrows()
    ]
    return "\n".join(lines)


def readme() -> str:
    """README.md with the present board."""
    before, rest = README.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def board() -> bytes:
    """The board as a figure."""
    plots.use_style()
    file = io.BytesIO()
    verdicts.draw_board().savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def main(check: bool) -> int:
    """Write what differs, or with ``check`` name it; returns how many."""
    stubs = {PAGES / f"{c.id}.md": f"% This page is made from book/claims.yml.\n# {c.title}\n" for c in ledger.claims()}
    wanted = stubs | {README: readme()}
    stale = [path for path, text in wanted.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    orphans = sorted(set(PAGES.glob("*.md")) - set(stubs))
    drawn = board()
    if not FIGURE.is_file() or FIGURE.read_bytes() != drawn:
        stale.append(FIGURE)
    if not check:
        PAGES.mkdir(exist_ok=True)
        for path in stale:
            path.write_bytes(drawn if path == FIGURE else wanted[path].encode())
        for path in orphans:
            path.unlink()
    for path in stale + orphans:
        print(f"{path.relative_to(ROOT)}: {'stale: run book/tools/verdicts.py' if check else 'written'}")
    return len(stale) + len(orphans) if check else 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]) > 0)
