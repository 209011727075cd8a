"""The command line: ``anomaly-transfer --help``.

Imports stand inside the commands, since torch takes seconds: help and the light commands answer at once.
"""

from __future__ import annotations

import itertools
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import anomaly_transfer as at
from anomaly_transfer import profiles
from anomaly_transfer.app import DEFAULT_BACKBONE, DEFAULT_METHOD
from anomaly_transfer.errors import AnomalyTransferError, DataError

if TYPE_CHECKING:
    from anomaly_transfer.studies.records import Record

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)
store_app = typer.Typer(no_args_is_help=True, help="Look at, or clear, what has been computed and kept.")
app.add_typer(store_app, name="store")
records_app = typer.Typer(no_args_is_help=True, help="Look at recorded runs, or compare fresh ones with them.")
app.add_typer(records_app, name="records")

Method = Annotated[str, typer.Option(help="Detector, optionally with levels: gaussian@stage6.")]
Network = Annotated[str, typer.Option(help="efficientnet_lite0/1/2 or any timm model whose weights can be had.")]
ImageSize = Annotated[int | None, typer.Option(min=32, help="Network input, pixels; default: the backbone's own.")]
Seed = Annotated[int, typer.Option(min=0)]
Force = Annotated[
    bool,
    typer.Option("--force", help="Write into a folder that holds other things; they stay, those in the way as NAME~."),
]


def _use(name: str | None) -> str | None:
    if name is not None:
        from anomaly_transfer.device import use

        use(name)
    return name


Device = Annotated[str | None, typer.Option(callback=_use, help="cpu or cuda; default: cuda where there is one.")]


@app.callback()
def main() -> None:
    """Visual anomaly detection by transfer learning: the tool behind the book What Normal Knows."""


@app.command()
def doctor() -> None:
    """Check environment, device, data and weights: OK, or the fix."""
    from anomaly_transfer.app.doctor import checks

    failed = False
    for check in checks():
        mark = "OK  " if check.fix is None else ("FIX " if check.needed else "-   ")
        typer.echo(f"{mark} {check.name}: {check.found}" + (f"\n       {check.fix}" if check.fix else ""))
        failed |= check.fix is not None and check.needed
    if failed:
        raise typer.Exit(1)


@app.command("benchmarks")
def list_benchmarks() -> None:
    """List the benchmarks, and how to get those that are not here."""
    from anomaly_transfer import benchmarks
    from anomaly_transfer.settings import data_folder

    typer.echo(f"Data folder: {data_folder()} (ANOMALY_TRANSFER_DATA names another)")
    for name in benchmarks.names():
        known = benchmarks.get(name)
        here, everything = known.available(), known.categories
        mark = "here   " if here and here == everything else f"{len(here)} of {len(everything)}" if here else "-      "
        typer.echo(f"{mark:8} {name:16} {known.title}; {known.size}; {known.licence}")
        if here != everything or not here:
            typer.echo(f"{'':26}{known.obtained}")


@app.command()
def fetch(name: Annotated[str, typer.Argument(help="A name that `anomaly-transfer benchmarks` lists.")]) -> None:
    """Get a benchmark into the data folder: downloaded once, checked, and unpacked whole or not at all."""
    from anomaly_transfer import benchmarks

    known = benchmarks.get(name)
    known.fetch()
    here = known.available()
    typer.echo(f"{known.title}: {len(here)} of {len(known.categories)} categories at hand ({known.folder})")


