import shutil

import pytest

from anomaly_transfer.code_used import Code
from anomaly_transfer.errors import StoreError
from anomaly_transfer.store import Store
from anomaly_transfer.studies import detection, few_shot, plan, recheck
from anomaly_transfer.studies.base import export
from anomaly_transfer.studies.plan import Entry
from anomaly_transfer.studies.records import Experiment


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A record and a table of the smallest profile."""
    store = Store(tmp_path_factory.mktemp("store"))
    where = {"benchmark": "surfaces", "category": "brick", "seed": 0, "profile": "smoke"}
    record = detection.run(Experiment(method="neighbours@head", split="grouped", **where), store)
    return record, few_shot.run("surfaces", "brick", "imagenet", 0, "smoke", store)


@pytest.fixture
def recorded(results, tmp_path, monkeypatch):
    """The two as the recorded results, and as the whole plan."""
    record, table = results
    monkeypatch.setattr(recheck, "results_folder", lambda: tmp_path / "results")
    detection.export([record], tmp_path / "results" / "smoke")
    export([table], tmp_path / "results" / "tables" / "smoke")
    entries = [
        Entry(study="run", variants=("neighbours@head",), data=("surfaces/brick",)),
        Entry(study="few_shot", variants=("imagenet",), data=("surfaces/brick",)),
    ]
    monkeypatch.setattr(plan, "entries", lambda: entries)
    forget = recheck._code.cache_clear
    forget()
    yield tmp_path / "results"
    forget()


def states(found):
    """State, and reason, by result."""
    return tuple(dict(zip(found["result"], found[column], strict=True)) for column in ("state", "why"))


RUN = "run__neighbours@head__surfaces__brick__grouped__0__smoke"
TABLE = "few_shot__surfaces__brick__imagenet__0__smoke"


def test_what_was_just_recorded_is_current(recorded):
    assert states(recheck.status("smoke"))[0] == {RUN: "current", TABLE: "current"}


def test_moved_code_and_libraries_are_named(recorded, monkeypatch):
    now = Code({"anomaly_transfer.studies.few_shot": "other"}, {"torch": "99.0"})
    monkeypatch.setattr(recheck, "_code", lambda study, variant: now)
    state, why = states(recheck.status("smoke"))
    assert set(state.values()) == {"stale"}
    assert "code of anomaly_transfer.studies.few_shot" in why[TABLE]
    assert ", now 99.0" in why[RUN]


def test_moved_sizes_weights_and_data_are_named(recorded, monkeypatch):
    from anomaly_transfer import benchmarks, profiles

    other = profiles.get("smoke").model_copy(update={"draws": 3, "memory_bank": 99})
    with monkeypatch.context() as patch:
        patch.setattr(profiles, "get", lambda name=None: other)
        _, why = states(recheck.status("smoke"))
        assert why[TABLE] == "draws 2, now 3"
        assert why[RUN] == "memory_bank 200, now 99"
    with monkeypatch.context() as patch:
        patch.setattr(recheck, "_weights", lambda backbone: "others")
        assert set(states(recheck.status("smoke"))[1].values()) == {"weights"}
    with monkeypatch.context() as patch:
        detection._category.cache_clear()
        patch.setattr(type(benchmarks.get("surfaces")), "largest_input", 48, raising=False)
        load = type(benchmarks.get("surfaces")).load
        patch.setattr(
            type(benchmarks.get("surfaces")), "load", lambda self, category, limit=None: load(self, category, 100)
        )
        assert set(states(recheck.status("smoke"))[1].values()) == {"data"}
    detection._category.cache_clear()


def test_missing_and_orphaned_are_told_apart(recorded, monkeypatch):
    entry = Entry(study="few_shot", variants=("imagenet", "random"), data=("surfaces/brick",))
    monkeypatch.setattr(plan, "entries", lambda: [entry])
    state, _ = states(recheck.status("smoke"))
    assert state == {RUN: "orphaned", TABLE: "current", "few_shot__surfaces__brick__random__0": "missing"}


def test_data_that_are_not_at_hand_leave_a_result_unchecked(recorded, monkeypatch):
    from anomaly_transfer.errors import DataError

    def gone(*_):
        raise DataError("not at hand")

    monkeypatch.setattr(recheck, "_moved_with_data", gone)
    assert set(states(recheck.status("smoke"))[0].values()) == {"unchecked"}


def shifted(table, by, row=0):
    rows = [list(values) for values in table.rows]
    rows[row][table.columns.index("value")] += by
    return table.model_copy(update={"rows": rows})


def test_a_rerun_agrees_to_the_tolerance_and_no_farther(results):
    record, table = results
    for by, state in ((0.0, "same"), (0.9 * recheck.FROZEN, "same"), (1.1 * recheck.FROZEN, "moved"), (0.03, "moved")):
        found = recheck.diff([record, shifted(table, by)], [record, table]).set_index("result")
        assert found.loc[RUN, "state"] == "same"
        assert found.loc[TABLE, "state"] == state
        assert found.loc[TABLE, "difference"] == pytest.approx(by, abs=1e-9)
    assert found.loc[TABLE, "where"] == "row 0 value"


def test_networks_that_are_trained_may_differ_more(results):
    _, table = results
    tuned = {key: value for key, value in table.coordinates.items() if key != "start"} | {"variant": "mahalanobis"}
    trained = table.model_copy(update={"study": "tuned", "coordinates": tuned})
    assert list(recheck.diff([shifted(trained, 0.9 * recheck.TRAINED)], [trained])["state"]) == ["same"]
    assert list(recheck.diff([shifted(trained, 1.1 * recheck.TRAINED)], [trained])["state"]) == ["moved"]
    assert recheck.tolerance(table) == recheck.FROZEN < recheck.TRAINED == recheck.tolerance(trained)


def test_another_network_of_self_supervision_is_told_apart(results):
    _, table = results
    trained = table.model_copy(update={"coordinates": table.coordinates | {"start": "random+normal"}})
    assert list(recheck.diff([shifted(trained, 1.1 * recheck.TRAINED)], [trained])["state"]) == ["apart"]


def test_another_row_or_word_is_no_small_difference(results):
    _, table = results
    shorter = table.model_copy(update={"rows": table.rows[:-1]})
    assert list(recheck.diff([shorter], [table])["state"]) == ["moved"]
    assert list(recheck.diff([table], [shorter])["state"]) == ["moved"]


def test_what_was_not_run_is_missing_and_what_was_not_recorded_is_new(results):
    record, table = results
    found = recheck.diff([record], [table]).set_index("result")["state"]
    assert found[RUN] == "new"
    assert found[TABLE] == "missing"
    with pytest.raises(StoreError, match="no fresh records"):
        recheck.diff([], [record])


def test_records_and_tables_are_read_from_one_folder(recorded, results):
    folders = [recorded / "smoke", recorded / "tables" / "smoke"]
    assert recheck.load(folders) == sorted(results, key=recheck.name)
    with pytest.raises(StoreError, match="no folder"):
        recheck.load([recorded / "nowhere"])
    (recorded / "smoke" / "broken.json").write_text('{"key": 1')
    with pytest.raises(StoreError, match=r"broken\.json is no whole record"):
        recheck.load(folders)
    shutil.rmtree(recorded)
