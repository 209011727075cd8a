"""A page for each claim: what was claimed, what was measured, and the verdict.

A page ``book/claims/ID.md`` is a stub. When Sphinx reads it, its text is made from ``book/claims.yml`` and
``results/verdicts.json``.
"""

from __future__ import annotations

from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from anomaly_transfer import benchmarks
from anomaly_transfer.claims import ledger
from anomaly_transfer.claims.ledger import Claim, Finding
from anomaly_transfer.pages import plots, verdicts
from anomaly_transfer.settings import claims_file, results_folder

FOLDER = "book/claims/"
FIXED = {
    "beforehand": "stated before we measured; effect, scope and cases were chosen afterwards",
    "afterwards": "set by convention, when numbers of this kind had been seen",
}


def show_claim(app: Sphinx, docname: str, source: list[str]) -> None:
    """Replace a stub by the page of its claim."""
    if not docname.startswith(FOLDER):
        return
    for path in (claims_file(), results_folder() / ledger.VERDICTS, plots.__file__, verdicts.__file__):
        app.env.note_dependency(str(path))
    # The directive draws anew when the stub has changed, which it never does.
    for drawn in (Path(app.doctreedir).parent / "plot_directive").glob(f"{docname}-*"):
        drawn.unlink()
    claim = next(claim for claim in ledger.claims() if claim.id == Path(docname).name)
    source[0] = page(claim, ledger.recorded()[claim.id])


def page(claim: Claim, finding: Finding) -> str:
    """The Markdown of a claim's page."""
    said = f"> {claim.quotation}\n>\n> {{cite:t}}`{claim.paper}`" if claim.paper else "A claim of our own."
    parts = [
        f"# {claim.id}: {claim.title}",
        said,
        f"**Verdict: {finding.verdict}.**{_in_short(claim, finding)}",
        _facts(claim),
    ]
    if finding.cases:
        parts += ["## What was measured", _figure(claim), _table(claim, finding)]
    parts += [
        "## What the verdict does not cover",
        claim.limits,
        f"How this is measured is the subject of [](../../notebooks/{claim.chapter}.ipynb); how cases make a verdict "
        "is said in [](../../notebooks/verdicts.ipynb)."
        + (f" `anomaly-transfer claims {claim.id}` computes it again." if finding.cases else ""),
    ]
    return "\n\n".join(parts) + "\n"


def _in_short(claim: Claim, finding: Finding) -> str:
    if not finding.cases:
        return ""
    n = len(finding.cases)
    if n == 1:
        (case,) = finding.cases
        words = {"met": "meets it", "missed": "misses it", "open": "cannot be told"}[case.state]
        return f" Its one case {words}: {ledger.formatted(claim, case)} (it must be {claim.condition})."
    effect = f"the effect is {ledger.formatted(claim, finding)} on average over cases"
    met, missed = finding.count("met"), finding.count("missed")
    counts = [f"{met} meet{'s' * (met == 1)} it", f"{missed} miss{'es' * (missed == 1)} it"]
    rest = f", and {finding.count('open')} cannot be told" if finding.count("open") else ""
    return f" Of {n} cases, {' and '.join(counts)}{rest}; {effect} (it must be {claim.condition})."


def _facts(claim: Claim) -> str:
    where = ", ".join(benchmarks.get(name).title for name in claim.benchmarks)
    rows = {
        "Made measurable": claim.statement,
        "Measured": claim.measure,
        "Against": claim.comparator,
        "Intervals are over": claim.interval,
        "Must be": f"{claim.condition}, in {'every case' if claim.scope == 'every' else 'more than half of the cases'}",
        "Because": f"{claim.reason} ({FIXED[claim.fixed]})",
        "Would be refuted by": claim.refuted_by,
        "Recorded runs of": where or ("a simulation" if claim.effect else "none"),
    }
    if claim.without:
        rows["Without"] = ", ".join(claim.without)
    facts = "\n".join(f"{name}\n: {text}\n" for name, text in rows.items())
    return f":::{{container}} facts\n{facts}\n:::"


def _figure(claim: Claim) -> str:
    caption = f"{claim.title}: each case with its 95 % interval. Dashed: the threshold. (Data: as named" + (
        "; recorded.)" if claim.benchmarks else ".)"
    )
    alt = f"Effect with intervals of each case of the claim {claim.id}, and the threshold"
    code = f"from anomaly_transfer.pages import verdicts\nverdicts.draw({claim.id!r})"
    lines = [
        ".. plot::",
        f"   :alt: {alt}",
        f"   :caption: {caption}",
        "",
        *(f"   {line}" for line in code.split("\n")),
    ]
    return "```{eval-rst}\n" + "\n".join(lines) + "\n```"


def _table(claim: Claim, finding: Finding) -> str:
    lines = ["| Case | Effect [95 % interval] | |", "|---|--:|---|"]
    lines += [f"| {case.case} | {ledger.formatted(claim, case)} | {case.state} |" for case in finding.cases]
    return "\n".join(lines)


class ClaimBoard(SphinxDirective):
    """``{claim-board}``: every claim with its verdict and its effect, each a link to its page."""

    def run(self) -> list[nodes.Node]:
        """Write the table as Markdown and parse it."""
        for path in (claims_file(), results_folder() / ledger.VERDICTS):
            self.env.note_dependency(str(path))
        board = ledger.board(ledger.claims(), ledger.recorded())
        lines = [
            "| Claim | Verdict | Met by | Missed by | Mean effect [95 % interval] | Must be |",
            "|---|---|--:|--:|--:|--:|",
        ]
        for name, row in board.iterrows():
            cells = [
                f"[{row['claim']}](/{FOLDER}{name}.md)",
                *map(str, row[["verdict", "met", "missed", "effect", "must be"]]),
            ]
            lines.append(f"| {' | '.join(cells)} |")
        holder = nodes.container()
        self.state.nested_parse(StringList(lines, "claims"), 0, holder)
        return holder.children


def setup(app: Sphinx) -> dict:
    """Register with Sphinx."""
    app.connect("source-read", show_claim)
    app.add_directive("claim-board", ClaimBoard)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
