# %% [markdown]
# # Frozen representations
#
# **Question.** A network learnt to name a thousand things in photographs. Without changing a single weight, how well do
# its features tell a broken solar cell from a sound one, and at which depth?
#
# ```{admonition} Before you start
# :class: note
# *Prerequisites:* [](data.ipynb) (the grouped split). *You will be able to* turn a frozen network into four kinds of
# detector, say what each level of it sees, and draw where the defect is.
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
import numpy as np
import pandas as pd
from IPython.display import Markdown

from anomaly_transfer import benchmarks, detectors, profiles
from anomaly_transfer.data.annotations import NORMAL
from anomaly_transfer.data.splits import grouped_folds
from anomaly_transfer.detectors.base import pixel_scores
from anomaly_transfer.features import cached
from anomaly_transfer.features.extraction import level_strides
from anomaly_transfer.metrics import aggregate
from anomaly_transfer.networks import backbones
from anomaly_transfer.pages import executions, plots
from anomaly_transfer.store import Store
from anomaly_transfer.studies import detection
from anomaly_transfer.studies.records import recorded as recorded_runs

plots.use_style()
settings = profiles.get(profile)
elpv = benchmarks.get("elpv")

# %% tags=["remove-cell", "nbval-ignore-output"]
# What this chapter takes, before it takes it (the site says it in the box above).
executions.announce("frozen_features", profile)

# %% [markdown]
# ## A network is a stack of levels
#
# EfficientNet {cite:p}`tan2019` is a stem, seven stages and a head; we call these nine its *levels*. Going up, pixels
# become fewer and features more: each level looks at a larger part of the image and knows more about it. A level's
# *pooled* features are the means of its channels over all positions, one vector per image.

# %%
backbone = backbones.load(settings.backbone)
cells = {name: elpv.load(name, settings.limit) for name in elpv.categories}
pooled = detection.features_for("pooled", None, settings, cells["mono"])
strides = level_strides(backbone)
pd.DataFrame(
    {
        "channels": {
            level: pooled.arrays[level].shape[1] for level in backbone.levels
        },
        "stride (pixels)": strides,
        "positions": {
            level: f"{-(-settings.image_size // s)} x {-(-settings.image_size // s)}"
            for level, s in strides.items()
        },
    }
)

# %% [markdown]
# ## The Gaussian of the normal
#
# Model the pooled features $f_l(x)$ of normal images $x$ at level $l$ as a Gaussian with mean $\mu_l$ and covariance $\Sigma_l$. How
# unusual an image $x$ is, is its Mahalanobis distance, the distance in units of the spread that normal images
# themselves show in that direction:
#
# $$
# d_l(x) = \sqrt{\left(f_l(x) - \mu_l\right)^\top \Sigma_l^{-1} \left(f_l(x) - \mu_l\right)}, \qquad s(x) = \sum_l d_l(x) .
# $$ (eq-mahalanobis)
#
# With fewer images than channels, $\Sigma_l$ cannot be inverted, so it is shrunk towards a multiple of the identity by
# the amount that {cite:t}`ledoit2004` show to be asymptotically best in mean squared error. The sum over levels is the detector of {cite:t}`rippel2020`, on
# which the second paper of this book builds.

# %%
levels = [f"gaussian@{level}" for level in backbone.levels]
by_level = detection.run_all(
    detection.matrix([*levels, "gaussian"], "elpv", profile, seeds=[0])
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "AUROC of a Gaussian at each of nine levels and of their sum, for mono and poly cells, with interval bands"}, "figure": {"name": "fig-levels", "caption": "AUROC of a Gaussian at each level alone, and of the sum over all levels (rightmost). Grouped split; bands are 95 % intervals; dashed: chance. (Data: ELPV.)"}}
curve = detection.table(by_level)
curve["level"] = [method.partition("@")[2] or "sum" for method in curve["method"]]
figure = plots.level_profile(curve, level="level", hue="category")

