# %% [markdown]
# # Side by side
#
# **Question.** Every chapter so far had its own detectors and its own data. Put all of them on all benchmarks: does one win? And if none does, can
# one be made of several, without a single label, that is as good as the best of them everywhere?
#
# ```{admonition} Before you start
# :class: note
# *Prerequisites:* [](frozen_features.ipynb) (the detectors), [](benchmarks.ipynb) (the data). *You will be able to* compare many detectors over many
# data sets without fooling yourself, to weigh accuracy against cost, and to combine evidence by what it says of normal images.
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
from anomaly_transfer.data.splits import SPLITS
from anomaly_transfer.pages import executions, plots
from anomaly_transfer.studies import comparison, detection, records

plots.use_style()
settings = profiles.get(profile)
names = {
    "gaussian": "Gaussian",
    "svm": "one-class SVM",
    "forest": "isolation forest",
    "neighbours": "neighbours",
    "patch-gaussian": "patch Gaussian",
    "patch-shared": "shared patch Gaussian",
    "patch-memory": "patch memory",
}

# %% tags=["remove-cell", "nbval-ignore-output"]
# What this chapter takes, before it takes it (the site says it in the box above).
executions.announce("side_by_side", profile)

# %% [markdown]
# ## Everything on everything
#
# Seven detectors that see normal images only, on the same frozen network: recorded runs at the `study` profile, by the recommended split of each
# benchmark. Where a benchmark makes each class normal in turn, the mean over its classes is shown.

# %%
recorded = detection.recorded(names)
values = recorded.pivot_table(
    index=["benchmark", "category"], columns="method", values="value", sort=False
).dropna()[list(names)]
values = values.rename(columns=names)

# %% tags=["hide-input"] mystnb={"image": {"alt": "AUROC of seven detectors on every recorded data set, as a table shaded by value"}, "figure": {"name": "fig-side", "caption": "AUROC of seven detectors on frozen features; benchmarks of many classes as the mean over classes. Compare within a row. (Data: the benchmarks as named; recorded.)"}}
ten = values.groupby("benchmark").transform("size") >= 10
blocks = values.reset_index()
blocks["where"] = (blocks["benchmark"] + " " + blocks["category"]).where(
    ~ten.to_numpy(), blocks["benchmark"]
)
blocks = blocks.groupby("where", sort=False)[list(names.values())].mean()
figure = plots.heat_table(blocks.rename_axis(None))

# %% tags=["remove-input"]
best = blocks.idxmax(axis=1)
behind = blocks.max(axis=1).to_numpy()[:, None] - blocks
Markdown(
    f"On {len(blocks)} data sets the first place goes to "
    + ", ".join(f"the {name} {n} times" for name, n in best.value_counts().items())
    + ". How far each is behind the best where it does worst: "
    + "; ".join(
        f"{name} {behind[name].max():.2f} ({behind[name].idxmax()})"
        for name in behind.max().sort_values().index
    )
    + (
        ". Nobody who has to choose before seeing anomalies can rely on one."
        if best.nunique() > 1
        else ". One is best everywhere."
    )
)

# %% [markdown]
# ## Ranks, and what they are worth
#
# Averages of AUROC over data sets are ruled by the hard ones. The customary way out are *ranks*: on each data set the best detector gets 1, the next 2,
# and so on. Friedman's test asks whether any two differ in their mean rank, and Nemenyi's which {cite:p}`demsar2006`.

# %%
ranks, p_values, p_value = comparison.ranks(blocks)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Mean ranks of seven detectors on a line; bars join those that cannot be told apart"}, "figure": {"name": "fig-ranks", "caption": "Critical-difference diagram: mean rank of each detector over the data sets (in brackets; 1 is best). A bar joins detectors that cannot be told apart at the level of 0.05. (Data: the benchmarks as named; recorded.)"}}
figure = plots.critical_difference(ranks, p_values)

# %% tags=["remove-input"]
pairs = [(a, b) for k, a in enumerate(ranks.index) for b in ranks.index[k + 1 :]]
told = [(a, b) for a, b in pairs if p_values.loc[a, b] < 0.05]
Markdown(
    f"Friedman: p = {p_value:.3g}. Of {len(pairs)} pairs, {len(told)} can be told apart"
    + (": " + "; ".join(f"{a} before {b}" for a, b in told) if told else "")
    + f". With {len(blocks)} data sets such a test hears only what is loud. And a mean rank hides what the table shows: the one with the best rank can still be "
    "far behind on the data that you have."
)

