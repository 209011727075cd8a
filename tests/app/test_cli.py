"""The command line as a user meets it: words in, output and exit code out."""

import os
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest

from anomaly_transfer import benchmarks, studies
from anomaly_transfer.app import cli
from anomaly_transfer.studies import records


@pytest.fixture
def run(monkeypatch, capsys):
    """Call the entry point with these words, in this process (torch is imported once)."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["anomaly-transfer", *map(str, words)])
        code = 0
        try:
            cli.entry()
        except SystemExit as stop:
            code = stop.code or 0
        out, err = capsys.readouterr()
        return SimpleNamespace(returncode=code, stdout=out, stderr=err)

    return call


def test_help_does_not_wait_for_torch():
    code = "import sys, anomaly_transfer.app.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_doctor_finds_this_environment_well(run):
    result = run("doctor")
    assert result.returncode == 0, result.stdout
    assert "benchmark elpv: 2 of 2 categories at hand" in result.stdout
    assert "-    benchmark mnist: not at hand" in result.stdout
    assert "FIX" not in result.stdout


def test_doctor_names_the_fix_and_fails(run, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("ANOMALY_TRANSFER_STORE", str(tmp_path / "file"))
    result = run("doctor")
    assert result.returncode == 1
    assert "set ANOMALY_TRANSFER_STORE to a folder" in result.stdout


def test_benchmarks_are_listed_with_licence_and_how_to_get_them(run):
    result = run("benchmarks")
    assert re.search(r"here +elpv +ELPV solar cells; 2,624 images, 91 MB; images CC BY-NC-SA", result.stdout)
    assert re.search(r"- +mnist +MNIST", result.stdout)
    assert "`anomaly-transfer fetch mnist` downloads it" in result.stdout
    for name in benchmarks.names():
        assert f" {name} " in result.stdout


def test_benchmarks_do_not_wait_for_torch():
    code = (
        "import sys; from anomaly_transfer import benchmarks\n"
        "for name in benchmarks.names(): benchmarks.get(name).available()\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_fetch(run, monkeypatch, tmp_path):
    assert "ELPV solar cells: 2 of 2 categories at hand" in run("fetch", "elpv").stdout
    monkeypatch.setenv("ANOMALY_TRANSFER_OFFLINE", "1")
    result = run("fetch", "mnist")
    assert result.returncode == 1
    assert "put it at" in result.stderr
    assert "choose one of" in run("fetch", "imagenet").stderr


def test_record_without_a_benchmark_takes_those_that_have_the_category(run):
    result = run("record", "detection", "--variant", "neighbours@head", "--category", "mono", "--profile", "smoke")
    assert result.returncode == 0, result.stderr
    assert [line.split(":")[0] for line in result.stdout.splitlines()] == [
        "detection/neighbours@head__elpv__mono__grouped__0",
        "detection/neighbours@head__surfaces__mono__grouped__0",
    ]


def test_record_without_a_benchmark_takes_those_that_have_the_split(run):
    few = ("--variant", "neighbours@head", "--split", "matched", "--profile", "smoke", "--benchmark", "elpv")
    result = run("record", "detection", *few, "--category", "mono")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("detection/neighbours@head__elpv__mono__matched__0: AUROC 0.")
    nowhere = run("record", "detection", "--split", "sideways", "--profile", "smoke")
    assert nowhere.returncode == 1
    assert "No benchmark at hand has sideways" in nowhere.stderr


def test_record_without_a_benchmark_leaves_out_what_a_study_cannot_be_of(run):
    words = ("record", "localisation", "--category", "0", "--profile", "smoke")
    result = run(*words)
    assert result.returncode == 1
    assert "Left out: localisation/mahalanobis__mnist5k__0__0: mnist5k/0 has no masks" in result.stderr
    assert "Error: Nothing at hand is of use to the study 'localisation'." in result.stderr
    asked = run(*words, "--benchmark", "mnist5k")
    assert "Error: mnist5k/0 has no masks" in asked.stderr
    assert "Left out" not in asked.stderr
    assert "There is no variant 'luck'" in run(*words, "--variant", "luck").stderr


def test_studies_are_listed_with_their_variants(run):
    lines = run("studies").stdout.splitlines()
    assert [line.split()[0] for line in lines] == studies.names()
    for name, line in zip(studies.names(), lines, strict=True):
        study = studies.get(name)
        assert line.split(maxsplit=1)[1] == f"{study.axis}: {', '.join(study.variants)}"


def test_record_then_records_and_store(run, tmp_path):
    words = (
        "--variant",
        "neighbours@head",
        "--benchmark",
        "elpv",
        "--category",
        "mono",
        "--profile",
        "smoke",
        "--export",
        tmp_path / "out",
    )
    result = run("record", "detection", *words)
    assert result.returncode == 0, result.stderr
    assert re.match(r"detection/neighbours@head__elpv__mono__grouped__0: AUROC 0\.\d+ .*, \d+ s\n$", result.stdout)
    assert run("record", "detection", *words).stdout == result.stdout, "read from the store"
    assert run("records", "list", tmp_path / "out").stdout == result.stdout
    same = run("records", "diff", tmp_path / "out", tmp_path / "out")
    assert (same.returncode, same.stdout) == (0, "1 same; largest difference 0\n")
    assert run("records", "list", tmp_path / "out", "--study", "few_shot").stdout == ""
    assert "There is no study 'few'" in run("records", "list", tmp_path / "out", "--study", "few").stderr
    (kept,) = records.load(tmp_path / "out")
    rows = [[*row[:2], 0.1, 0.05, 0.2] if row[:2] == ["target", "auroc"] else row for row in kept.rows]
    records.export([kept.model_copy(update={"rows": rows})], tmp_path / "kept")
    (tmp_path / "none").mkdir()
    nothing = run("records", "diff", tmp_path / "out", tmp_path / "none")
    assert nothing.returncode == 1
    assert "nothing was compared" in nothing.stderr
    assert "nan" not in nothing.stdout
    drifted = run("records", "diff", tmp_path / "out", tmp_path / "kept")
    assert drifted.returncode == 1
    assert "moved    detection/neighbours@head__elpv__mono__grouped__0: target auroc" in drifted.stdout
    assert "records: 1 entries" in run("store", "size").stdout
    assert "MB freed" in run("store", "prune").stdout
    assert "records: 0 entries" in run("store", "size").stdout


def test_every_study_is_recorded_and_exported_alike(run, tmp_path):
    words = ["record", "normal_similarity", "--benchmark", "surfaces", "--category", "brick", "--profile", "smoke"]
    result = run(*words, "--variant", "random", "--export", str(tmp_path / "out"))
    assert result.returncode == 0, result.stderr
    (found,) = records.load(tmp_path / "out")
    assert re.match(rf"normal_similarity/random__surfaces__brick__0: {len(found.rows)} rows, \d+ s\n$", result.stdout)
    assert [path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.json")] == [
        "normal_similarity/random__surfaces__brick__0.json"
    ]


def test_evaluate_fit_and_score(run, mvtec_folder, tmp_path):
    size = ("--image-size", "64")
    result = run("evaluate", mvtec_folder, "--out", tmp_path / "report", *size)
    assert result.returncode == 0, result.stderr
    assert "hole: AUROC" in result.stdout
    assert (tmp_path / "report" / "report.html").is_file()
    result = run("fit", mvtec_folder, "--out", tmp_path / "model", "--method", "gaussian", *size)
    assert result.returncode == 0, result.stderr
    result = run("score", tmp_path / "model", mvtec_folder / "test" / "hole", "--out", tmp_path / "scores.csv")
    assert result.returncode == 0, result.stderr
    assert "6 images" in result.stdout


def test_score_draws_heat_maps_of_new_images(run, mvtec_folder, tmp_path):
    new, size = mvtec_folder / "test" / "hole", ("--image-size", "64")
    for method in ("patch-memory", "gaussian"):
        assert run("fit", mvtec_folder, "--out", tmp_path / method, "--method", method, *size).returncode == 0
    words = ("--out", tmp_path / "scores.csv", "--heat-maps", tmp_path / "maps")
    result = run("score", tmp_path / "gaussian", new, *words)
    assert result.returncode == 1
    assert "gaussian gives one score an image and no heat map" in result.stderr
    assert not (tmp_path / "scores.csv").exists()
    assert not (tmp_path / "maps").exists()
    result = run("score", tmp_path / "patch-memory", new, *words)
    assert result.returncode == 0, result.stderr
    assert f"Heat maps: {tmp_path / 'maps'}" in result.stdout
    assert sorted(path.name for path in (tmp_path / "maps").glob("*.png")) == [f"{n:03}.png.png" for n in range(6)]
    result = run("score", tmp_path / "patch-memory", new / "000.png", *words, "--force")
    assert result.returncode == 0, result.stderr
    assert [path.name for path in (tmp_path / "maps").glob("*.png")] == ["000.png.png"]


def test_check_tells_facts_then_warnings_and_whether_a_folder_can_be_used(run, mvtec_folder, tmp_path):
    result = run("check", mvtec_folder)
    assert result.returncode == 0
    assert "masks:    6 of 6 used" in result.stdout
    assert result.stderr == ""
    folder = shutil.copytree(mvtec_folder, tmp_path / "own")
    (folder / "train" / "bad").mkdir()
    shutil.copy(folder / "test" / "hole" / "000.png", folder / "train" / "bad")
    shutil.copy(folder / "train" / "good" / "000.png", folder / "test" / "good" / "copy.png")
    (folder / "test" / "good").rename(folder / "test" / "OK")
    result = run("check", folder)
    assert result.returncode == 0
    for told in ("Skipped: The folder", "Note: test/OK is read as normal", "Warning: 1 test image(s) are copies"):
        assert told in result.stderr
    for path in sorted((folder / "train" / "good").iterdir())[1:]:
        path.unlink()
    result = run("check", folder)
    assert result.returncode == 1
    assert "train:    1 normal" in result.stdout
    assert "Error: " in result.stderr
    assert "fewer than 2" in result.stderr


def test_check_does_not_wait_for_torch(mvtec_folder):
    code = (
        "import sys; from anomaly_transfer.app import folder_check\n"
        "from anomaly_transfer.benchmarks.folder import survey\n"
        f"folder_check.check(survey({str(mvtec_folder)!r})); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_warnings_are_told_by_evaluate_and_fit(run, mvtec_folder, tmp_path):
    folder = shutil.copytree(mvtec_folder, tmp_path / "own")
    for path in sorted((folder / "train" / "good").iterdir())[:3]:
        shutil.copy(path, folder / "train" / "good" / f"copy of {path.name}")
    words = ("--method", "gaussian", "--image-size", "64", "--out")
    for command in ("evaluate", "fit"):
        result = run(command, folder, *words, tmp_path / command)
        assert result.returncode == 0, result.stderr
        assert "Warning: 3 training image(s) are copies of others" in result.stderr


def test_nothing_of_somebody_else_is_written_over(run, mvtec_folder, tmp_path):
    fast = ("--image-size", "64", "--method", "gaussian")
    fit, score = (
        ("fit", mvtec_folder, "--out", tmp_path / "model", *fast),
        ("score", tmp_path / "model", mvtec_folder / "test" / "hole"),
    )
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").write_text("mine")
    refused = run(*fit)
    assert refused.returncode == 1
    assert "did not write, or was changed since (model.json)" in refused.stderr
    assert (tmp_path / "model" / "model.json").read_text() == "mine"
    assert run(*fit, "--force").returncode == 0
    assert (tmp_path / "model" / "model.json~").read_text() == "mine"
    (tmp_path / "model" / "model.json~").unlink()
    again = run(*fit)
    assert again.returncode == 0, again.stderr
    assert "14 images promise" in again.stdout
    out = tmp_path / "thesis.csv"
    out.write_text("mine")
    refused = run(*score, "--out", out)
    assert refused.returncode == 1
    assert "is there already" in refused.stderr
    assert out.read_text() == "mine"
    assert run(*score, "--out", out, "--force").returncode == 0
    assert out.read_text().startswith("image,score,anomalous")
    full = run(*score, "--out", "/dev/full")
    assert full.returncode == 1
    assert "/dev/full cannot be written" in full.stderr


def test_names_that_are_no_text_can_be_printed(tmp_path):
    """In a process of its own: here the streams are not those of a terminal."""
    pytest.importorskip("skimage")
    command = [sys.executable, "-m", "anomaly_transfer.app.cli", "example", os.fsencode(tmp_path) + b"/caf\xe9"]
    result = subprocess.run(command, capture_output=True, check=False, env=os.environ | {"PYTHONIOENCODING": "utf-8"})
    assert result.returncode == 0, result.stderr
    assert rb"caf\udce9" in result.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("check", "/nowhere"), "There is no folder /nowhere"),
        (("evaluate", "/nowhere"), "There is no folder /nowhere"),
        (("evaluate", "/nowhere", "--out", __file__), "is a file: choose another --out"),
        (("record", "detection", "--category", "monno", "--profile", "smoke"), "No benchmark at hand has monno"),
        (("records", "list", "/nowhere"), "There is no folder of records /nowhere"),
        (("record", "detection", "--variant", "magic"), "There is no variant 'magic'"),
        (("record", "detection", "--profile", "desktop"), "There is no profile 'desktop'"),
        (("record", "cluster", "--benchmark", "elpv"), "There is no study 'cluster'"),
        (
            ("record", "few_shot", "--benchmark", "elpv", "--split", "random", "--profile", "smoke"),
            "The study 'few_shot' has a division of its own, and no split 'random'",
        ),
        (("score", "/nowhere", "/nowhere"), "does not hold a model"),
    ],
)
def test_an_expected_error_is_one_line(run, words, message):
    result = run(*words)
    assert result.returncode == 1
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