@app.command()
def record(
    study: Annotated[str, typer.Argument(help="One of those that `anomaly-transfer studies` lists.")],
    variant: Annotated[list[str] | None, typer.Option(help="Repeatable; default: the study's own.")] = None,
    benchmark: Annotated[list[str] | None, typer.Option(help="Repeatable; default: all that are here.")] = None,
    category: Annotated[list[str] | None, typer.Option(help="Repeatable; default: all that are here.")] = None,
    split: Annotated[
        list[str] | None, typer.Option(help="Of a study by splits. Repeatable; default: the recommended one.")
    ] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Repeatable; default: 0.")] = None,
    profile: Annotated[str | None, typer.Option(help=f"One of {', '.join(profiles.names())}.")] = None,
    export: Annotated[Path | None, typer.Option(help="Also copy the records to this folder (results/PROFILE).")] = None,
    device: Device = None,
) -> None:
    """Run the experiments of a study that have no up-to-date record."""
    from anomaly_transfer import benchmarks, studies
    from anomaly_transfer.store import Store
    from anomaly_transfer.studies import base, records

    asked, chosen, store = studies.get(study), profiles.get(profile).name, Store()
    for which in variant or []:
        asked.check(which)
    todo: list[tuple[str, str, str, int, str]] = []
    for name in benchmark or [name for name in benchmarks.names() if benchmarks.get(name).available()]:
        known = benchmarks.get(name)
        # Nothing at hand: let the experiment itself say how to get it.
        categories = category or known.available() or known.categories
        # Without a benchmark asked for by name, those that lack the category or split are not meant.
        if not benchmark:
            categories = [each for each in categories if each in known.categories]
            if not set(split or ()) <= set(known.splits):
                continue
        todo += itertools.product([name], categories, variant or [asked.default], seed or [0], split or [""])
    if not todo:
        given = ", ".join([*(category or []), *(split or [])])
        raise ValueError(f"No benchmark at hand has {given}: `anomaly-transfer benchmarks` lists what is here.")
    done = 0
    for name, each, which, number, part in todo:
        experiment = asked.experiment(name, each, which, number, chosen, part)
        try:
            request = asked.asked(experiment, store)
        except (AnomalyTransferError, ValueError) as error:
            if benchmark:
                raise
            # Nobody asked for this benchmark by name: the study cannot be of it, e.g. since it gives no pictures.
            typer.echo(f"Left out: {experiment.name}: {error}", err=True)
            continue
        found = base.record_of(request, store)
        typer.echo(_told(found))
        done += 1
        if export:
            records.export([found], export)
    if not done:
        raise ValueError(f"Nothing at hand is of use to the study {study!r}.")


@app.command("studies")
def list_studies() -> None:
    """List the studies with what a variant of each is, and all variants."""
    from anomaly_transfer import studies

    for name in studies.names():
        asked = studies.get(name)
        typer.echo(f"{name:20} {asked.axis}: {', '.join(asked.variants)}")


@records_app.command("list")
def list_records(
    folder: Annotated[Path, typer.Argument(help="The folder of a profile, e.g. results/study.")],
    study: Annotated[str, typer.Option(help="Only this one; default: all.")] = "*",
) -> None:
    """Print the records in a folder, one a line."""
    from anomaly_transfer import studies
    from anomaly_transfer.studies import records

    if study != "*":
        studies.get(study)  # Says which there are.
    for found in records.load(folder, study):
        typer.echo(_told(found))


@records_app.command("status")
def records_status(
    profile: Annotated[str, typer.Option(help=f"One of {', '.join(profiles.names())}.")] = "study",
    each: Annotated[bool, typer.Option(help="A line for each result that is not current.")] = False,
) -> None:
    """Say which recorded results the code at hand would compute again, and why."""
    from anomaly_transfer.studies import recheck

    found = recheck.status(profiles.get(profile).name)
    if each:
        for row in found[found["state"] != recheck.CURRENT].itertuples():
            typer.echo(f"{row.state:10} {row.result}" + (f": {row.why}" if row.why else ""))
    else:
        for (state, why), count in found[found["why"] != ""].groupby(["state", "why"]).size().items():
            typer.echo(f"{count:5} {state}: {why}")
    counts = found["state"].value_counts()
    typer.echo(f"Recorded results ({profile}): " + ", ".join(f"{count} {state}" for state, count in counts.items()))


@records_app.command("diff")
def diff_records(
    fresh: Annotated[Path, typer.Argument(help="A folder that `record` wrote by --export.")],
    kept: Annotated[Path | None, typer.Argument(help="Default: all that is recorded of the study profile.")] = None,
) -> None:
    """Compare results that were computed again with the recorded ones; fails where one does not agree."""
    from anomaly_transfer.settings import results_folder
    from anomaly_transfer.studies import recheck, records

    found = recheck.diff(records.load(fresh), records.load(kept or results_folder() / "study"))
    for row in found[found["state"].isin(["moved", "apart", "new"])].itertuples():
        told = "" if row.state == "new" else f": {row.where} was {row.kept}, now {row.fresh}"
        typer.echo(f"{row.state:8} {row.result}{told}")
    both = found[found["state"].isin(["same", "moved", "apart"])]
    largest = "" if both.empty else f"; largest difference {both['difference'].max():.2g}"
    typer.echo(", ".join(f"{count} {state}" for state, count in found["state"].value_counts().items()) + largest)
    if both.empty:
        raise ValueError("No experiment is in both folders: nothing was compared.")
    if "moved" in set(both["state"]):
        raise typer.Exit(1)


