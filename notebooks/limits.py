# %% [markdown]
# # Limits
#
# **Question.** What did this book *not* run, what would it take to run it, and how would you do it?
#
# ```{admonition} Before you start
# :class: note
# *Prerequisites:* none. *You will be able to* say what the numbers of this book do not cover, to run any part of them again on a laptop, on
# Colab or on a cluster, and to forecast what a plan of experiments will cost before you start it.
# ```

# %% tags=["remove-cell"]
# Installs the book's package where it is missing, as on Colab.
import importlib.util

if importlib.util.find_spec("anomaly_transfer") is None:
    get_ipython().run_line_magic(
        "pip",
        "install -q 'anomaly-transfer[embedded,fast] @ git+https://github.com/OWNER/what-normal-knows'",
    )

# %% tags=["parameters", "hide-cell"]
profile = "laptop"  # smoke, laptop, study or full: see the preface

# %% tags=["hide-input"]
import pandas as pd
from IPython.display import Markdown

from anomaly_transfer import profiles
from anomaly_transfer.claims import ledger
from anomaly_transfer.pages import executions, plots
from anomaly_transfer.studies import forecast, plan

plots.use_style()

# %% tags=["remove-cell", "nbval-ignore-output"]
# What this chapter takes, before it takes it (the site says it in the box above).
executions.announce("limits", profile)

# %% [markdown]
# ## What was not tested
#
# Some claims of the papers speak of data that we may not redistribute and that do not come as a package, or of protocols that their abstracts do not give.
# They are on the board as *not tested here*, and this is why:

# %% tags=["remove-input"]
findings = ledger.recorded()
Markdown(
    "\n".join(
        f"- **[{claim.id}](../book/claims/{claim.id}.md)**, {claim.title}. {claim.limits}"
        for claim in ledger.claims()
        if findings[claim.id].verdict == "not tested here"
    )
)

# %% [markdown]
# And what holds for all of it:
#
# - **We have read abstracts.** Of the three papers, the full texts were not at hand. Where a protocol is not in the abstract, it is *ours*, and a number of ours that
#   differs from one of theirs refutes nothing.
# - **One small network.** But for ready-made features of MVTec AD, the recorded runs use EfficientNet-Lite0 at 224 pixels and less, since its weights come as a package. The second paper uses
#   EfficientNet-B4.
# - **Few groups.** Solar cells come from few modules; whether an interval over their cells speaks of the next module is another question
#   ([](data.ipynb)).
# - **Drawn defects.** On bricks, grass and gravel the defects are synthetic. They keep a chapter running everywhere, and stand for no factory.
# - **Our own choices were made on some of the same data.** Each chapter says which; the combined detector is the plainest case ([](side_by_side.ipynb)).
#
# ## What was not recorded
#
# `results/plan.yml` lists every recorded run of the book: each entry stands for all combinations of some variants, data sets and seeds, and each combination is a
# *job* that runs on its own.

# %%
jobs = plan.experiments("study", everywhere=True)
recorded = forecast.coverage("study")
print(jobs[0].name)
print("anomaly-transfer", *plan.words(jobs[0]))

# %% tags=["hide-input"] mystnb={"image": {"alt": "Share of the planned jobs that are recorded, by study and benchmark, as a shaded table with many gaps"}, "figure": {"name": "fig-coverage", "caption": "Share of the planned jobs that are recorded at the profile study; blank: none are planned. (Data: the recorded runs.)"}}
figure = plots.heat_table(
    recorded.rename_axis(None), label="share recorded", low=0.0, high=1.0
)

# %% tags=["remove-input"]
empty = recorded.columns[(recorded.fillna(0) == 0).all()]
whole = recorded.stack().dropna()
Markdown(
    f"{len(jobs):,} jobs are planned. Of {len(whole)} cells with jobs, {int((whole == 1).sum())} are whole and {int((whole == 0).sum())} empty."
    + (f" Nothing is recorded of {', '.join(empty)}." if len(empty) else "")
    + f" Of MVTec AD, {recorded['mvtec_ad'].mean():.0%}: one of its fifteen categories was at hand. Such a set asks for consent, or comes in a format that cannot "
    "be unpacked everywhere; it is run by whoever has it."
)

# %% [markdown]
# ## What it would take
#
# Two things are measured here and now: what it takes to pass one image through the network, and through it and back, at the sizes of two profiles. The time of each
# recorded run is known. A job that trains a network and took $t$ at the profile `study` is forecast to take
#
# $$
# t_\text{full} \approx t \cdot \frac{w_\text{full}}{w_\text{study}} , \qquad w = e \, k \, (n \, u + m \, v) ,
# $$ (eq-forecast)
#
# with $u$ for the cost of training on one image, $v$ for that of looking at one, $n$ images to train on and $m$ to estimate, validate and test with in each of $e$ epochs
# and $k$ folds. A search in a memory of patches grows with the memory and with the number of values of an image. Every other job grows with the cost of a forward pass alone,
# though part of what it does passes no network. Larger samples for a measure are not counted. Where nothing of a variant is recorded, the median of its study counts. Within
# `study` the forecast was held against what was recorded, from one variant to another on the same data: a test wants the median to be off by less than a factor of two. It
# has not been checked against any run at `full`.

# %% tags=["nbval-ignore-output"]
units = {name: forecast.units(profiles.get(name)) for name in ("study", "full")}
expected = forecast.forecast("full", units)

