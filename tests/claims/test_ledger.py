"""The ledger, the rule that makes verdicts, and the committed verdicts against the recorded runs."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.book.conftest import ROOT
from typer.testing import CliRunner

from anomaly_transfer import benchmarks, studies
from anomaly_transfer.app.cli import app
from anomaly_transfer.claims import effects, ledger
from anomaly_transfer.claims.ledger import Case, Claim, Finding
from anomaly_transfer.errors import StoreError
from anomaly_transfer.pages import verdicts
from anomaly_transfer.studies import records

LEDGER = ledger.claims()
ENTRY = {
    "id": "W-test",
    "title": "A claim for tests",
    "statement": "Something lies above a threshold.",
    "comparator": "nothing",
    "measure": "a number",
    "threshold": 0.5,
    "reason": "a reason of tests",
    "fixed": "beforehand",
    "scope": "every",
    "refuted_by": "a value below",
    "limits": "it is made up",
    "chapter": "verdicts",
}


def claim(**changes):
    return Claim(**(ENTRY | changes))


def test_the_ledger_covers_the_papers_and_has_claims_of_our_own():
    parts = {entry.id[:3] for entry in LEDGER if entry.paper}
    assert {"P1a", "P1b", "P1c", "P1d", "P2a", "P2b", "P2c", "P2d", "P3a", "P3b"} <= parts
    assert sum(not entry.paper for entry in LEDGER) >= 5


@pytest.mark.parametrize("entry", LEDGER, ids=lambda entry: entry.id)
def test_an_entry_names_what_exists(entry):
    assert (ROOT / "notebooks" / f"{entry.chapter}.py").is_file()
    assert set(entry.benchmarks) <= set(benchmarks.names())
    if entry.paper:
        assert re.search(rf"@\w+{{{entry.paper},", (ROOT / "book/references.bib").read_text())


@pytest.mark.parametrize("entry", LEDGER, ids=lambda entry: entry.id)
def test_the_verdict_is_what_the_recorded_runs_say(entry):
    assert ledger.changes_since(ledger.evaluate(entry), ledger.recorded().get(entry.id)) == []


def test_no_verdict_is_kept_without_its_claim():
    assert list(ledger.recorded()) == [entry.id for entry in LEDGER]


@pytest.mark.parametrize(
    ("holds", "low", "high", "state"),
    [
        ("above", 0.6, 0.9, "met"),
        ("above", 0.4, 0.9, "open"),
        ("above", 0.5, 0.9, "open"),
        ("above", 0.1, 0.4, "missed"),
        ("below", 0.1, 0.4, "met"),
        ("below", 0.6, 0.9, "missed"),
        ("below", 0.4, 0.9, "open"),
        ("within", -0.4, 0.4, "met"),
        ("within", -0.6, 0.1, "open"),
        ("within", 0.6, 0.9, "missed"),
        ("within", -0.9, -0.6, "missed"),
        ("within", -0.9, 0.9, "open"),
        ("above", np.nan, np.nan, "open"),
        ("below", np.nan, np.nan, "open"),
        ("within", np.nan, np.nan, "open"),
    ],
)
def test_an_interval_tells_the_state(holds, low, high, state):
    assert claim(holds=holds).state(low, high) == state


@given(st.integers(-3, 3), st.integers(0, 4), st.integers(-2, 2))
def test_a_state_is_met_where_the_whole_interval_meets_it(low, width, threshold):
    """By definition: an end that lies on the threshold is neither here nor there."""
    ends = np.array([low, low + width])
    sides = {"above": ends - threshold, "below": threshold - ends}
    if threshold > 0:
        met, missed = (abs(ends) < threshold).all(), (ends > threshold).all() or (ends < -threshold).all()
        told = claim(holds="within", threshold=threshold).state(*ends)
        assert told == ("met" if met else "missed" if missed else "open")
    for holds, inside in sides.items():
        told = claim(holds=holds, threshold=threshold).state(*ends)
        assert told == ("met" if (inside > 0).all() else "missed" if (inside < 0).all() else "open")


@pytest.mark.parametrize(
    ("states", "every", "most"),
    [
        ("mmm", "supported", "supported"),
        ("mmo", "partly", "supported"),
        ("mmx", "partly", "supported"),
        ("mxo", "partly", "partly"),
        ("moo", "inconclusive", "inconclusive"),
        ("mo", "partly", "partly"),
        ("mx", "partly", "partly"),
        ("mxx", "not supported", "not supported"),
        ("xo", "inconclusive", "inconclusive"),
        ("xxo", "not supported", "not supported"),
        ("ooo", "inconclusive", "inconclusive"),
        ("", "not tested here", "not tested here"),
    ],
)
def test_states_make_the_verdict(states, every, most):
    named = [{"m": "met", "x": "missed", "o": "open"}[letter] for letter in states]
    assert ledger.verdict(named, "every") == every
    assert ledger.verdict(named, "most") == most


def test_a_finding_has_the_mean_over_cases_and_students_interval():
    cases = pd.DataFrame({"case": list("abc"), "value": [0.6, 0.7, 0.8], "low": [0.55, 0.65, np.nan], "high": 0.9})
    found = ledger.judge(claim(), cases)
    assert [case.state for case in found.cases] == ["met", "met", "open"]
    assert (found.value, found.low, found.high) == (0.7, 0.4516, 0.9484)  # 0.7 ± 4.3027 · 0.1 / √3
    assert found.cases[2].low is None
    assert found.verdict == "partly"


def test_a_single_case_keeps_its_own_interval():
    found = ledger.judge(claim(), pd.DataFrame({"case": ["a"], "value": [0.6], "low": [0.55], "high": [0.65]}))
    assert (found.verdict, found.value, found.low, found.high) == ("supported", 0.6, 0.55, 0.65)


def finding(*values, verdict="partly"):
    cases = [Case(case=f"case {k}", value=v, low=v - 0.1, high=v + 0.1, state="open") for k, v in enumerate(values)]
    return Finding(id="W-test", verdict=verdict, cases=cases)


def test_intervals_end_where_the_effect_does():
    cases = pd.DataFrame({"case": ["a", "b"], "value": [0.9, -0.8], "low": [0.5, -4.0], "high": [1.3, np.nan]})
    found = ledger.judge(claim(between=(-1, 1)), cases)
    assert [(case.low, case.high) for case in found.cases] == [(0.5, 1), (-1, None)]
    assert (found.low, found.high) == (-1, 1)  # two cases this far apart tell nothing of a mean
    assert ledger.formatted(claim(between=(-1, 1)), found.cases[0]) == "+0.900 [+0.500, +1.000]"
    assert ledger.formatted(claim(between=(0, 1)), found.cases[0]) == "0.900 [0.500, 1.000]"


def test_what_moved_is_told():
    then = finding(0.5, 0.6)
    assert ledger.changes_since(then, then) == []
    assert ledger.changes_since(finding(0.5001, 0.6), then) == []
    assert ledger.changes_since(finding(0.52, 0.6), then) == ["case 0: 0.5 [0.4, 0.6] became 0.52 [0.42, 0.62]"]
    without = then.cases[0].model_copy(update={"high": None})
    told = ledger.changes_since(then.model_copy(update={"cases": (without, then.cases[1])}), then)
    assert told == ["case 0: 0.5 [0.4, 0.6] became 0.5 [0.4, nan]"]
    assert ledger.changes_since(finding(0.5), then) == ["case 1 is gone"]
    assert ledger.changes_since(finding(0.5, 0.6, 0.7), then) == ["case 2 is new"]
    assert ledger.changes_since(finding(0.5, 0.6, verdict="supported"), then) == ["verdict 'partly' became 'supported'"]
    met = then.cases[0].model_copy(update={"state": "met"})
    assert ledger.changes_since(then.model_copy(update={"cases": (met, then.cases[1])}), then) == [
        "case 0: open became met"
    ]
    assert ledger.changes_since(then, None) == ["it has no recorded verdict"]


def test_a_claim_that_cites_what_is_not_recorded_is_refused():
    nearness = {"effect": "nearness", "arguments": {"region": "image"}}
    with pytest.raises(StoreError, match="reads 'normal_similarity' of fashion_mnist: nothing is recorded"):
        ledger.evaluate(claim(**nearness, benchmarks=["elpv", "fashion_mnist"]))
    with pytest.raises(StoreError, match="of no benchmark"):
        ledger.evaluate(claim(**nearness))
    with pytest.raises(ValueError, match=r"no effect 'luck'; choose from nearness"):
        ledger.evaluate(claim(effect="luck"))


def test_cases_are_left_out_by_name(monkeypatch):
    cases = pd.DataFrame({"case": ["a", "b"], "value": [0.6, 0.1], "low": [0.55, 0.0], "high": [0.65, 0.2]})
    monkeypatch.setitem(effects.EFFECTS, "two", effects.Effect(lambda: cases, ()))
    assert [case.case for case in ledger.evaluate(claim(effect="two", without=["b"])).cases] == ["a"]
    with pytest.raises(ValueError, match="leaves out c, which is no case"):
        ledger.evaluate(claim(effect="two", without=["c"]))


def test_another_rule_is_told_from_the_same_cases():
    cases = pd.DataFrame({"case": list("abc"), "value": [0.6, 0.7, 0.8], "low": [0.55, 0.6, np.nan], "high": 0.9})
    given = claim(scope="most")
    found = ledger.judge(given, cases)
    assert (found.verdict, ledger.verdict_under(given, found, "most")) == ("supported", "supported")
    assert ledger.verdict_under(given, found, "every") == "partly"
    # The first two lows move from .55 and .60 to .48 and .45.
    assert ledger.verdict_under(given, found, "most", widen=2.5) == "inconclusive"


def test_an_effect_without_cases_is_no_verdict(monkeypatch):
    monkeypatch.setitem(effects.EFFECTS, "empty", effects.Effect(lambda: pd.DataFrame(columns=effects.CASE), ()))
    with pytest.raises(StoreError, match="no recorded run bears on it"):
        ledger.evaluate(claim(effect="empty"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"holds": "beside"}, "W-test"),
        ({"threshold": "much"}, "W-test"),
        ({"colour": "red"}, "W-test"),
        ({"paper": "sadrani2024"}, "quotes it"),
        ({"quotation": "so it is"}, "quotes it"),
        ({"id": "P1a-test"}, "quotes it"),
        ({"id": "test"}, "id"),
    ],
)
def test_an_entry_that_breaks_the_schema_is_named(tmp_path, change, message):
    path = tmp_path / "claims.yml"
    path.write_text(yaml.safe_dump([ENTRY | change]))
    with pytest.raises(ValueError, match=message):
        ledger.claims(path)


@pytest.mark.parametrize(
    ("field", "least"),
    [
        ("title", 5),
        ("statement", 20),
        ("comparator", 5),
        ("measure", 5),
        ("reason", 10),
        ("refuted_by", 10),
        ("limits", 10),
    ],
)
def test_a_claim_says_something_in_every_field(field, least):
    assert getattr(claim(**{field: "x" * least}), field)
    with pytest.raises(ValidationError, match=field):
        claim(**{field: "x" * (least - 1)})


@pytest.mark.parametrize("made", [claim(), Case(case="a", value=1, low=None, high=None, state="open"), finding(0.5)])
def test_what_was_found_cannot_be_changed(made):
    for name in type(made).model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(made, name, "other")
    with pytest.raises(ValidationError, match="colour"):
        type(made)(**made.model_dump(), colour="red")


def test_two_entries_of_one_id_are_refused(tmp_path):
    path = tmp_path / "claims.yml"
    path.write_text(yaml.safe_dump([ENTRY, ENTRY]))
    with pytest.raises(ValueError, match="more than one entry called W-test"):
        ledger.claims(path)


def test_verdicts_are_written_whole_and_read_again(tmp_path):
    found = [finding(0.5, 0.6)]
    ledger.write(found, tmp_path)
    assert ledger.recorded(tmp_path) == {"W-test": found[0]}
    assert [path.name for path in tmp_path.iterdir()] == [ledger.VERDICTS]
    for damaged in ("[{]", "null", '["a"]'):
        (tmp_path / ledger.VERDICTS).write_text(damaged)
        with pytest.raises(StoreError, match=r"damaged .*restore it"):
            ledger.recorded(tmp_path)
    with pytest.raises(StoreError, match="make verdicts"):
        ledger.recorded(tmp_path / "elsewhere")


def test_the_command_fails_when_a_verdict_moves(monkeypatch):
    good = ledger.recorded()
    assert CliRunner().invoke(app, ["claims", "P3b-mnist"]).exit_code == 0
    other = good["P3b-mnist"].model_copy(update={"verdict": "supported"})
    monkeypatch.setattr(ledger, "recorded", lambda: good | {"P3b-mnist": other})
    told = CliRunner().invoke(app, ["claims", "P3b-mnist"])
    assert told.exit_code == 1
    assert "CHANGED: verdict 'supported' became 'not supported'" in told.output


def test_the_command_names_an_unknown_claim():
    told = CliRunner().invoke(app, ["claims", "P9z-none"])
    assert "There is no claim P9z-none" in str(told.exception)
    told = CliRunner().invoke(app, ["claims", "P3b-mnist", "--write"])
    assert "all together" in str(told.exception)


def test_a_figure_is_drawn_of_recorded_cases_only():
    assert len(verdicts.draw("P1a-images").axes) == 1
    with pytest.raises(ValueError, match="no recorded cases"):
        verdicts.draw("P2c-detection")


def test_the_board_has_every_claim():
    board = ledger.board(LEDGER, ledger.recorded())
    assert list(board.index) == [entry.id for entry in LEDGER]
    assert board.loc["P2c-detection", "verdict"] == "not tested here"
    assert board.loc["P2c-detection", "effect"] == ""
    row = ledger.recorded()["P3b-mnist"]
    assert board.loc["P3b-mnist", "effect"] == f"{row.value:+.3f} [{row.low:+.3f}, {row.high:+.3f}]"


def test_a_board_counts_cases():
    states = ["met", "met", "missed", "open", "open", "open"]
    cases = [Case(case=f"{k}", value=0.5, low=None, high=None, state=state) for k, state in enumerate(states)]
    found = Finding(id="W-test", verdict="partly", value=0.5, low=0.25, high=0.75, cases=cases)
    row = ledger.board([claim(between=(0, 1))], {"W-test": found}).loc["W-test"]
    assert row.to_dict() == {
        "claim": "A claim for tests",
        "verdict": "partly",
        "effect": "0.500 [0.250, 0.750]",
        "must be": "above 0.5",
        "met": "2 of 6",
        "missed": 1,
    }
    without = ledger.board([claim()], {"W-test": Finding(id="W-test", verdict="not tested here")}).loc["W-test"]
    assert without[["effect", "must be", "met", "missed"]].to_list() == [""] * 4
    assert claim(holds="within").condition == "within ±0.5"


def test_figures_are_given_shares_of_cases_and_the_bounds(monkeypatch):
    given = {}
    monkeypatch.setattr(verdicts.plots, "claim_cases", lambda *told: given.update(cases=told))
    monkeypatch.setattr(verdicts.plots, "claim_board", lambda *told: given.update(board=told))
    cases = [
        Case(case=f"{k}", value=0.5, low=None, high=0.75, state=state) for k, state in enumerate(["met", "open"] * 2)
    ]
    listed = [claim(holds="within"), claim(id="P1a-other", paper="one", quotation="two", title="Another claim")]
    listed.append(claim(id="W-single", title="Of one case"))
    findings = {
        "W-test": Finding(id="W-test", verdict="partly", cases=cases),
        "P1a-other": Finding(id="P1a-other", verdict="not tested here"),
        "W-single": Finding(id="W-single", verdict="supported", cases=cases[:1]),
    }
    monkeypatch.setattr(verdicts, "claims", lambda: listed)
    monkeypatch.setattr(verdicts, "recorded", lambda: findings)
    verdicts.draw_board()
    table, ids = given["board"]
    assert table.to_dict("index") == {
        "A claim for tests": {"met": 0.5, "missed": 0.0, "open": 0.5, "verdict": "partly"},
        "Another claim": {"met": 0.0, "missed": 0.0, "open": 0.0, "verdict": "not tested here"},
        "Of one case": {"met": 1.0, "missed": 0.0, "open": 0.0, "verdict": "supported"},
    }
    assert ids == ["W-", "P1", "W-"]
    verdicts.draw("W-test")
    table, bounds, measure = given["cases"]
    assert (bounds, measure) == ([-0.5, 0.5], "a number")
    assert list(table["state"]) == ["met", "open"] * 2
    assert table["low"].isna().all()
    listed[0] = claim()
    verdicts.draw("W-test")
    assert given["cases"][1] == [0.5]
    # Without cases, in no ledger and nowhere recorded; in the ledger alone; recorded alone.
    listed.append(claim(id="W-new"))
    findings["W-old"] = findings["W-test"]
    for missing in ("P1a-other", "W-none", "W-new", "W-old"):
        with pytest.raises(ValueError, match="no recorded cases"):
            verdicts.draw(missing)


def test_recorded_runs_of_all_named_benchmarks_are_read_and_of_no_other(monkeypatch):
    rows = pd.DataFrame({"benchmark": ["one", "two", "three"] * 2})
    asked = []
    monkeypatch.setattr(records, "frame", lambda *words: asked.append(words) or rows)
    ledger._recorded.cache_clear()
    try:
        found = ledger._read(claim(benchmarks=["one", "three"]), "a study")
        assert found["benchmark"].tolist() == ["one", "one", "three", "three"]
        assert len(ledger._read(claim(benchmarks=["two"]), "a study")) == 2
        with pytest.raises(StoreError, match="reads 'a study' of four: nothing"):
            ledger._read(claim(benchmarks=["one", "four"]), "a study")
        assert asked == [("a study", "study")], "read once, at the profile of the book"
    finally:
        ledger._recorded.cache_clear()


def test_written_verdicts_are_readable_text(tmp_path):
    path = ledger.write([Finding(id="W-café", verdict="partly")], tmp_path)
    text = path.read_text(encoding="utf-8")
    assert text == json.dumps(json.loads(text), indent=1, ensure_ascii=False) + "\n"
    assert "café" in text


def test_numbers_of_other_processors_are_no_move():
    then = finding(1000.0)
    for step, moves in ((0.5, False), (2.0, True)):
        case = then.cases[0].model_copy(update={"value": 1000.0 + step})
        assert bool(ledger.changes_since(then.model_copy(update={"cases": (case,)}), then)) == moves
    assert ledger.changes_since(finding(0.5 + 4e-3), finding(0.5), tolerance=1e-2) == []


def test_verdicts_are_text_that_diffs_well():
    text = (ROOT / "results" / ledger.VERDICTS).read_text()
    assert text == json.dumps(json.loads(text), indent=1, ensure_ascii=False) + "\n"


def test_every_effect_serves_a_claim():
    assert {entry.effect for entry in LEDGER if entry.effect} == set(effects.EFFECTS)


def test_an_effect_reads_studies_that_exist():
    assert {name for effect in effects.EFFECTS.values() for name in effect.reads} <= set(studies.names())


@pytest.mark.parametrize("text", ["- {id: [", "", "{id: W-a}", "- just words"])
def test_a_ledger_that_is_no_list_of_claims_is_refused(tmp_path, text):
    (tmp_path / "claims.yml").write_text(text)
    with pytest.raises(ValueError, match=r"claims\.yml"):
        ledger.claims(tmp_path / "claims.yml")


def test_arguments_that_an_effect_does_not_take_are_named():
    leak = next(entry for entry in LEDGER if entry.id == "W-leak")
    with pytest.raises(ValueError, match=r"W-leak: the effect 'leak' with .*splitt"):
        ledger.evaluate(leak.model_copy(update={"arguments": {"splitt": "matched"}}))
