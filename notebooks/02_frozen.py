# %% [markdown]
# # Frozen representations
#
# **Question.** A network learnt to name a thousand things in photographs. Without changing a single weight, how well do
# its features tell a broken solar cell from a sound one, and at which depth?
#
# ```{admonition} Before you start
# :class: note
# *Prerequisites:* [](01_data.ipynb) (the grouped split). *You will be able to* turn a frozen network into four kinds of
# detector, say what each level of it sees, and draw where the defect is.
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
import numpy as np
import pandas as pd
from IPython.display import Markdown
from myst_nb import glue

from anomaly_transfer import (
    backbones,
    benchmarks,
    detectors,
    experiments,
    inspection,
    plots,
    profiles,
)
from anomaly_transfer.features import level_strides
from anomaly_transfer.labels import NORMAL
from anomaly_transfer.splits import grouped_folds
from anomaly_transfer.store import Store

plots.use_style()
settings = profiles.get(profile)
elpv = benchmarks.get("elpv")

# %% [markdown]
# ## A network is a stack of levels
#
# EfficientNet {cite:p}`tan2019` is a stem, seven stages and a head; we call these nine its *levels*. Going up, pixels
# become fewer and features more: each level looks at a larger part of the image and knows more about it. A level's
# *pooled* features are the means of its channels over all positions, one vector an image.

# %%
backbone = backbones.load(settings.backbone)
cells = {name: elpv.load(name, settings.limit) for name in elpv.categories}
pooled = experiments.features_for("pooled", None, settings, cells["mono"])
strides = level_strides(backbone)
pd.DataFrame(
    {
        "channels": {
            level: pooled.arrays[level].shape[1] for level in backbone.levels
        },
        "pixels a step": strides,
        "positions": {
            level: f"{-(-settings.image_size // s)} x {-(-settings.image_size // s)}"
            for level, s in strides.items()
        },
    }
)

# %% [markdown]
# ## The Gaussian of the normal
#
# Model the pooled features of normal images at level $l$ as a Gaussian with mean $\mu_l$ and covariance $\Sigma_l$. How
# unusual an image $x$ is, is its Mahalanobis distance, the distance in units of the spread that normal images
# themselves show in that direction:
#
# $$
# d_l(x) = \sqrt{(x_l - \mu_l)^\top \Sigma_l^{-1} (x_l - \mu_l)}, \qquad s(x) = \sum_l d_l(x) .
# $$ (eq-mahalanobis)
#
# With fewer images than channels, $\Sigma_l$ cannot be inverted, so it is shrunk towards a multiple of the identity by
# the amount that {cite:t}`ledoit2004` show to be best. The sum over levels is the detector of {cite:t}`rippel2020`, on
# which the second paper of this book builds.

# %%
levels = [f"gaussian@{level}" for level in backbone.levels]
by_level = experiments.run_all(
    experiments.matrix([*levels, "gaussian"], "elpv", profile, seeds=[0])
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "AUROC of a Gaussian at each of nine levels and of their sum, for mono and poly cells, with interval bands"}, "figure": {"name": "fig-levels", "caption": "AUROC of a Gaussian at each level alone, and of the sum over all levels (rightmost). Grouped split; bands are 95 % intervals; dashed: chance. (Data: ELPV.)"}}
curve = experiments.table(by_level)
curve["level"] = [method.partition("@")[2] or "sum" for method in curve["method"]]
figure = plots.level_profile(curve, level="level", hue="category")

# %% tags=["remove-input"]
best = (
    curve[curve["level"] != "sum"]
    .sort_values("value")
    .groupby("category")
    .tail(1)
    .set_index("category")
)
total = curve[curve["level"] == "sum"].set_index("category")["value"]
for material in elpv.categories:
    glue(f"sum-{material}", float(total[material]), display=False)
Markdown(
    "\n".join(
        f"- **{material}**: the best single level is *{best.loc[material, 'level']}* with {best.loc[material, 'value']:.3f}; "
        f"the sum has {total[material]:.3f}."
        for material in elpv.categories
    )
)

# %% [markdown]
# ```{admonition} A trap in this figure
# :class: warning
# The best level above was found *with the test labels*. Quoting it as a detector's performance would be selection on the
# test set. It is a fact about where the information lies; the sum needs no choice and is what we compare with.
# ```
#
# ## What each level sees
#
# A level's maps still know *where*. For one certainly defective cell, take at each level the features of every position,
# and measure their Mahalanobis distance to the features of all positions of normal cells from other runs.

