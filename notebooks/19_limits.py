# %% [markdown]
# # Limits
#
# **Question.** What did this book *not* run, what would it take to run it, and how would you do it?
#
# ```{admonition} Before you start
# :class: note
# *Prerequisites:* none. *You will be able to* say what the numbers of this book do not cover, to run any part of them again on a laptop, on
# Colab or on a cluster, and to foretell what a plan of experiments will cost before you start it.
# ```

# %% tags=["remove-cell"]
# On Colab this installs the book's package; anywhere else it does nothing.
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

from anomaly_transfer import claims, forecast, plan, plots, profiles

plots.use_style()

# %% [markdown]
# ## What was not tested
#
# Some claims of the papers speak of data that we may not redistribute and that do not come as a package, or of protocols that their abstracts do not give.
# They are on the board as *not tested here*, and this is why:

# %% tags=["remove-input"]
findings = claims.recorded()
Markdown(
    "\n".join(
        f"- **[{claim.id}](../book/claims/{claim.id}.md)**, {claim.title}. {claim.limits}"
        for claim in claims.ledger()
        if findings[claim.id].verdict == "not tested here"
    )
)

# %% [markdown]
# And what holds for all of it:
#
# - **We have read abstracts.** Of the three papers, the full texts were not at hand. Where a protocol is not in the abstract, it is *ours*, and a number of ours that
#   differs from one of theirs refutes nothing.
# - **One small network.** The recorded runs use EfficientNet-Lite0 at 224 pixels and less, since its weights come as a package. The second paper uses
#   EfficientNet-B4.
# - **Few groups.** Solar cells come from few modules; whether an interval over their cells speaks of the next module is another question
#   ([](01_data.ipynb)).
# - **Drawn defects.** On bricks, grass and gravel the defects are synthetic. They keep a chapter running everywhere, and stand for no factory.
# - **Our own choices were made on some of the same data.** Each chapter says which; the combined detector is the plainest case ([](16_side.ipynb)).
#
# ## What was not recorded
#
# `results/plan.yml` lists every experiment of the book: each line stands for all combinations of some variants, data sets and seeds, and each combination is a
# *job* that runs on its own.

# %%
jobs = plan.jobs("study", everywhere=True)
recorded = forecast.coverage("study")
print(jobs[0].name)
print("anomaly-transfer", *jobs[0].words())

# %% tags=["hide-input"] mystnb={"image": {"alt": "Share of the planned jobs that are recorded, by study and benchmark, as a shaded table with many gaps"}, "figure": {"name": "fig-coverage", "caption": "Share of the planned jobs that are recorded at the profile study; blank: none are planned. (Data: the recorded runs.)"}}
figure = plots.heat_table(
    recorded.rename_axis(None), label="share recorded", low=0.0, high=1.0
)

# %% tags=["remove-input"]
empty = recorded.columns[(recorded.fillna(0) == 0).all()]
whole = recorded.stack()
Markdown(
    f"{len(jobs):,} jobs are planned. Of {len(whole)} cells, {int((whole == 1).sum())} are whole and {int((whole == 0).sum())} empty. "
    + (f"Nothing at all is recorded of {', '.join(empty)}: " if len(empty) else "")
    + "a set that asks for consent or comes in a format that cannot be unpacked everywhere is run by whoever has it."
)

# %% [markdown]
# ## What it would take
#
# Two things are measured here and now: what it takes to pass one image through the network, and through it and back, at the sizes of two profiles. The time of each
# recorded run is known. With $u$ for the unit cost and $n$ for how often it is paid (images times epochs times folds), a job that took $t$ at
# the profile `study` would take
#
# $$
# t_\text{full} \approx t \cdot \frac{u_\text{full}}{u_\text{study}} \cdot \frac{n_\text{full}}{n_\text{study}} ,
# $$ (eq-forecast)
#
# and a search in a memory of patches grows with the memory and the number of values of an image instead. Jobs that were never run count as the median of their
# variant. It is a forecast: right to a factor of two at best.

# %% tags=["nbval-ignore-output"]
units = {name: forecast.units(profiles.get(name)) for name in ("study", "full")}
foretold = forecast.forecast("full", units)

