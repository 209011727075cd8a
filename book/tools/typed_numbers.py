"""Find numbers in prose that look like results: python book/tools/typed_numbers.py.

Results are computed or glued, never typed. What looks like one (a decimal fraction, a percentage, "x times as ...") in
a text cell, in the fixed part of a printed sentence, in a caption, on a page or in a claim must be cited in the same
sentence, or stand in book/typed_numbers.yml with the reason why it is no result.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import jupytext
import yaml

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = ROOT / "book" / "typed_numbers.yml"
COUNT = r"(?:\d+(?:\.\d+)?|two|three|four|five|six|seven|eight|nine|ten|twenty|hundred)"
LOOKS_LIKE_A_RESULT = re.compile(
    rf"(?<![\w./-])(?:[+−-]?\d*\.\d+(?![\w-]|\.\d)|\d+ ?(?:%|per cent)|{COUNT} times (?:as|faster|slower|more|less))"
)
#: Code, equations and links hold no results.
APART = re.compile(r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$|\]\([^)]*\)", re.DOTALL)
#: What a claim says in words of our own.
CLAIMED = ("title", "statement", "comparator", "measure", "interval", "reason", "refuted_by", "limits")
#: A constant of a program is prose if it is a sentence.
WORDS = 4


def prose(path: Path) -> Iterator[str]:
    """The texts of a chapter, a page, or the claims."""
    if path.suffix == ".yml":
        for claim in yaml.safe_load(path.read_text(encoding="utf-8")):
            # It may name its own threshold, and what the paper is quoted with.
            own = {f"{abs(claim['threshold']):g}", *re.findall(r"\d+(?:\.\d+)?", claim.get("quotation", ""))}
            named = re.compile(rf"(?<![\d.])(?:{'|'.join(map(re.escape, sorted(own)))})(?!\.?\d)")
            yield from (named.sub("NAMED", str(claim.get(field, ""))) for field in CLAIMED)
        return
    if path.suffix != ".py":
        yield re.sub(r"<!-- verdicts.*?<!-- end of verdicts -->", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        return
    for cell in jupytext.read(path, fmt="py:percent").cells:
        if cell.cell_type == "markdown":
            yield cell.source
        else:
            yield cell.metadata.get("mystnb", {}).get("figure", {}).get("caption", "")
            yield from _sentences(cell.source)


def _sentences(source: str) -> Iterator[str]:
    code = "".join(f"{'pass  # ' if line.startswith(('%', '!')) else ''}{line}\n" for line in source.splitlines())
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value.split()) >= WORDS:
            yield node.value


def found(text: str) -> Iterator[tuple[str, str]]:
    """What looks like a result in a text, with the sentence around it.

    >>> list(found("It reached 0.93 there. A rate of `0.5`, $x < 0.1$; and 95 % {cite:p}`somebody`."))
    [('0.93', 'It reached 0.93 there.')]
    """
    for paragraph in re.split(r"\n\s*\n|\n(?=\s*(?:[-*|]|\d+\.) )", text):
        cites = re.sub(r"\{cite:\w\}`[^`]*`", " CITED ", paragraph)
        for sentence in re.split(r"(?<=[.!?:])\s+(?=[A-Z*])", " ".join(APART.sub(" ", cites).split())):
            if "CITED" not in sentence:
                yield from ((match[0], sentence) for match in LOOKS_LIKE_A_RESULT.finditer(sentence))


def main() -> int:
    """Print what is neither cited nor allowed, and allowances that nothing needs; returns how many."""
    allowed = yaml.safe_load(ALLOWED.read_text(encoding="utf-8"))
    used, problems = set(), []
    pages = [*sorted((ROOT / "notebooks").glob("*.py")), *sorted((ROOT / "book").glob("*.md"))]
    pages += sorted((ROOT / "book" / "parts").glob("*.md"))
    pages += [ROOT / "README.md", ROOT / "book" / "claims.yml"]
    for path in pages:
        page = path.relative_to(ROOT).with_suffix("").as_posix()
        for number, sentence in (hit for text in prose(path) for hit in found(text)):
            fits = [
                k
                for k, entry in enumerate(allowed)
                if entry["where"] in ("everywhere", page) and entry["text"] in sentence and number in entry["text"]
            ]
            used |= set(fits)
            if not fits:
                problems.append(f"{path.relative_to(ROOT)}: {number!r} in {sentence[:160]!r}")
    problems += [
        f"{ALLOWED.name}: nothing needs {entry['where']}, {entry['text']!r}"
        for k, entry in enumerate(allowed)
        if k not in used or not entry.get("reason")
    ]
    print("\n".join(problems) or f"No typed result among {len(pages)} pages ({len(allowed)} numbers are allowed).")
    return len(problems)


if __name__ == "__main__":
    sys.exit(main() > 0)
