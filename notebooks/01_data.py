# %% [markdown]
# # The data, and how a split can lie
#
# **Question.** When a detector finds broken solar cells in a test set, how much of that is finding defects, and how much
# is recognising what it has seen before?
#
# ```{admonition} Before you start
# :class: note
# *Prerequisites:* none. *You will be able to* read a group-aware split, measure a leak with a matched control, and say
# which of two honest-looking numbers you would tell your boss.
# ```

# %% tags=["remove-cell"]
# On Colab this installs the book's package; anywhere else it does nothing.
import importlib.util

if importlib.util.find_spec("anomaly_transfer") is None:
    get_ipython().run_line_magic(
        "pip",
        "install -q 'anomaly-transfer[notebook] @ git+https://github.com/OWNER/what-normal-knows'",
    )

# %% tags=["parameters", "hide-cell"]
profile = "laptop"  # smoke, laptop, study or full: see the preface

# %% tags=["hide-input"]
import pandas as pd
from IPython.display import Markdown
from myst_nb import glue

from anomaly_transfer import (
    benchmarks,
    evaluation,
    experiments,
    plots,
    profiles,
    splits,
)
from anomaly_transfer.labels import NORMAL

plots.use_style()
settings = profiles.get(profile)
elpv = benchmarks.get("elpv")

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
pd.DataFrame(number).loc[kinds].rename_axis("grade")

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
# from which module. But the files are numbered, and consecutive numbers of one material form *runs*. Look at normal
# cells only, one run a row:

# %% tags=["hide-input"] mystnb={"image": {"alt": "Five rows of normal monocrystalline cells, one row for each run of consecutive files; cells in a row look alike, rows differ"}, "figure": {"name": "fig-runs", "caption": "Normal monocrystalline cells, one run of consecutive files a row. Inside a run, corners, busbars, brightness and blur agree; between runs they do not. (Cells: ELPV, CC BY-NC-SA 4.0.)"}}
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

# %% tags=["hide-input"] mystnb={"image": {"alt": "Table of counts of monocrystalline cells by run and grade; some runs are mostly normal, others mostly defective"}, "figure": {"name": "fig-run-grades", "caption": "Monocrystalline cells by run and grade. In some runs nearly every cell is defective, in others nearly none."}}
counts = (
    mono.groupby(["group", "anomaly_class"])
    .size()
    .unstack(fill_value=0)
    .loc[runs, kinds]
)
counts.index.name = counts.columns.name = None
figure = plots.counts(counts, "cells")

# %% [markdown]
# So the run gives the label away. How much? Take a "detector" that never opens an image: it scores a cell by the share of
# defective cells among the *other* cells of its run. We measure it, like everything in this book, by the AUROC, the
# chance that a defective cell drawn at random gets a higher score than a normal one,
#
# $$
# \mathrm{AUROC} = P(s_{\text{defective}} > s_{\text{normal}}) + \tfrac12 P(s_{\text{defective}} = s_{\text{normal}}),
# $$ (eq-auroc)
#
# so that guessing gives one half.

# %%
blind = {}
for name, table in tables.items():
    clear = table[table["anomaly_class"].isin([NORMAL, "p = 1"])]
    defective = (clear["anomaly_class"] == "p = 1").to_numpy()
    score = splits.group_rate(clear, defective)
    blind[name] = evaluation.evaluate(
        score, defective, n_bootstrap=settings.bootstrap
    )["auroc"]
pd.DataFrame(
    {"AUROC without looking": {name: str(value) for name, value in blind.items()}}
)

# %% tags=["remove-input"]
glue("blind-mono", blind["mono"].value, display=False)
Markdown(
    f"Without looking at a single pixel, it reaches **{blind['mono'].value:.2f}** on mono and "
    f"**{blind['poly'].value:.2f}** on poly. Any test that compares cells across runs can be passed, in part, by "
    "recognising the run."
)

# %% [markdown]
# ## Four ways to test the same detector
#
# A detector here is fitted on normal cells only, whatever the split. We test two simple ones from the next chapter (a
# Gaussian over all levels of a frozen network, and nearest neighbours in its last level) in four ways:
#
# 1. **Random split, all pairs.** Five random folds; a cell is scored by the model that did not see it, and compared with
#    all cells of its fold. This is what most published numbers on such data are.
# 2. **Random split, pairs within a run.** The same scores, but a defective cell is compared only with normal cells of its
#    own run. Now recognising the run is worth nothing.
# 3. **Matched split.** Each run is cut in two halves. The model that scores one half may have seen the other half, but is
#    fitted on no more cells than in 4.
# 4. **Grouped split.** The model has seen no cell of the run that it is tested on: a new module arrives.
#
# From 1 to 2 only the *comparison* changes; from 3 to 4 only whether the model *knows the run*: the number of training
# images and the test images are equal. (From 2 to 3 the number of training images falls.)

# %%
methods = ["gaussian", "neighbours@head"]
names = {
    "gaussian": "Gaussian, all levels",
    "neighbours@head": "neighbours, last level",
}
records = experiments.run_all(
    experiments.matrix(
        methods, "elpv", profile, splits=["random", "matched", "grouped"], seeds=[0]
    )
)