# %%
table = cells["poly"].annotations.open()
fold = grouped_folds(table)[0]
defective = [row for row in fold.test if table["anomaly_class"][row] == "p = 1"][:3]
sample = np.concatenate([fold.train[:: max(1, len(fold.train) // 40)], defective])
maps = Store().features(
    cells["poly"].images[sample], backbone, settings.image_size, backbone.levels
)
distance = {}
for level in backbone.levels[1:-1]:
    detector = detectors.make(f"patch-shared@{level}").fit(
        maps.take(np.arange(len(sample) - len(defective)))
    )
    distance[level] = detector.anomaly_map(
        maps.take(np.arange(len(sample) - len(defective), len(sample)))
    )

# %% tags=["hide-input"] mystnb={"image": {"alt": "Three defective cells, each followed by seven heat maps, one for each stage of the network, from fine to coarse"}, "figure": {"name": "fig-level-maps", "caption": "Three defective cells and, for each stage, where its features are unusual (each map on its own scale). Early stages react to edges and dark pixels anywhere, late ones to regions. (Cells: ELPV, CC BY-NC-SA 4.0.)"}}
pictures = {
    f"cell {number + 1}": [
        cells["poly"].images[row],
        *(plots.heat(distance[level][number]) for level in distance),
    ]
    for number, row in enumerate(defective)
}
figure = plots.image_sheet(pictures, columns=["image", *distance])

# %% [markdown]
# ## Four kinds of detector
#
# The Gaussian is one way to say "far from normal". Others:
#
# - **Neighbours**: the distance to the two nearest normal images {cite:p}`bergman2020`, at all levels or the last one.
# - **Patch Gaussian**: one Gaussian *at each position* of the maps, as in PaDiM {cite:p}`defard2021`; an image is as
#   unusual as its most unusual position. *Shared* means one Gaussian for all positions.
# - **Patch memory**: each patch's distance to the nearest of a set of representative normal patches, as in PatchCore
#   {cite:p}`roth2022`.
#
# Patch detectors use the last levels of strides 8 and 16. All are fitted on normal cells only.

# %%
methods = {
    "gaussian": "Gaussian, sum of levels",
    "neighbours": "neighbours, all levels",
    "neighbours@head": "neighbours, last level",
    "patch-gaussian": "patch Gaussian, by position",
    "patch-shared": "patch Gaussian, shared",
    "patch-memory": "patch memory",
}
records = experiments.run_all(
    experiments.matrix(
        list(methods), "elpv", profile, splits=["grouped", "random"], seeds=[0]
    )
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "AUROC with intervals of six detectors on mono and poly cells, for the grouped and the random split"}, "figure": {"name": "fig-detectors", "caption": "Six detectors on the same frozen network. AUROC for certain defects with 95 % intervals, on runs never seen (grouped) and on runs seen in training (random). (Data: ELPV.)"}}
frame = experiments.table(records)
frame["detector"] = frame["method"].map(methods)
figure = plots.intervals(frame, row="detector", hue="split", column="category")

# %% [markdown]
# Intervals that overlap do not mean that two detectors are equal: both were tested on the same cells, so the question is
# whether their *difference* is clear of zero. Against the Gaussian, paired on the same cells, grouped split:

# %% tags=["hide-input"] mystnb={"image": {"alt": "Paired difference in AUROC of five detectors against the Gaussian, with intervals, for mono and poly"}, "figure": {"name": "fig-paired", "caption": "AUROC minus that of the Gaussian (sum of levels), paired on the same cells; dashed: no difference. Grouped split. (Data: ELPV.)"}}
grouped = {
    (r.experiment.category, r.experiment.method): r
    for r in records
    if r.experiment.split == "grouped"
}
differences = pd.DataFrame(
    [
        {"detector": methods[name], "material": material}
        | experiments.compare(record, grouped[material, "gaussian"])[
            "auroc"
        ].model_dump()
        for (material, name), record in grouped.items()
        if name != "gaussian"
    ]
)
figure = plots.intervals(
    differences,
    row="detector",
    column="material",
    label="AUROC difference",
    chance=0.0,
)

# %% tags=["remove-input"]
clear = differences[(differences["low"] > 0) | (differences["high"] < 0)]
Markdown(
    f"Of {len(differences)} differences, {len(clear)} are clear of zero: "
    + "; ".join(
        f"{row.detector} on {row.material} ({row.value:+.3f})"
        for row in clear.itertuples()
    )
    + "."
    if len(clear)
    else "None of the differences is clear of zero."
)

# %% [markdown]
# ## Does the score know doubt?
#
# If the score measures what the experts saw, it should also rise with their certainty. The correlation of ranks
# (Spearman) of score and grade $p$, within a run:

# %% tags=["hide-input"] mystnb={"image": {"alt": "Box plots of the Gaussian's score for the four grades, for mono and poly cells"}, "figure": {"name": "fig-doubt", "caption": "The Gaussian's score by grade, each cell scored by a model that has not seen its run; scores of different runs come from different models. (Data: ELPV.)"}}
figure = plots.scores_by_grade(
    {m: experiments.scores(grouped[m, "gaussian"]) for m in elpv.categories}
)

# %% tags=["hide-input"]
doubt = experiments.table(grouped.values(), metric="spearman", group="grade")
doubt["detector"] = doubt["method"].map(methods)
doubt["correlation with p"] = [
    f"{row.value:.2f} [{row.low:.2f}, {row.high:.2f}]" for row in doubt.itertuples()
]
doubt.pivot(index="detector", columns="category", values="correlation with p").loc[
    list(methods.values())
]

# %% [markdown]
# ## Where is the defect?
#
# A patch detector draws its evidence. The pictures below are chosen by score alone, so that they show failures as
# well: the defective cells with the *highest* and with the *lowest* scores, and the normal cells with the highest.

# %%
fold = max(grouped_folds(table), key=lambda fold: len(fold.test))
maps = experiments.features_for("maps", None, settings, cells["poly"])
detector = detectors.make("patch-memory", memory_bank=settings.memory_bank).fit(
    maps.take(fold.train)
)
tested = (
    table.loc[fold.test]
    .assign(score=detector.anomaly_score(maps.take(fold.test)))
    .sort_values("score")
)
broken = tested[tested["anomaly_class"] == "p = 1"].index
sound = tested[tested["anomaly_class"] == NORMAL].index
chosen = {
    "found": broken[::-1][:4],
    "missed": broken[:4],
    "false alarms": sound[::-1][:4],
}

# %% tags=["hide-input"] mystnb={"image": {"alt": "Three rows of cells, each beside its heat map: defects found, defects missed, and normal cells with high scores"}, "figure": {"name": "fig-where", "caption": "Cells of one run and the evidence of the patch memory, fitted on other runs; one colour scale for all. (Cells: ELPV, CC BY-NC-SA 4.0.)"}}
side = settings.image_size
evidence = {
    row: inspection.pixel_scores(
        detector.anomaly_map(maps.take(np.array([row])))[0], side
    )
    for rows in chosen.values()
    for row in rows
}
low, high = (
    min(m.min() for m in evidence.values()),
    max(m.max() for m in evidence.values()),
)
sheets = {
    name: [
        plots.overlay(cells["poly"].images[row], evidence[row], low, high)
        for row in rows
    ]
    for name, rows in chosen.items()
}
figure = plots.image_sheet(sheets, size=2.0, aspect=2)

# %% [markdown]
# ELPV has no masks, so these are pictures and not measurements: nobody has marked where a defect is. The chapters on
# surfaces with masks measure localisation.
#
# ```{admonition} What would surprise you
# :class: tip
# A network that was never shown a solar cell, and a covariance matrix, do most of the work. What they cannot do, as
# {numref}`fig-detectors` shows, is carry over to modules they have not seen. Fine-tuning has to be judged on that gap.
# ```
#
# ## What we learnt
#
# - Features of a frozen network separate defects from normal cells, best in its middle and later levels or in none of
#   them in particular: look at {numref}`fig-levels` before you believe a rule.
# - A detector's rank depends on the material *and* on the split. Compare by paired differences.
# - Choosing a level or a method by its test result is using the test labels.
# - Scores rise with the experts' certainty, but doubt is harder to see than certainty.
#
# ## Exercises
#
# 1. *Warm-up.* Replace the Mahalanobis distance by the Euclidean one (what is $\Sigma_l$ then?). Which levels suffer?
# 2. *Look closer.* Rank the channels of the level of your choice by how much they contribute to the distance of the
#    missed cells of {numref}`fig-where`. Do the found ones use the same channels?
# 3. *Research.* The sum gives each level the same weight although the deep ones have more channels, and so larger
#    distances. Find a weighting from normal images alone that does better on both materials. How will you know that
#    you did not use the test labels?
