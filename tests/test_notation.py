"""The page of symbols is true: what it lists is used where it says, and what chapters use is listed."""

import re
from pathlib import Path

import pytest

from anomaly_transfer.pages import contents

ROOT = Path(__file__).parents[1]
CHAPTERS = {name: ROOT / "notebooks" / f"{name}.py" for name in contents.chapters(ROOT)}
GREEK = "alpha|gamma|lambda|mu|nu|pi|rho|theta|Delta|Sigma"
#: Indices and counts that a sum explains by itself.
INDICES = set("ijsS")


def maths(chapter):
    """What stands between dollars in the text of a chapter."""
    text = "\n".join(line[2:] for line in CHAPTERS[chapter].read_text().splitlines() if line.startswith("# "))
    return re.findall(r"\$\$(.+?)\$\$", text, re.DOTALL) + re.findall(r"(?<!\$)\$([^$\n]+)\$(?!\$)", text)


def letters(formula):
    """Letters that stand for something: no words, no names of functions."""
    formula = re.sub(r"\\(text|textstyle|mathrm|begin|end)(\{[^}]*\})?", " ", formula)
    found = set(re.findall(rf"\\({GREEK})(?![a-zA-Z])", formula))
    formula = re.sub(r"\\[a-zA-Z]+", " ", formula)
    return found | set(re.findall(r"(?<![a-zA-Z])[a-zA-Z](?![a-zA-Z])", formula))


def listed():
    """Section, symbols and chapter of each row."""
    section, rows = "", []
    for line in (ROOT / "book" / "notation.md").read_text().splitlines():
        if line.startswith("## "):
            section = line[3:]
        elif match := re.match(r"\| (\$.+?) \| .* \| \[\]\(\.\./notebooks/(\w+)\.ipynb\) \|$", line):
            rows.append((section, re.findall(r"\$([^$]+)\$", match[1]), match[2]))
    return rows


ROWS = listed()


@pytest.mark.parametrize(("section", "symbols", "chapter"), ROWS)
def test_a_listed_symbol_is_used_where_it_says(section, symbols, chapter):
    used = set().union(*map(letters, maths(chapter)))
    first = symbols[:1] if section == "Everywhere" else symbols
    for symbol in first:
        assert letters(symbol) <= used | {"x"}, (symbol, chapter)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_letter_of_a_formula_is_listed(chapter):
    known = [symbols for section, symbols, where in ROWS if section == "Everywhere" or where == chapter]
    known = set().union(*(letters(symbol) for symbols in known for symbol in symbols))
    used = set().union(*map(letters, maths(chapter))) if maths(chapter) else set()
    assert used - known - INDICES == set()