# %%
steps = []
for record in records:
    e = record.experiment
    shown = {
        "grouped": [],
        "matched": [],
        "random": [("1 random, all pairs", record.metrics["target"]["auroc"])],
    }[e.split]
    label = {
        "random": "2 random, within run",
        "matched": "3 matched",
        "grouped": "4 grouped",
    }[e.split]
    shown.append((label, experiments.within_group(record)["auroc"]))
    steps += [
        {
            "test": test,
            "method": names[e.method],
            "material": e.category,
            **v.model_dump(),
        }
        for test, v in shown
    ]
steps = pd.DataFrame(steps).sort_values("test")

# %% tags=["hide-input"] mystnb={"image": {"alt": "AUROC with intervals of two detectors in four tests, for mono and poly; the values fall from the random to the grouped test"}, "figure": {"name": "fig-staircase", "caption": "One detector, four tests. AUROC for certain defects with 95 % intervals; dashed: chance."}}
figure = plots.intervals(steps, row="test", hue="method", column="material")

# %% tags=["remove-input"]
by = {
    (e.experiment.split, e.experiment.category, e.experiment.method): e
    for e in records
}
leak = {
    (material, method): experiments.compare(
        by["matched", material, method], by["grouped", material, method]
    )["auroc"]
    for material in elpv.categories
    for method in methods
}
value = steps.set_index(["test", "material", "method"])["value"]
first, last = (
    value[test, "mono", names["gaussian"]]
    for test in ("1 random, all pairs", "4 grouped")
)
glue("leak-mono", leak["mono", "gaussian"].value, display=False)
glue("leak-mono-interval", str(leak["mono", "gaussian"]), display=False)
glue("random-mono", float(first), display=False)
glue("grouped-mono", float(last), display=False)
Markdown(
    f"For the Gaussian on mono, the same detector is worth **{first:.2f}** in the first test and **{last:.2f}** in the "
    "fourth. The step from 3 to 4 is the cleanest measurement of the leak, since nothing else changes. Paired on the same "
    "cells, having seen other cells of the run adds:"
)

# %% tags=["hide-input"]
pd.DataFrame(
    [
        {
            "material": m,
            "method": names[k],
            "AUROC added by knowing the run": str(v),
        }
        for (m, k), v in leak.items()
    ]
).set_index(["material", "method"])

# %% [markdown]
# ## What a detector sees in a new module
#
# Why does the score fail on a run it does not know? Take the largest run of monocrystalline cells and look at the scores
# of its cells, once from the model that has seen half of the run, once from the model that has not.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two histograms of anomaly scores of normal and defective cells of one run: for a model that knows the run and for one that does not"}, "figure": {"name": "fig-new-module", "caption": "Scores of the cells of the largest monocrystalline run. Left: half of the run's other normal cells were in training. Right: none were."}}
largest = mono["group"].value_counts().idxmax()
panels = {}
for split, title in (
    ("matched", "knows the run"),
    ("grouped", "has never seen it"),
):
    scored = experiments.scores(by[split, "mono", "gaussian"])
    panels[title] = scored[
        (scored["group"] == largest)
        & scored["anomaly_class"].isin([NORMAL, "p = 1"])
    ]
figure = plots.score_panels(panels)

# %% [markdown]
# To a model that has never seen the run, *all* its cells are unusual, and what is unusual about them all drowns what is
# unusual about some. This is not a failure of the test. It is what happens when a new supplier's modules arrive on a
# Monday morning.
#
# ```{admonition} What would surprise you
# :class: tip
# Neither test is wrong; they answer different questions. *Random*: how well does the detector work on modules of which
# it has seen normal cells? *Grouped*: how well does it work on a module it meets for the first time? The mistake is to
# measure the one and promise the other.
# ```
#
# **Our protocol, from here on.** Grouped by run, pairs compared within a run, since the book asks what *transfers*; the
# random split is shown beside it, since it is what published numbers use. With five runs a material, intervals are over
# cells, not over runs: they say how sure we are about *these* modules, not about all modules in the world.
#
# ## What we learnt
#
# - Doubt is data: grades let us ask whether a score rises with the experts' certainty, not only whether it separates.
# - Files that come from one object must stay on one side of a split. Where the object is not recorded, file order may
#   give it away.
# - A group can predict the label. Then comparing across groups rewards recognising the group; compare within.
# - A leak is measured with a matched control: same test images, same number of training images, one difference.
#
# ## Exercises
#
# 1. *Warm-up.* Repeat the blind detector with `p = 1/3` as the anomaly. Does the run give doubt away, too?
# 2. *Look closer.* Which single run contributes most pairs to test 4 on mono? Compute its AUROC alone, and that of the
#    others. Would you report their mean?
# 3. *Research.* Could the model be told what is common to a new module, without labels, by using the new module's own
#    cells (most of which are normal)? Subtract each run's mean feature before fitting, and measure. What did you assume?