# %% tags=["hide-input", "nbval-ignore-output"]
table = expected.assign(own=expected["own"].map("{:.0%}".format)).rename(
    columns={
        "own": "time known",
        "hours recorded": "hours at study",
        "hours": "hours at full",
        "gigabytes": "kept (GB)",
    }
)
table.round(1)

# %% tags=["remove-input", "nbval-ignore-output"]
total = expected.sum()
pair = [units["study"], units["full"]]
Markdown(
    f"On this device ({pair[0].device}) an image of the study takes {pair[0].forward['image_size'] * 1000:.0f} ms, one of the full profile "
    f"{pair[1].forward['image_size'] * 1000:.0f} ms; to train, {pair[0].training['tuned_image_size'] * 1000:.0f} and {pair[1].training['tuned_image_size'] * 1000:.0f} ms. "
    "*Time known* is the share of the planned jobs of which a run of the same variant and category was recorded, with whatever seed; the "
    "hours are a forecast for all planned jobs. "
    f"All {int(total['jobs']):,} jobs would take {total['hours recorded']:,.0f} hours of one processor at `study` and {total['hours']:,.0f} at `full`, of which "
    f"{expected['hours'].idxmax()} takes {expected['hours'].max() / total['hours']:.0%}. The features of all pictures take {forecast.features_gigabytes(pair[0]):,.0f} "
    f"and {forecast.features_gigabytes(pair[1]):,.0f} GB, the networks after every epoch {total['gigabytes']:,.0f} GB."
)

# %% [markdown]
# No GPU was at hand where this book was made, so we can only divide: with a GPU that is so many times as fast as the processor here,

# %% tags=["hide-input", "nbval-ignore-output"]
pd.DataFrame(
    {
        "times as fast": (speeds := [10, 30, 100]),
        "GPU hours": [round(total["hours"] / speed) for speed in speeds],
        "days on four GPUs": [
            round(total["hours"] / speed / 4 / 24, 1) for speed in speeds
        ],
    }
).set_index("times as fast")

# %% [markdown]
# Run this chapter on Colab with a GPU: the unit costs are then its own, and their ratio to those in the published book is the factor to look up. Put the store
# (`ANOMALY_TRANSFER_STORE`) where there is room: what fills it are not features but the networks that fine-tuning keeps, one an epoch.
#
# ## How to run it
#
# **Here.** `make study` runs the plan on all cores: everything at hand the first time in a checkout, then what is stale. One part of it, or another profile:
#
# ```console
# snakemake -s results/Snakefile --cores 2 --config profile=study study=finetuning benchmark=magnetic_tile
# ```
#
# **On Colab.** Open a chapter by its button and set `profile = "full"` in its second cell of code (the first installs the package), or run a job by its command as printed above. A session that ends
# loses nothing if the store lies on a mounted drive: finished jobs are found again, a training goes on after the last epoch that it finished.
#
# **On a cluster with SLURM** and a file system that all nodes see, after `pip install -e ".[cluster,peers]"`:
#
# ```console
# snakemake -s results/Snakefile --executor slurm --jobs 50 --config profile=full \
#     --default-resources slurm_partition=gpu gpu=1
# ```
#
# Each job is submitted by itself, asks for eight gigabytes and ten hours (`--set-resources record:runtime=...` for more: the networks of chapter 15 on all
# concrete pictures will need it), and is tried twice more if it fails. Where SLURM keeps no accounts, add `--slurm-status-command squeue`.
#
# What of this was tried: a cluster of one node, without a GPU and without accounts, with jobs of the smallest profile. Records were equal to those of a run without SLURM, to the last
# digit; a job that was killed was submitted again and the run ended whole; a node that was drained finished what it had, took no more, and went on when
# it was resumed. Neither the request for a GPU nor a shared file system was tried.
#
# **On Kubernetes** we have not tried it, and as it stands it would lose the records: Snakemake has an executor for it (`--executor kubernetes`), but there
# only declared outputs leave a pod, and the rule declares no more than a flag. Either a volume that all pods share is mounted for the store and the
# results, or the records have to become outputs of the rule, in object storage (`--default-storage-provider s3`).
#
# ```{admonition} What would surprise you
# :class: tip
# Where the cost lies. Most of the plan's jobs are on frozen features and cheap; at `full`, hours and disks are filled by what trains a network, and
# first by fine-tuning on normal images, whose mean gain could not be told from zero ([P2a-gain](../book/claims/P2a-gain.md)).
# ```
#
# ## What we learnt
#
# - A plan that stands in a file can be counted, priced, split and sent elsewhere.
# - Say what is missing in the same units as what is there.
# - Price the claim before you test it. Some answers are not worth their hours.
#
# ## Exercises
#
# Three that check your answer, with folded solutions: [](exercises/limits.ipynb). And four to try out here:
#
# 1. *Warm-up.* How many jobs does a sixth seed add to `finetuning`, and what would it cost by {eq}`eq-forecast`?
# 2. *Look closer.* Compare the forecast for `study` (`forecast.forecast("study", units)`) with what was recorded. Where must they agree, and why is that no test of it?
# 3. *Look closer.* Write an entry for your own images into `results/plan.yml` and price it before you run it.
# 4. *Research.* Which half of the plan could be left out without moving a verdict? Use the recorded runs to find out, and say what you would have missed.
#
# ## Further reading
#
# - {cite:t}`pineau2021`: a checklist for a paper that others can run.
# - {cite:t}`strubell2019`: the first widely read bill for the electricity of experiments.