@app.command("claims")
def check_claims(
    ids: Annotated[list[str] | None, typer.Argument(help="Ids in book/claims.yml; default: all.")] = None,
    write: Annotated[bool, typer.Option(help="Keep all verdicts in results/verdicts.json.")] = False,
) -> None:
    """Recompute the verdicts from the recorded runs; fails if one is not the kept one."""
    from anomaly_transfer.claims import ledger

    known = ledger.claims()
    unknown = sorted(set(ids or []) - {claim.id for claim in known})
    if unknown:
        raise ValueError(f"There is no claim {', '.join(unknown)}; choose from {', '.join(c.id for c in known)}.")
    if write and ids:
        raise ValueError("Verdicts are kept all together: leave out the ids, or --write.")
    kept = {} if write else ledger.recorded()
    findings, changes = [], 0
    for claim in known:
        if ids and claim.id not in ids:
            continue
        finding = ledger.evaluate(claim)
        findings.append(finding)
        told = ledger.formatted(claim, finding)
        typer.echo(f"{claim.id:24} {finding.verdict:16} {told:28} {f'must be {claim.condition}' if told else ''}")
        changed = [] if write else ledger.changes_since(finding, kept.get(claim.id))
        changes += len(changed)
        for line in changed:
            typer.echo(f"{'':24} CHANGED: {line} (chapter {claim.chapter})")
    if write:
        typer.echo(f"Kept: {ledger.write(findings)}")
    elif changes:
        typer.echo("`make verdicts` keeps them; read the chapters named, and *The verdicts*, again.", err=True)
        raise typer.Exit(1)


@app.command()
def example(
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    seed: Seed = 0,
) -> None:
    """Write a folder to try `evaluate`, `fit` and `score` on: pictures of a wall, some with a defect."""
    from anomaly_transfer.app.example import write

    typer.echo(f"Example: {write(folder, seed)} (anomaly-transfer evaluate {folder})")


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(help="train/good, test/CLASS, ...; or normal images only, as for `fit`.")],
) -> None:
    """Look through your folder before any work: what is in it, what is not used, what would mislead a detector."""
    from anomaly_transfer.app import folder_check
    from anomaly_transfer.benchmarks.folder import survey_training

    found = survey_training(folder)
    checked = folder_check.check(found)
    for name, fact in checked.facts.items():
        typer.echo(f"{name + ':':9} {fact}")
    _report_skipped(found.skipped)
    _report_warnings(found.notes, checked.warnings)
    if found.problem:
        raise DataError(found.problem)


@app.command()
def evaluate(
    folder: Annotated[Path, typer.Argument(help="train/good, test/CLASS, optionally ground_truth/CLASS/*_mask.png")],
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("report"),
    method: Method = DEFAULT_METHOD,
    backbone: Network = DEFAULT_BACKBONE,
    image_size: ImageSize = None,
    seed: Seed = 0,
    force: Force = False,
    device: Device = None,
) -> None:
    """Fit on your own normal images, score the others, and write a report."""
    from anomaly_transfer.app.inspection import format_interval

    report = at.evaluate(folder, out, method, backbone, image_size, seed, force=force)
    for name, metrics in report["metrics"].items():
        if "auroc" in metrics:
            typer.echo(f"{name}: AUROC {format_interval(metrics['auroc'])}")
    if not report["metrics"]:
        typer.echo("No AUROC: the test images are not of both kinds, test/good and defects.", err=True)
    for name, value in report["localisation"].items():
        typer.echo(f"{name}: {format_interval(value)}")
    typer.echo(f"Threshold: {report['promise']}")
    _report_skipped(report["skipped"])
    _report_warnings(report["notes"], report["warnings"])
    typer.echo(f"Masks: {report['data']['masks']}")
    typer.echo(f"Report: {out / 'report.html'}")