# %% [markdown]
# ## One detector for all
#
# No detector is best everywhere, since each looks at something else: the Gaussian at the image as a whole, the patch detectors at its worst place. An anomaly
# need show in one of them only. But their scores have no common unit. Normal images give one: if $s_j$ is the score of part $j$, fit it in five folds on
# normal images, score the images left out, and take mean $m_j$ and standard deviation $d_j$ of $\log s_j$ over them. Then add,
#
# $$
# s(x) = \sum_j \frac{\log s_j(x) - m_j}{d_j} ,
# $$ (eq-combined)
#
# over the Gaussian, the patch Gaussian and the patch memory. No anomaly has a part in this, and nothing is tuned on a new surface.
#
# How it came about: several ways of adding (sums or maxima, of standardised scores, of their logarithms, of tail probabilities, with two parts or three) were
# tried on small pictures of mono cells and of bricks, the sum of logarithms of three was chosen by their test AUROC and fixed, and only then was it run on anything else. So the two say
# nothing about how good the choice is; the others do.
#
# When it had turned out to lose to its best part, other rules were tried on small pictures of mono cells, bricks and digits: the largest term, the logarithm of a sum of exponentials,
# sums of squares and cubes, and a likelihood ratio that knows how the terms correlate. What counted, and was written down first, was the largest loss to the best part; the sum had the smallest.
# A second round, with things as a fourth set and the mean of the heat map as a further term, came after a look at these numbers, and brought little. The patch Gaussian alone would be enough on cells and bricks, but falls far behind on the photographs of CIFAR-10: which part to trust is what the normal images did not tell.

