# %% [markdown]
# # The data, and how a split can lie
#
# **Question.** When a detector finds broken solar cells in a test set, how much of that is finding defects, and how much
# is recognising what it has seen before?
#
# ```{admonition} Before you start
# :class: note
# *Prerequisites:* none. *You will be able to* set up a split that keeps groups together, measure a leak against a
# control, and say which of two honest-looking numbers you would tell your boss. Terms are in the
# [glossary](../book/glossary.md).
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

from anomaly_transfer import benchmarks, profiles
from anomaly_transfer.data import splits
from anomaly_transfer.data.annotations import NORMAL
from anomaly_transfer.metrics import ranking
from anomaly_transfer.pages import executions, plots
from anomaly_transfer.pages.glue import glue
from anomaly_transfer.studies import detection

plots.use_style()
settings = profiles.get(profile)
elpv = benchmarks.get("elpv")

# %% tags=["remove-cell", "nbval-ignore-output"]
# What this chapter takes, before it takes it (the site says it in the box above).
executions.announce("data", profile)

# %% [markdown]
# ## Solar cells, graded by doubt
#
# The ELPV data set {cite:p}`deitsch2019` holds electroluminescence images of solar cells of two materials:
# *mono*crystalline cells are smooth and cut from one crystal; *poly*crystalline ones show a texture of grains. Experts
# did not just call a cell good or bad. They gave a probability $p \in \{0, \tfrac13, \tfrac23, 1\}$ that it is
# defective, so doubt is part of the data.

# %%
cells = {name: elpv.load(name, settings.limit) for name in elpv.categories}
tables = {name: category.annotations.open() for name, category in cells.items()}
kinds = [NORMAL, "p = 1/3", "p = 2/3", "p = 1"]
number = {
    name: table["anomaly_class"].value_counts() for name, table in tables.items()
}
pd.DataFrame(number).loc[kinds].rename_axis(None)

# %% [markdown]
# Here is what each grade looks like. We call *normal* what the experts gave $p = 0$, and *anomalous* in the headline
# numbers only what they were certain of, $p = 1$.