# %% tags=["remove-input"]
curve["text"] = plots.with_interval(curve)
best = (
    curve[curve["level"] != "sum"]
    .sort_values("value")
    .groupby("category")
    .tail(1)
    .set_index("category")
)
total = curve[curve["level"] == "sum"].set_index("category")
Markdown(
    "\n".join(
        f"- **{material}**: the best single level is *{best.loc[material, 'level']}* with {best.loc[material, 'text']}; "
        f"the sum has {total.loc[material, 'text']}."
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
# A level's maps still know *where*. For three certainly defective cells, take at each stage the features of every
# position, and measure their Mahalanobis distance to the features of all positions of normal cells from other runs.

# %%
table = cells["poly"].annotations.open()
fold = grouped_folds(table)[0]
some_normal = fold.train[:: max(1, len(fold.train) // 40)]
defective = [row for row in fold.test if table["anomaly_class"][row] == "p = 1"][:3]
reference, unusual = (
    cached.features(
        Store(),
        cells["poly"].images[rows],
        backbone,
        settings.image_size,
        backbone.levels,
    )
    for rows in (some_normal, defective)
)
distance = {}
for level in backbone.levels[1:-1]:
    detector = detectors.make(f"patch-shared@{level}").fit(reference)
    distance[level] = detector.anomaly_map(unusual)

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
# The Gaussian is one way to say "far from normal". Others are below; a *patch* is one position of a level's map, with its
# channels as features.
#
# - **Neighbours**: the distance to the two nearest normal images {cite:p}`bergman2020`, at all levels or the last one.
# - **Patch Gaussian**: one Gaussian *at each position* of the maps, as in PaDiM {cite:p}`defard2021`; an image is as
#   unusual as its most unusual position. *Shared* means one Gaussian for all positions.
# - **Patch memory**: each patch's distance to the nearest of a set of representative normal patches, as in PatchCore
#   {cite:p}`roth2022`.
#
# Patch detectors use the last levels of strides 8 and 16. All are fitted on normal cells only. Our patch detectors follow
# their papers in the idea, not in every detail: the Gaussian uses all channels and Ledoit-Wolf shrinkage, the memory
# takes the plain distance (no re-weighting) and chooses from a random sample of patches.

# %%
methods = {
    "gaussian": "Gaussian, sum of levels",
    "neighbours": "neighbours, all levels",
    "neighbours@head": "neighbours, last level",
    "patch-gaussian": "patch Gaussian, by position",
    "patch-shared": "patch Gaussian, shared",
    "patch-memory": "patch memory",
}
records = detection.run_all(
    detection.matrix(
        list(methods), "elpv", profile, splits=["grouped", "random"], seeds=[0]
    )
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "AUROC with intervals of six detectors on mono and poly cells, for the grouped and the random split"}, "figure": {"name": "fig-detectors", "caption": "Six detectors on the same frozen network. AUROC for certain defects against normal cells of the same run with 95 % intervals, on runs never seen (grouped) and on runs seen in training (random). (Data: ELPV.)"}}
frame = detection.table(records, group="within group")
frame["detector"] = frame["method"].map(methods)
figure = plots.intervals(frame, row="detector", hue="split", column="category")

# %% [markdown]
# Intervals that overlap do not mean that two detectors are equal: both were tested on the same cells, so the question is
# whether their *difference* is clear of zero. Against the Gaussian, paired on the same cells, grouped split:

# %% tags=["hide-input"] mystnb={"image": {"alt": "Paired difference in AUROC of five detectors against the Gaussian, with intervals, for mono and poly"}, "figure": {"name": "fig-paired", "caption": "AUROC minus that of the Gaussian (sum of levels), paired on the same cells; dashed: no difference. Grouped split. (Data: ELPV.)"}}
grouped = {
    (r.experiment.category, r.experiment.variant): r
    for r in records
    if r.experiment.split == "grouped"
}
differences = pd.DataFrame(
    [
        {"detector": methods[name], "material": material}
        | detection.compare(record, grouped[material, "gaussian"])[
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
    f"Of {len(differences)} differences (not corrected for their number), {len(clear)} are clear of zero: "
    + "; ".join(
        f"{row.detector} on {row.material} ({row.value:+.3f} [{row.low:+.3f}, {row.high:+.3f}])"
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
    {m: detection.scores(grouped[m, "gaussian"]) for m in elpv.categories}
)

# %% tags=["hide-input"]
doubt = detection.table(grouped.values(), metric="spearman", group="grade")
doubt["detector"] = doubt["method"].map(methods)
doubt["text"] = plots.with_interval(doubt, ".2f")
shown = doubt.pivot(index="detector", columns="category", values="text")
shown.loc[list(methods.values())].rename_axis(index=None, columns=None)

# %% [markdown]
# A correlation can have more than one source. Grade by grade, against the normal cells of the same run, the AUROC of the
# Gaussian:

# %% tags=["hide-input"]
doubtful = ("p = 1/3", "p = 2/3", "p = 1")
by_grade = {
    m: {
        kind: detection.interval(grouped[m, "gaussian"], group=kind)
        for kind in doubtful
    }
    for m in elpv.categories
}
pd.DataFrame(
    {m: {kind: str(v) for kind, v in of.items()} for m, of in by_grade.items()}
)

# %% tags=["remove-input"]
ordered = [
    m
    for m, of in by_grade.items()
    if of["p = 1/3"].value < of["p = 2/3"].value < of["p = 1"].value
]
Markdown(
    "If the score measured what the experts weighed, these numbers would rise from grade to grade. They do so on "
    + (" and ".join(ordered) if ordered else "neither material")
    + ". What a detector finds unusual is not the same thing as what makes an expert doubt."
)

# %% [markdown]
# ## Where is the defect?
#
# A patch detector draws its evidence. The pictures below are chosen by score alone, so that they show failures as
# well: the defective cells with the *highest* and with the *lowest* scores, and the normal cells with the highest.

# %%
fold = max(grouped_folds(table), key=lambda fold: len(fold.test))
maps = detection.features_for("maps", None, settings, cells["poly"])
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
    "defects, highest scores": broken[::-1][:3],
    "defects, lowest scores": broken[:3],
    "normal, highest scores": sound[::-1][:3],
}

# %% tags=["hide-input"] mystnb={"image": {"alt": "Three rows of cells, each beside its heat map: defects with the highest scores, defects with the lowest, and normal cells with the highest"}, "figure": {"name": "fig-where", "caption": "Cells of one run and the evidence of the patch memory, fitted on other runs; one colour scale for all. In a cell that is dead all over, the question where has no answer. (Cells: ELPV, CC BY-NC-SA 4.0.)"}}
side = settings.image_size
evidence = {
    row: pixel_scores(detector.anomaly_map(maps.take(np.array([row])))[0], side)
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
figure = plots.image_sheet(sheets, size=1.3, aspect=2)

# %% [markdown]
# ELPV has no masks, so these are pictures and not measurements: nobody has marked where a defect is. The chapters on
# surfaces with masks measure localisation.
#
# ## The recorded runs
#
# The numbers above were computed when this page was built, at the profile's image size and with one seed. The same
# detectors at the network's native image size were run once and recorded with their provenance. Five seeds change the
# random folds and the patch memory's choice; with five runs per material the grouped folds are fixed.

# %% tags=["hide-input"] mystnb={"image": {"alt": "AUROC with intervals of six detectors from the recorded runs, on mono and poly cells, for the grouped and the random split"}, "figure": {"name": "fig-recorded", "caption": "Recorded study runs: AUROC for certain defects against normal cells of the same run; mean over seeds of the value and of the ends of its 95 % interval. (Data: ELPV.)"}}
recorded = [
    record
    for record in recorded_runs("detection", benchmark="elpv")
    if record.experiment.variant in methods
    and record.experiment.split in ("grouped", "random")
]
study = aggregate.mean_over_seeds(detection.table(recorded, group="within group"))
study["detector"] = study["method"].map(methods)
study["order"] = study["method"].map(list(methods).index)
study = study.sort_values(["order", "split"])
figure = plots.intervals(study, row="detector", hue="split", column="category")

# %% tags=["remove-input"]
axes = ["method", "category", "split"]
change = (study.set_index(axes)["value"] - frame.set_index(axes)["value"])[
    :, :, "grouped"
]
dates = sorted({r.provenance.date[:10] for r in recorded})
Markdown(
    f"{len(recorded)} runs at {recorded[0].settings['image_size']} px, recorded {' to '.join({dates[0]: 0, dates[-1]: 0})} on "
    f"{recorded[0].provenance.hardware}. Against the {settings.image_size} px of the runs above, more pixels raised the "
    f"AUROC on new runs in {(change > 0).sum()} of {len(change)} cases and lowered it in {(change < 0).sum()} "
    f"(from {change.min():+.3f} for {methods[change.idxmin()[0]]} on {change.idxmin()[1]} "
    f"to {change.max():+.3f} for {methods[change.idxmax()[0]]} on {change.idxmax()[1]})."
)

# %% tags=["remove-input"]
loss = study.set_index(axes)["value"].unstack("split")
loss = (loss["random"] - loss["grouped"]).groupby("category").agg(["min", "max"])
Markdown(
    "Depending on the detector, the random split's AUROC is higher than the grouped split's by "
    + " and ".join(
        f"{r['min']:.2f} to {r['max']:.2f} on {m}" for m, r in loss.iterrows()
    )
    + " in these runs: what a detector loses that has not met a run before, and has met more cells of others."
)

# %% [markdown]
# ```{admonition} What would surprise you
# :class: tip
# A network that was never shown a solar cell tells broken from sound ones, with nothing fitted but a mean and a
# covariance. But the detector that you would choose on runs that it knows need not be the one that you would choose for
# runs to come ({numref}`fig-detectors`). What the next parts learn has to be judged on that gap.
# ```
#
# ## What we learnt
#
# - Which level of a frozen network knows about defects depends on the material: look at {numref}`fig-levels` before you
#   believe a rule.
# - A detector's rank depends on the material *and* on the split. Compare by paired differences.
# - Choosing a level or a method by its test result is using the test labels.
# - More pixels are not more knowledge: measure ({numref}`fig-recorded`).
# - A score that separates certain defects need not know doubt.
#
# ## Exercises
#
# Three that check your answer, with folded solutions: [](exercises/frozen_features.ipynb). And three to try out here:
#
# 1. *Warm-up.* Replace the Mahalanobis distance by the Euclidean one (what is $\Sigma_l$ then?). Which levels suffer?
# 2. *Look closer.* Rank the channels of the level of your choice by how much they contribute to the distance of the
#    lowest-scoring defects of {numref}`fig-where`. Do the highest-scoring ones use the same channels?
# 3. *Research.* The sum gives each level the same weight although the deep ones have more channels, and so larger
#    distances. Find a weighting from normal images alone that does better on both materials. How will you know that
#    you did not use the test labels?
#
# ## Further reading
#
# - {cite:t}`yosinski2014`: the experiment that asked first which layers carry over to another task.
# - {cite:t}`kornblith2019better`: whether a network that is better on ImageNet is a better start elsewhere.