# %% tags=["hide-input"]
study = records.frame("comparison")
study["where"] = study["benchmark"] + " " + study["category"]
more = study[study["rival"].isin(comparison.PARTS)].copy()
more["against"] = "minus " + more["rival"].map(names)
shown = more[["where", "against", "more", "more low", "more high"]].set_axis(
    ["where", "against", "value", "low", "high"], axis=1
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Paired differences in AUROC between the combined detector and each of its three parts, with intervals, on each data set"}, "figure": {"name": "fig-combined", "caption": "AUROC of the combined detector minus that of each of its parts, paired on the same images, with 95 % intervals. Dashed: no difference. (Data: the benchmarks as named; recorded.)"}}
figure = plots.intervals(
    shown, row="where", column="against", label="difference", chance=0.0
)

# %% tags=["remove-input"]
chosen_on = ["elpv mono", "surfaces brick"]
of_parts = study[study["rival"].isin(comparison.PARTS)]
best_part = comparison.best_of(study).set_index("where")
fresh = best_part.drop(index=chosen_on, errors="ignore")
mean = of_parts.groupby("rival")["value"].mean()
Markdown(
    "Against the best of the three parts, which nobody could have known (it is chosen by the test images): "
    + "; ".join(
        f"{where} {row['more']:+.3f} [{row['more low']:+.3f}, {row['more high']:+.3f}] ({names[row['rival']]})"
        for where, row in best_part.iterrows()
    )
    + f". On the {len(fresh)} data sets that had no part in the choice, it is clearly behind the best part on {(fresh['more high'] < 0).sum()}, clearly ahead on "
    f"{(fresh['more low'] > 0).sum()}. Mean AUROC over all {len(best_part)}: {study.groupby('where')['own'].first().mean():.3f}, the parts "
    + ", ".join(f"{value:.3f} ({names[name]})" for name, value in mean.items())
    + f", an oracle that takes the best part each time {best_part['value'].mean():.3f}."
)

# %% [markdown]
# ## Against another package
#
# Are our detectors as good as those that others use? anomalib is the library that most would take. Its PaDiM and its PatchCore are given the feature maps, the splits
# and the seed that ours have; `combined` sees the pooled features as well. PaDiM keeps a hundred channels at random and adds a fixed ridge, where our patch Gaussian keeps all and shrinks,
# so that a lead over this PaDiM says little of PaDiM. PatchCore keeps as many patches as our memory instead of a tenth of all, chosen among all instead of a sample, and weighs its score
# by the neighbourhood. Times are without the network, which all share; they were recorded on the maps of larger pictures than those on which costs are measured live below.

# %% tags=["hide-input"]
peers = records.frame("anomalib_comparison")
titles = {
    "anomalib-padim": "PaDiM",
    "anomalib-patchcore": "PatchCore",
}
peers["where"] = peers["benchmark"] + " " + peers["category"]
peers["against"] = "minus " + peers["rival"].map(titles)
shown = peers[["where", "against", "more", "more low", "more high"]].set_axis(
    ["where", "against", "value", "low", "high"], axis=1
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Paired differences in AUROC between the combined detector and two detectors of anomalib, with intervals, on each recorded data set"}, "figure": {"name": "fig-peers", "caption": "AUROC of the combined detector minus that of anomalib's PaDiM and PatchCore with the sizes given above, paired on the same images, with 95 % intervals. Dashed: no difference. (Data: the benchmarks as named; recorded.)"}}
figure = plots.intervals(
    shown, row="where", column="against", label="difference", chance=0.0
)

# %% tags=["hide-input"]
side = peers.set_index(["where", peers["rival"].map(titles).rename("peer")])
side = side[["value", "own", "fit", "own fit", "score", "own score"]]
side.set_axis(
    [
        f"{what}{whose}"
        for what in ("AUROC", "fit (s)", "score (ms)")
        for whose in ("", ", combined")
    ],
    axis=1,
).round(3)

# %% tags=["remove-input"]
ahead, behind_them = peers["more low"] > 0, peers["more high"] < 0
Markdown(
    f"Of {len(peers)} comparisons on {peers['where'].nunique()} data set(s) the combined detector is clearly ahead in {ahead.sum()} and clearly behind in {behind_them.sum()}; the largest lead of a peer is "
    f"{-peers['more'].min():.3f}. To fit, it took {(peers['own fit'] / peers['fit']).min():.1f} to {(peers['own fit'] / peers['fit']).max():.0f} times as long as the peer, "
    f"to score {(peers['own score'] / peers['score']).min():.1f} to {(peers['own score'] / peers['score']).max():.1f} times, on one processor and after one another."
    + "".join(
        f" On {row['where']} {titles[row['rival']]} has {row['value']:.3f}, the combined detector {row['own']:.3f}, and the best of its parts "
        f"{best_part.loc[row['where'], 'value']:.3f} ({names[best_part.loc[row['where'], 'rival']]}): "
        + (
            "what is lost is lost in adding."
            if best_part.loc[row["where"], "value"] >= row["value"]
            else "no part of it would have done."
        )
        for _, row in peers[behind_them].iterrows()
    )
)

# %% [markdown]
# What the best of the two leaves open is claim [W-combined-peers](../book/claims/W-combined-peers.md). anomalib and pyod also check our measures: AUROC, PRO, nearest neighbours and
# the Gaussian at a position are compared with theirs in tests that run with the extra `peers`, and agree.
# One trap is worth knowing: `ECOD` of pyod, a popular detector without parameters, ranks new images together with all others that are scored with them, so the score of
# an image depends on which others are scored with it. That is no detector for one picture at a time, and it is not compared here.
#
# ## What it costs
#
# One fold of bricks: seconds to fit, milliseconds to score an image, and megabytes of what has to be kept, all without the network that makes the features,
# which is the same for all.

# %%
brick = benchmarks.get("surfaces").load("brick", settings.limit)
fold = SPLITS["grouped"](brick.annotations.open(), 0)[0]
costs = comparison.costs(brick, fold, [*names, "combined"], settings)

# %% tags=["hide-input"] mystnb={"image": {"alt": "AUROC of eight detectors on one fold of bricks over the milliseconds that each needs to score an image"}, "figure": {"name": "fig-costs", "caption": "AUROC on one fold of bricks over the time to score an image, on a logarithmic axis. (Data: brick of scikit-image.)"}}
points = costs.rename(index=names | {"combined": "combined"}).reset_index()
points = points.rename(columns={"score": "milliseconds an image"})
figure = plots.trade(points, "milliseconds an image", "AUROC", "method")

# %% tags=["hide-input", "nbval-ignore-output"]
costs.rename(index=names).rename(
    columns={
        "fit": "fit (s)",
        "score": "score (ms an image)",
        "memory": "memory (MB)",
    }
).round(2)

# %% tags=["remove-input", "nbval-ignore-output"]
own = costs.loc["combined"]
parts = costs.loc[list(comparison.PARTS)]
Markdown(
    f"Fitting the combined detector takes {own['fit'] / parts['fit'].sum():.1f} times as long as fitting its parts once (each is fitted six times), and "
    f"scoring {own['score'] / parts['score'].sum():.1f} times as long as scoring with each of them. It keeps {own['memory']:.0f} MB, of which the patch Gaussian's "
    f"covariances are {parts.loc['patch-gaussian', 'memory'] / own['memory']:.0%}."
)

# %% [markdown]
# ## Where one sees what the other does not
#
# For each defective brick of this fold, which share of the normal ones does the Gaussian place below it, and which the patch memory? Left, the defects
# on which the Gaussian is most ahead; right, those on which the patch memory is.

# %% tags=["hide-input"]
kinds = brick.annotations.open()["anomaly_class"].to_numpy()[fold.test]
share = {}
for method in ("gaussian", "patch-memory"):
    detector = detectors.make(method, seed=0, memory_bank=settings.memory_bank)
    seen = detection.features_for(detector.kind, None, settings, brick)
    detector.fit(seen.take(fold.train))
    score = detector.anomaly_score(seen.take(fold.test))
    share[method] = np.searchsorted(np.sort(score[kinds == NORMAL]), score)
share = pd.DataFrame(share) / (kinds == NORMAL).sum()
defects = share[np.isin(kinds, benchmarks.get("surfaces").target_classes)]
lead = (defects["gaussian"] - defects["patch-memory"]).sort_values(
    kind="stable", ascending=False
)
order = np.r_[lead.index[:3], lead.index[-3:]]

# %% tags=["hide-input"] mystnb={"image": {"alt": "Six defective bricks with their masks: three that the Gaussian finds and the patch memory does not, and three the other way round"}, "figure": {"name": "fig-disagree", "caption": "Defective bricks on which two detectors disagree most: the Gaussian is ahead on the three at the left, the patch memory on the three at the right. (Data: brick of scikit-image.)"}}
pictures = [
    brick.images[row].convert("RGB").resize((128, 128)) for row in fold.test[order]
]
figure = plots.image_sheet(
    {"image": pictures, "defect": list(brick.masks(fold.test[order], 128))},
    mark=["defect"],
    columns=list(kinds[order]),
)

# %% tags=["remove-input"]
rows = defects.loc[order]
Markdown(
    "Share of normal bricks below each, by the Gaussian and by the patch memory: "
    + ", ".join(
        f"{row['gaussian']:.0%} and {row['patch-memory']:.0%} ({kinds[index]})"
        for index, row in rows.iterrows()
    )
    + f". Over all {len(defects)} defects the two agree by a rank correlation of {defects.corr('spearman').iloc[0, 1]:.2f}."
)

# %% [markdown]
# ```{admonition} What would surprise you
# :class: tip
# How near a sum comes to the best of its parts, though nobody told it which that is, and that it can still clearly lose to it: what is weighed by
# normal images is how far a score is out of the ordinary, and not whether that means a defect.
# ```
#
# ## What we learnt
#
# - Ask of a detector how far it falls behind where it does worst, not only how often it wins.
# - Ranks over a few data sets tell little; look at the differences on each.
# - Scores get a common unit from normal images alone, if those images were not fitted on.
#
# ## Exercises
#
# Three that check your answer, with folded solutions: [](exercises/side_by_side.ipynb). And four to try out here:
#
# 1. *Warm-up.* Why does {eq}`eq-combined` use out-of-fold scores? What would $m_j$ and $d_j$ of the patch memory be on images in its own memory?
# 2. *Look closer.* Replace the sum by the largest of the three terms (subclass `CombinedDetector`). On which kind of defect is it better?
# 3. *Look closer.* Leave the classes of CIFAR-10 and the digits in the rank test as thirty data sets instead of three. Which pairs can now be told
#    apart, and why should you not believe it?
# 4. *Research.* A part that is blind on a surface should weigh less. Find a weight that normal images alone can tell, fix it on two data sets, and test it on the
#    others.
#
# ## Further reading
#
# - {cite:t}`benavoli2017`: what to ask instead of whether a null hypothesis of equal methods can be rejected.
# - {cite:t}`akcay2022`: the library whose PaDiM and PatchCore are compared here.