@app.command()
def fit(
    folder: Annotated[Path, typer.Argument(help="Normal images, or a folder with train/good.")],
    out: Annotated[Path, typer.Option(help="Folder for the model.")] = Path("model"),
    method: Method = DEFAULT_METHOD,
    backbone: Network = DEFAULT_BACKBONE,
    image_size: ImageSize = None,
    seed: Seed = 0,
    force: Force = False,
    device: Device = None,
) -> None:
    """Fit on normal images and keep the model (safetensors and JSON)."""
    from anomaly_transfer import atomic
    from anomaly_transfer.app import folder_check
    from anomaly_transfer.app.inspection import fit_folder

    with atomic.replacing(out, force) as made:
        model, found = fit_folder(folder, method, backbone, image_size, seed)
        model.write(made)
    _report_skipped(found.skipped)
    _report_warnings(found.notes, folder_check.check(found).warnings)
    fitted = model.description
    typer.echo(f"Model: {out} ({fitted.n_training_images} images)")
    typer.echo(f"Threshold: {'none' if fitted.threshold is None else f'{fitted.threshold:.4g}'}, {fitted.promise}")


@app.command()
def score(
    model: Annotated[Path, typer.Argument(help="A folder that `fit` wrote.")],
    images: Annotated[Path, typer.Argument(help="An image, or a folder of images at any depth.")],
    out: Annotated[Path, typer.Option(help="Table of scores: a new file.")] = Path("scores.csv"),
    heat_maps: Annotated[Path | None, typer.Option(help="Folder for one picture an image, its heat map on it.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the file if it is there; write into a folder as `fit` does.")
    ] = False,
    device: Device = None,
) -> None:
    """Score new images with a kept model."""
    from anomaly_transfer import atomic
    from anomaly_transfer.app.inspection import score_images

    with (
        atomic.writing(out, force) as made,
        atomic.replacing(heat_maps, force) if heat_maps else nullcontext() as pictures,
    ):
        table, skipped = score_images(at.load(model), images, heat_maps=pictures)
        table.to_csv(made, index=False)
    _report_skipped(skipped)
    flagged = f", {int(table['anomalous'].sum())} above the threshold" if "anomalous" in table else ""
    typer.echo(f"Scores: {out} ({len(table)} images{flagged})")
    if heat_maps:
        typer.echo(f"Heat maps: {heat_maps}")


@store_app.command("size")
def store_size() -> None:
    """Entries and megabytes, by kind."""
    from anomaly_transfer.store import Store

    store = Store()
    typer.echo(str(store.root))
    for kind, row in store.sizes().iterrows():
        typer.echo(f"{kind}: {row['entries']} entries, {row['bytes'] / 1e6:.1f} MB")


@store_app.command("prune")
def store_prune(
    unused_days: Annotated[float, typer.Option(min=0, help="Keep what was read within so many days.")] = 0.0,
    features_only: Annotated[bool, typer.Option(help="Keep all the rest.")] = False,
) -> None:
    """Remove what can be computed again."""
    from anomaly_transfer.store import KINDS, Store

    freed = Store().prune(unused_days, ("features",) if features_only else KINDS)
    typer.echo(f"{freed / 1e6:.1f} MB freed")


def _told(found: Record) -> str:
    """A record in one line, with its headline where it has one."""
    from anomaly_transfer.studies import detection

    e = found.experiment
    what = f"{len(found.rows)} rows"
    if e.study == detection.STUDY.name:
        what = f"AUROC {detection.interval(found)}"
    return f"{e.name}: {what}, {sum(found.provenance.seconds.values()):.0f} s"


def _report_skipped(skipped: dict[str, str]) -> None:
    for why in skipped.values():
        typer.echo(f"Skipped: {why}", err=True)


def _report_warnings(notes: list[str], warnings: list[str]) -> None:
    for note in notes:
        typer.echo(f"Note: {note}", err=True)
    for warning in warnings:
        typer.echo(f"Warning: {warning}", err=True)


def entry() -> None:
    """Run the command line; an expected error is one line, not a traceback."""
    # A file's name need not be text.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        app()
    except (AnomalyTransferError, ValueError, OSError, MemoryError) as error:
        told = str(error) or "memory does not suffice: lower the image size"
        typer.echo(f"Error: {told}", err=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    entry()