# %% tags=["hide-input", "nbval-ignore-output"]
table = foretold.assign(own=foretold["own"].map("{:.0%}".format)).rename(
    columns={
        "own": "own time known",
        "hours recorded": "hours at study",
        "hours": "hours at full",
        "gigabytes": "checkpoints (GB)",
    }
)
table.round(1)

# %% tags=["remove-input", "nbval-ignore-output"]
total = foretold.sum()
pair = [units["study"], units["full"]]
Markdown(
    f"On this device ({pair[0].device}) an image of the study takes {pair[0].forward['image_size'] * 1000:.0f} ms, one of the full profile "
    f"{pair[1].forward['image_size'] * 1000:.0f} ms; to train, {pair[0].training['tuned_image_size'] * 1000:.0f} and {pair[1].training['tuned_image_size'] * 1000:.0f} ms. "
    f"All {int(total['jobs']):,} jobs would take {total['hours recorded']:,.0f} hours of one processor at `study` and {total['hours']:,.0f} at `full`, of which "
    f"{foretold['hours'].idxmax()} takes {foretold['hours'].max() / total['hours']:.0%}. The features of all pictures take {forecast.features_gigabytes(pair[0]):,.0f} "
    f"and {forecast.features_gigabytes(pair[1]):,.0f} GB, the networks after every epoch {total['gigabytes']:,.0f} GB."
)

# %% [markdown]
# No GPU was at hand where this book was made, so we can only divide: with a GPU that is so many times as fast on one job as one processor core here,

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
# Run this chapter on Colab with a GPU: the unit costs are then its own, and their quotient to those above is the factor to look up. Put the store
# (`ANOMALY_TRANSFER_STORE`) where there is room: what fills it are not features but the networks that fine-tuning keeps, one an epoch.
#
# ## How to run it
#
# **Here.** `make study` runs what is stale of the plan on all cores. One part of it, or another profile:
#
# ```console
# snakemake -s results/Snakefile --cores 2 --config profile=study study=tuned benchmark=magnetic_tile
# ```
#
# **On Colab.** Open a chapter by its button and set `profile = "full"` in its first cell of code, or run a job by its command as printed above. A session that ends
# loses nothing if the store lies on a mounted drive: finished jobs are found again, a training goes on after its last epoch.
#
# **On a cluster with SLURM** and a file system that all nodes see, after `pip install -e ".[cluster]"`:
#
# ```console
# snakemake -s results/Snakefile --executor slurm --jobs 50 --config profile=full \
#     --default-resources slurm_partition=gpu slurm_extra="'--gres=gpu:1'"
# ```
#
# Each job is submitted by itself, asks for eight gigabytes and ten hours, and is tried twice more if it fails. Where SLURM keeps no accounts, add
# `--slurm-status-command squeue`. It was tried on a cluster of one node with jobs of the smallest profile: records were equal to those of a run without
# SLURM, to the last digit; a job that was killed was submitted again and the run ended whole; a node that was drained finished what it had, took no more, and went
# on when it was resumed.
#
# **On Kubernetes** we have not tried it. Snakemake has an executor for it too (`--executor kubernetes`); there is no shared file system, so the store and
# the results have to be in object storage (`--default-storage-provider s3`), and the container needs this package and the data.
#
# ```{admonition} What would surprise you
# :class: tip
# Where the cost lies. Everything on frozen features is cheap, and most of the plan's jobs are of that kind; what fills hours and disks is fine-tuning, the part
# whose gain five runs could not tell from zero.
# ```
#
# ## What we learnt
#
# - A plan that stands in a file can be counted, priced, and split; a list of commands can only be run.
# - Say what is missing in the same units as what is there.
# - Price the claim before you test it. Some answers are not worth their hours.
#
# ## Exercises
#
# 1. *Warm-up.* How many jobs does a sixth seed add to `tuned`, and what would it cost by {eq}`eq-forecast`?
# 2. *Look closer.* Compare the forecast for `study` (`forecast.forecast("study", units)`) with what was recorded. Where must they agree, and why is that no test of it?
# 3. *Look closer.* Write an entry for your own images into `results/plan.yml` and price it before you run it.
# 4. *Research.* Which half of the plan could be left out without moving a verdict? Use the recorded runs to find out, and say what you would have missed.
