import pytest

from anomaly_transfer import detectors
from anomaly_transfer.code_used import Code
from anomaly_transfer.errors import StoreError
from anomaly_transfer.store import Store
from anomaly_transfer.studies import detection, few_shot, plan, recheck, records
from anomaly_transfer.studies.plan import Entry


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Two records of the smallest profile: of a detector by a split, and of a study with a division of its own."""
    store = Store(tmp_path_factory.mktemp("store"))
    split = detection.run("surfaces", "brick", "neighbours@head", 0, "smoke", store, "grouped")
    return split, few_shot.run("surfaces", "brick", "imagenet", 0, "smoke", store)


@pytest.fixture
def recorded(results, tmp_path, monkeypatch):
    """The two as the recorded results, and as the whole plan."""
    monkeypatch.setattr(recheck, "results_folder", lambda: tmp_path / "results")
    records.export(results, tmp_path / "results" / "smoke")
    entries = [
        Entry(study="detection", variants=("neighbours@head",), data=("surfaces/brick",)),
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


BY_SPLIT = "detection/neighbours@head__surfaces__brick__grouped__0"
SHOTS = "few_shot/imagenet__surfaces__brick__0"


def test_what_was_just_recorded_is_current(recorded):
    assert states(recheck.status("smoke"))[0] == {BY_SPLIT: "current", SHOTS: "current"}


def test_moved_code_and_libraries_are_named(recorded, monkeypatch):
    now = Code({"anomaly_transfer.studies.few_shot": "other"}, {"torch": "99.0"})
    monkeypatch.setattr(recheck, "_code", lambda study, variant: now)
    state, why = states(recheck.status("smoke"))
    assert set(state.values()) == {"stale"}
    assert "code of anomaly_transfer.studies.few_shot" in why[SHOTS]
    assert ", now 99.0" in why[BY_SPLIT]


def test_moved_sizes_weights_and_data_are_named(recorded, monkeypatch):
    from anomaly_transfer import benchmarks, profiles

    other = profiles.get("smoke").model_copy(update={"draws": 3, "memory_bank": 99})
    with monkeypatch.context() as patch:
        patch.setattr(profiles, "get", lambda name=None: other)
        _, why = states(recheck.status("smoke"))
        assert why[SHOTS] == "draws 2, now 3"
        assert why[BY_SPLIT] == "memory_bank 200, now 99"
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
    assert state == {BY_SPLIT: "orphaned", SHOTS: "current", "few_shot/random__surfaces__brick__0": "missing"}


def test_data_that_are_not_at_hand_leave_a_result_unchecked(recorded, monkeypatch):
    from anomaly_transfer.errors import DataError

    def gone(*_):
        raise DataError("not at hand")

    monkeypatch.setattr(recheck, "_moved_with_data", gone)
    assert set(states(recheck.status("smoke"))[0].values()) == {"unchecked"}


def shifted(record, by, row=0):
    rows = [list(values) for values in record.rows]
    rows[row][record.columns.index("value")] += by
    return record.model_copy(update={"rows": rows})


def of(record, **changes):
    """The same rows, as of another experiment."""
    return record.model_copy(update={"experiment": record.experiment.model_copy(update=changes)})


def test_a_rerun_agrees_to_the_tolerance_and_no_farther(results):
    by_split, shots = results
    for by, state in ((0.0, "same"), (0.9 * recheck.FROZEN, "same"), (1.1 * recheck.FROZEN, "moved"), (0.03, "moved")):
        found = recheck.diff([by_split, shifted(shots, by)], [by_split, shots]).set_index("result")
        assert found.loc[BY_SPLIT, "state"] == "same"
        assert found.loc[SHOTS, "state"] == state
        assert found.loc[SHOTS, "difference"] == pytest.approx(by, abs=1e-9)
    first = [value for value in shots.rows[0] if isinstance(value, str)]
    assert found.loc[SHOTS, "where"] == " ".join([*first, "value (row 0)"])


def test_networks_that_are_trained_may_differ_more(results):
    _, shots = results
    trained = of(shots, study="finetuning", variant="mahalanobis")
    assert list(recheck.diff([shifted(trained, 0.9 * recheck.TRAINED)], [trained])["state"]) == ["same"]
    assert list(recheck.diff([shifted(trained, 1.1 * recheck.TRAINED)], [trained])["state"]) == ["moved"]
    assert recheck.tolerance(shots) == recheck.FROZEN < recheck.TRAINED == recheck.tolerance(trained)


def test_another_network_of_self_supervision_is_told_apart(results):
    _, shots = results
    for trained in (of(shots, variant="random+normal"), of(shots, study="paired_networks")):
        assert list(recheck.diff([shifted(trained, 0.9 * recheck.TRAINED)], [trained])["state"]) == ["same"]
        assert list(recheck.diff([shifted(trained, 1.1 * recheck.TRAINED)], [trained])["state"]) == ["apart"]


def test_another_row_or_word_is_no_small_difference(results):
    _, shots = results
    shorter = shots.model_copy(update={"rows": shots.rows[:-1]})
    assert list(recheck.diff([shorter], [shots])["state"]) == ["moved"]
    assert list(recheck.diff([shots], [shorter])["state"]) == ["moved"]
    rows = [["other" if value == shots.rows[0][0] else value for value in row] for row in shots.rows]
    assert rows != shots.rows
    assert list(recheck.diff([shots.model_copy(update={"rows": rows})], [shots])["state"]) == ["moved"]


def test_a_value_is_found_by_the_words_of_its_row(results):
    by_split, _ = results
    found = recheck.values(by_split)
    assert len(found) == len(by_split.rows) * len(by_split.columns)
    for number, row in enumerate(by_split.rows):
        group, metric, value = row[:3]
        assert found[f"{group} {metric} value (row {number})"] == value


def test_times_and_memory_are_not_compared(results):
    _, shots = results
    columns = [*shots.columns, "own fit"]
    for study, compared in (("few_shot", 1), ("anomalib_comparison", 0)):
        taken = of(shots, study=study).model_copy(update={"columns": columns, "rows": [[*r, 7.5] for r in shots.rows]})
        assert list(recheck.values(taken).values()).count(7.5) == compared * len(shots.rows)


def test_what_was_not_run_is_missing_and_what_was_not_recorded_is_new(results):
    by_split, shots = results
    found = recheck.diff([by_split], [shots]).set_index("result")["state"]
    assert found[BY_SPLIT] == "new"
    assert found[SHOTS] == "missing"
    with pytest.raises(StoreError, match="no fresh records"):
        recheck.diff([], [by_split])


def test_records_of_all_studies_are_read_from_one_folder(recorded, results):
    assert records.load(recorded / "smoke") == list(results)
    with pytest.raises(StoreError, match="no folder"):
        records.load(recorded / "nowhere")
    (recorded / "smoke" / "few_shot" / "broken.json").write_text('{"key": 1')
    for read in (lambda: records.load(recorded / "smoke"), lambda: recheck.status("smoke")):
        with pytest.raises(StoreError, match=r"broken\.json is no whole record"):
            read()


def test_code_of_a_package_that_is_not_installed_is_told(recorded, monkeypatch):
    def absent(name):
        raise ValueError(f"no method {name}")

    monkeypatch.setattr(detectors, "place", absent)
    state, why = states(recheck.status("smoke"))
    assert state == {BY_SPLIT: "stale", SHOTS: "current"}
    assert why[BY_SPLIT] == "code of a package that is not installed"