# %% tags=["hide-input"] mystnb={"image": {"alt": "Four rows of six polycrystalline solar cells, from normal cells in the first row to certainly defective ones in the last"}, "figure": {"name": "fig-grades", "caption": "Polycrystalline cells by grade, evenly spaced through the files. Between the clear ends lies a region where cracks, grain and dirt are hard to tell apart. (Cells: ELPV, CC BY-NC-SA 4.0.)"}}
def spaced(category, rows, number):
    """Evenly spaced images among the given rows."""
    step = max(1, len(rows) // number)
    return [category.images[row] for row in rows[::step][:number]]


def rows_where(table, column, value):
    return [int(row) for row in table.index[table[column] == value]]


sheet = {
    kind: spaced(
        cells["poly"], rows_where(tables["poly"], "anomaly_class", kind), 6
    )
    for kind in kinds
}
figure = plots.image_sheet(sheet, mark=["p = 1"])

# %% [markdown]
# ## Cells come in families
#
# A solar module has dozens of cells, made together, photographed together. The data set does not say which cell came
# from which module. But the files are numbered, and consecutive numbers of one material form *runs*, five
# per material, each of one or several modules. Look at normal cells only, one run per row:

# %% tags=["hide-input"] mystnb={"image": {"alt": "Five rows of normal monocrystalline cells, one row for each run of consecutive files; most rows look different from one another"}, "figure": {"name": "fig-runs", "caption": "Normal monocrystalline cells, one run of consecutive files per row. Corners, busbars (the dark lines), brightness and blur tell most runs apart. The long run 901-1614 holds several families of its own. (Cells: ELPV, CC BY-NC-SA 4.0.)"}}
mono = tables["mono"]
normal = mono[mono["anomaly_class"] == NORMAL]
runs = sorted(
    mono["group"].unique(), key=lambda name: int(name.split()[1].split("-")[0])
)
figure = plots.image_sheet(
    {
        run: spaced(cells["mono"], rows_where(normal, "group", run), 6)
        for run in runs
    }
)

# %% [markdown]
# You can tell the runs apart, and so can a network. That would not matter if every run had its share of defects. Does
# it?

# %% tags=["hide-input"] mystnb={"image": {"alt": "Table of counts of monocrystalline cells by run and grade; some runs are mostly normal, others mostly defective"}, "figure": {"name": "fig-run-grades", "caption": "Monocrystalline cells by run and grade. In some runs nearly every cell is defective, in others nearly none. (Data: ELPV.)"}}
counts = (
    mono.groupby(["group", "anomaly_class"])
    .size()
    .unstack(fill_value=0)
    .loc[runs, kinds]
)
counts.index.name = counts.columns.name = None
figure = plots.counts(counts, "cells")

# %% [markdown]
# So the run gives the label away. How much? Suppose an oracle tells us, for each run, the share of its cells that are
# defective, and we score every cell of the run by that share, without opening an image. We measure this score, like
# every score in this book, by its AUROC, the chance that a defective cell drawn at random gets a higher score than a
# normal one,
#
# $$
# \mathrm{AUROC} = P(s_{\text{defective}} > s_{\text{normal}}) + \tfrac12 P(s_{\text{defective}} = s_{\text{normal}}),
# $$ (eq-auroc)
#
# so that guessing gives one half. (Here and in all headline numbers, cells of the doubtful grades are left out.)

# %%
blind = {}
for name, table in tables.items():
    clear = table[table["anomaly_class"].isin([NORMAL, "p = 1"])]
    defective = (clear["anomaly_class"] == "p = 1").to_numpy()
    share = splits.group_rate(clear, defective)
    blind[name] = ranking.evaluate(
        share, defective, n_bootstrap=settings.bootstrap
    )["auroc"]

# %% tags=["remove-input"]
glue("blind-mono", blind["mono"].value)
Markdown(
    f"Without looking at a single pixel, the oracle reaches **{blind['mono']}** on mono and **{blind['poly']}** on "
    "poly (in brackets, here and everywhere: a 95 % interval). It knows the labels, so it is no competitor. It shows "
    "what a test that compares cells across runs would pay for recognising the run. How much of that a detector "
    "collects is a question that we have to measure."
)

# %% [markdown]
# ## Four ways to test the same detector
#
# A detector here is fitted on normal cells only, and its score is a distance from them in the features of a network that
# was trained on photographs and is left as it is (*frozen*). We test two of the next chapter's detectors: a *Gaussian*
# fitted to the features of all levels of the network, and the distance to the nearest *neighbours* in the last level.
# A *fold* is one division of the cells into those that the model is fitted on and those that it scores.
#
# 1. **Random split, all pairs.** Five random folds; a defective cell is compared with all normal cells of its fold. This
#    is the usual cross-validation.
# 2. **Random split, within a run.** The same scores, but a defective cell is compared only with normal cells of its own
#    run. Now recognising the run is worth nothing.
# 3. **Matched split, within a run.** Each run is cut in two halves. The model that scores one half may have seen normal
#    cells of the other half, but is fitted on as many cells as in 4.
# 4. **Grouped split, within a run.** The model has seen no cell of the run that it scores: new modules arrive.
#
# In every test each defective cell counts once. From 1 to 2 the *comparison* changes. From 2 to 3 the *number* of training
# cells changes (for the largest runs it falls). From 3 to 4 only one thing changes: cells of the run itself are replaced
# by as many cells of other runs.

# %%
methods = ["gaussian", "neighbours@head"]
names = {
    "gaussian": "Gaussian, all levels",
    "neighbours@head": "neighbours, last level",
}
records = detection.run_all(
    detection.matrix(
        methods, "elpv", profile, splits=["random", "matched", "grouped"], seeds=[0]
    )
)

# %%
tests = {
    "random": "2 random, within run",
    "matched": "3 matched, within run",
    "grouped": "4 grouped, within run",
}
all_pairs = detection.table(r for r in records if r.experiment.split == "random")
within_run = detection.table(records, group="within group")
steps = pd.concat(
    [
        all_pairs.assign(test="1 random, all pairs"),
        within_run.assign(test=within_run["split"].map(tests)),
    ]
).sort_values("test", kind="stable")
steps["detector"] = steps["method"].map(names)

# %% tags=["hide-input"] mystnb={"image": {"alt": "AUROC with intervals of two detectors in four tests, for mono and poly"}, "figure": {"name": "fig-staircase", "caption": "Two detectors, four tests: AUROC for certain defects with 95 % intervals, each defective cell counting once; dashed: chance. (Data: ELPV.)"}}
figure = plots.intervals(steps, row="test", hue="detector", column="category")

# %% [markdown]
# The step from 3 to 4 is the leak itself. Paired on the same cells, having seen cells of the run adds to the AUROC:

# %% tags=["hide-input"]
by = {
    (r.experiment.split, r.experiment.category, r.experiment.variant): r
    for r in records
}
leak = {
    (material, method): detection.compare(
        by["matched", material, method],
        by["grouped", material, method],
        within="group",
    )["auroc"]
    for material in elpv.categories
    for method in methods
}
pd.DataFrame(
    {names[k]: {m: str(leak[m, k]) for m in elpv.categories} for k in methods}
)

# %% tags=["remove-input"]
value = {
    split: detection.interval(by[split, "mono", "gaussian"], group="within group")
    for split in ("matched", "grouped")
}
glue("matched-mono", value["matched"].value)
glue("grouped-mono", value["grouped"].value)
clear = [f"{names[k]} on {m}" for (m, k), v in leak.items() if v.low > 0]
Markdown(
    f"The interval is clear of zero in {len(clear)} of {len(leak)} cases"
    + (f" ({'; '.join(clear)})" if clear else "")
    + "."
)

# %% [markdown]
# ## One number hides five runs
#
# An average over runs depends on how they are weighted, and here the runs are anything but alike. This is the Gaussian on
# mono, run by run:

# %% tags=["hide-input"]
grouped, matched = (
    detection.by_group(by[split, "mono", "gaussian"])
    for split in ("grouped", "matched")
)
training = grouped["normal"].sum() - grouped["normal"]


def text(frame):
    return plots.with_interval(frame, ".2f").to_list()


pd.DataFrame(
    {
        "fitted on": training,
        "normal": grouped["normal"],
        "defective": grouped["anomalous"],
        "3 matched": text(matched),
        "4 grouped": text(grouped),
    }
).loc[runs].rename_axis(None)

# %% tags=["remove-input"]
pairs = grouped["normal"] * grouped["anomalous"]
by_pairs = {
    name: (frame["value"] * pairs).sum() / pairs.sum()
    for name, frame in (("matched", matched), ("grouped", grouped))
}
Markdown(
    f"With each defective cell counting once, the Gaussian on mono has {value['matched'].value:.2f} in test 3 and "
    f"{value['grouped'].value:.2f} in test 4. Had we counted each *pair* of a normal and a defective cell once, it would "
    f"be {by_pairs['matched']:.2f} and {by_pairs['grouped']:.2f}, since {pairs.idxmax().replace('cells ', 'run ')} holds "
    f"{pairs.max() / pairs.sum():.0%} of the pairs. Neither is wrong. A mean over five unlike things is a choice, so we "
    "say ours and show the table."
)

# %% [markdown]
# ## What a detector sees in a new run
#
# Where the score fails, why does it? Take the largest run of monocrystalline cells, and look at the scores of its cells:
# once from models that were fitted, among others, on cells of that run, once from a model that was not.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two histograms of anomaly scores of normal and defective cells of one run: for models that know the run and for one that does not"}, "figure": {"name": "fig-new-module", "caption": "Gaussian scores of the cells of the largest monocrystalline run. Left: normal cells of the run's other half were among the training images. Right: none were. Each panel has a scale of its own; compare how far the colours overlap. (Data: ELPV.)"}}
largest = mono["group"].value_counts().idxmax()
panels = {}
for split, title in (
    ("matched", "knows the run"),
    ("grouped", "has never seen it"),
):
    scored = detection.scores(by[split, "mono", "gaussian"])
    panels[title] = scored[
        (scored["group"] == largest)
        & scored["anomaly_class"].isin([NORMAL, "p = 1"])
    ]
figure = plots.score_panels(panels)

# %% [markdown]
# Compare the scales, too: to the model that has never seen the run, even its normal cells lie far out. This suggests that
# what is unusual about *all* cells of the run drowns out what is unusual about some. It is what happens when a new
# supplier's modules arrive on a Monday morning.
#
# ```{admonition} What would surprise you
# :class: tip
# Neither test is wrong; they answer different questions. *Random*: how well does the detector work on modules of which
# it has seen normal cells? *Grouped*: how well does it work on those it meets for the first time? The mistake is to
# measure the one and promise the other.
# ```
#
# **Our protocol, from here on.** Grouped by run and compared within a run, each defective cell counting once, since the
# book asks what *transfers*; the random split stands beside it. What it cannot tell: a run may hold several modules, so
# whether the leak is of the module, of its type or of the day of the photograph is unknown. And the intervals resample
# cells while runs, models and halves stay as they are: they say how sure we are about *these* runs, and cells of one
# module resemble each other, so even for these they are somewhat too narrow.
#
# ## What we learnt
#
# - Doubt is data: grades let us ask whether a score rises with the experts' certainty, not only whether it separates.
# - Files that come from one object must stay on one side of a split. Where the object is not recorded, file order may
#   give it away.
# - A group can predict the label. Then comparing across groups pays for recognising the group; compare within.
# - A leak is measured with a matched control: same test images, same number of training images, one difference.
# - A mean over unlike groups depends on its weights. Show the groups.
#
# ## Exercises
#
# Three that check your answer, with folded solutions: [](exercises/data.ipynb). And three to try out here:
#
# 1. *Warm-up.* Ask the oracle for the share of cells with `p = 1/3` instead. Does the run give doubt away, too?
# 2. *Look closer.* The matched split was drawn once, with seed 0. Draw it five times. How much of the interval of the leak
#    is due to that draw, which the bootstrap does not see?
# 3. *Research.* Could the model be told what is common to a new run, without labels, by using the run's own cells (most
#    of which may be normal)? Subtract each run's mean feature before fitting, and measure. What did you assume?
#
# ## Further reading
#
# - {cite:t}`geirhos2020`: what a network learns instead of what you meant, across many fields: the run of modules is such a shortcut.
# - {cite:t}`kapoor2023`: how leakage of the kinds shown here passed review in one field after the other, and a checklist against it.
