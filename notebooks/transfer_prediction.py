# %% [markdown]
# # Does similarity predict transfer?
#
# **Question.** The paper measures closeness and promises transfer. If closeness is what makes a source good, then where normal
# and anomalous are closer, more should be gained. Is it so?
#
# ```{admonition} Before you start
# :class: note
# *Prerequisites:* [](nearness.ipynb) (nearness) and [](source_domain.ipynb) (few shots, four starts). *You will be able to* test
# a predictor where it counts, on cases that it has not seen, and to tell a correlation within a data set from one
# between data sets.
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
from scipy.stats import spearmanr

from anomaly_transfer.analysis import transfer_prediction
from anomaly_transfer.claims import ledger
from anomaly_transfer.pages import executions, plots
from anomaly_transfer.studies import few_shot, normal_similarity, records
from anomaly_transfer.training import starts

plots.use_style()

# %% tags=["remove-cell", "nbval-ignore-output"]
# What this chapter takes, before it takes it (the site says it in the box above).
executions.announce("transfer_prediction", profile)

# %% [markdown]
# ## One row a case
#
# A *case* is an anomaly class of a category, seen by one network at one level. For each we know, from the last two chapters,
# how the class is related to the normal images and to photographs, and what five labelled images a class then reach: the
# AUROC of detection, and what training on normal images adds to it. No paper that we know of joins the two.
#
# Two things could be predicted, and they are not the same:
#
# - **how well** a class is detected. It would be odd if distance did not predict that: what lies far from normal is easy to
#   tell from it;
# - **what is gained** by learning from normal images. That is what the hypothesis promises: the closer the source, the more it
#   helps.

# %%
cases = [("surfaces", "brick"), ("elpv", "poly")]
runs = [(*case, start, 0, profile) for case in cases for start in starts.STARTS]
related = pd.concat(normal_similarity.run(*run).frame() for run in runs)
shots = pd.concat(few_shot.run(*run).frame() for run in runs)
found = transfer_prediction.join(related, shots)
found = found[found["anomaly_class"] != "control"]
found["where"] = found["benchmark"] + " " + found["category"]

# %% [markdown]
# ## How well a class is detected
#
# Rank correlation over the cases of each category and start, so that no difference *between* categories or networks can
# pose as a relation. (Levels still can: deeper ones have other distances and other AUROCs. The last column, which cannot
# depend on the class, shows how much that does.)

# %% tags=["hide-input"]
found["group"] = found["where"] + ", " + found["start"]
how_well = transfer_prediction.correlations(
    found, transfer_prediction.DETECTION, "group"
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Table of rank correlations of five predictors with the few-shot AUROC, for two categories and four starts"}, "figure": {"name": "fig-predict-auroc", "caption": "Rank correlation with the AUROC that five labelled images a class reach, over classes and levels. Blue: rises together; red: one rises as the other falls. Blank: too few cases with a scale. (Data: brick of scikit-image, ELPV.)"}}
figure = plots.correlation_table(how_well.T)

# %% tags=["remove-input"]
excess = how_well.loc["excess over normal"]
Markdown(
    f"The excess of a class over normal images (its nearness turned round, without the rival) correlates with detection by "
    f"{excess.min():.2f} to {excess.max():.2f}. The distance to photographs, by "
    f"{how_well.loc['distance to photographs'].min():.2f} to {how_well.loc['distance to photographs'].max():.2f}."
)

# %% [markdown]
# ## What is gained by normal images
#
# The same for the gain, which exists for the two starts that can be trained further. Two cautions. The gain is a difference
# from the AUROC before, with which nearness is correlated itself, so that noise in that one number makes a correlation. And
# where the "gain" is mostly a loss, a positive sign means that less is lost.

# %% tags=["hide-input"]
trained_further = found.dropna(subset=transfer_prediction.GAIN)
gained = transfer_prediction.correlations(
    trained_further, transfer_prediction.GAIN, "group"
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Table of rank correlations of five predictors with the gain by normal images, for two categories and two starts"}, "figure": {"name": "fig-predict-gain", "caption": "Rank correlation with the gain by self-supervised training on normal images, over classes and levels. (Data: brick of scikit-image, ELPV.)"}}
figure = plots.correlation_table(gained.T)

# %% tags=["remove-input"]
near = gained.loc["nearness"].dropna()
signs = "the same sign" if (near > 0).all() or (near < 0).all() else "both signs"
pooled = spearmanr(
    trained_further["nearness"],
    trained_further[transfer_prediction.GAIN],
    nan_policy="omit",
)
Markdown(
    f"Nearness correlates with the gain by {near.min():.2f} to {near.max():.2f}, with {signs} over {len(near)} groups. All "
    f"cases thrown together give {pooled.statistic:.2f}, a number that mixes what differs between the groups."
)

# %% [markdown]
# ## On cases that were not seen
#
# A correlation is not yet a prediction. A line is fitted on all other categories and asked about one. *Skill* is 1 if it is
# always right, 0 if it does no better than the mean of the others, and negative if it does worse.

# %% tags=["hide-input"]
skills = pd.concat(
    {
        outcome: transfer_prediction.skill(part, outcome, "where")
        for outcome, part in (
            (transfer_prediction.DETECTION, found),
            (transfer_prediction.GAIN, trained_further),
        )
    },
    axis=1,
)
skills.round(2)

# %% tags=["remove-input"]
best = {
    outcome: skills[outcome].min(axis=1).dropna()
    for outcome in (transfer_prediction.DETECTION, transfer_prediction.GAIN)
}
Markdown(
    "Predictors with positive skill on every category that was left out: "
    + "; ".join(
        f"for the {outcome}, {', '.join(worst.index[worst > 0]) or 'none'}"
        for outcome, worst in best.items()
    )
    + "."
)

# %% [markdown]
# ## On data sets that were not seen: recorded runs
#
# Two categories are few. The recorded runs have all benchmarks with pictures and classes, by all four networks at every other
# level. Rank correlations, again within a category and a start:

# %% tags=["hide-input"]
recorded_relations = records.frame("normal_similarity")
recorded_shots = records.frame("few_shot")
everything = transfer_prediction.join(recorded_relations, recorded_shots)
everything = everything[everything["anomaly_class"] != "control"]
everything["group"] = (
    everything["benchmark"]
    + " "
    + everything["category"]
    + ", "
    + everything["start"]
)
within = {
    outcome: transfer_prediction.correlations(
        everything.dropna(subset=outcome), outcome, "group"
    )
    for outcome in (transfer_prediction.DETECTION, transfer_prediction.GAIN)
}

# %% tags=["hide-input"]
spread = pd.concat(
    {
        outcome: pd.DataFrame(
            {
                "groups": found.notna().sum(axis=1),
                "median": found.median(axis=1),
                "lowest": found.min(axis=1),
                "highest": found.max(axis=1),
                "share above 0": (found > 0).sum(axis=1)
                / found.notna().sum(axis=1),
            }
        )
        for outcome, found in within.items()
    }
)
spread.round(2)

# %% [markdown]
# And the test that counts: a line is fitted on all other *benchmarks*, and asked about one.

# %% tags=["hide-input"]
left_out = pd.concat(
    {
        outcome: transfer_prediction.skill(
            everything.dropna(subset=outcome), outcome, "benchmark"
        )
        for outcome in (transfer_prediction.DETECTION, transfer_prediction.GAIN)
    }
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Table of the skill of five predictors of the few-shot AUROC, on each benchmark that was left out"}, "figure": {"name": "fig-left-out-auroc", "caption": "Recorded runs: skill at predicting the AUROC of five labelled images a class, on the benchmark that was left out. 1: always right; 0: no better than the mean of the other benchmarks; below 0: worse (in the colours, cut at −1). (Data: ELPV, magnetic tile, CrackForest, textures of scikit-image, MNIST, CIFAR-10 as a JPEG copy.)"}}
figure = plots.correlation_table(
    left_out.loc[transfer_prediction.DETECTION].T, label="skill"
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Table of the skill of five predictors of the gain by normal images, on each benchmark that was left out"}, "figure": {"name": "fig-left-out-gain", "caption": "The same for the gain by training on normal images. (Data: ELPV, magnetic tile, CrackForest, textures of scikit-image, MNIST, CIFAR-10 as a JPEG copy.)"}}
figure = plots.correlation_table(
    left_out.loc[transfer_prediction.GAIN].T, label="skill"
)

# %% tags=["remove-input"]
told = spread.loc[(transfer_prediction.DETECTION, "excess over normal")]
helped = spread.loc[(transfer_prediction.GAIN, "nearness")]
always = {
    outcome: [
        name
        for name, row in left_out.loc[outcome].iterrows()
        if (row.dropna() > 0).all() and row.notna().any()
    ]
    for outcome in (transfer_prediction.DETECTION, transfer_prediction.GAIN)
}
Markdown(
    f"Within groups, the excess over normal goes with detection (median {told['median']:.2f}, above zero in "
    f"{told['share above 0']:.0%} of {told['groups']:.0f} groups), and nearness with the gain by {helped['median']:.2f} in the "
    f"median, above zero in {helped['share above 0']:.0%} of {helped['groups']:.0f}. On benchmarks that were left out, "
    "predictors with positive skill everywhere: "
    + "; ".join(
        f"for the {outcome}, {', '.join(names) or 'none'}"
        for outcome, names in always.items()
    )
    + "."
)

# %% [markdown]
# ## Estimates that were made for this
#
# *Transferability* scores are meant to rank networks for a labelled task without training: the H-score
# {cite:p}`bao2019,ibrahim2022`, LogME {cite:p}`you2021` and, for a network with a classifier, LEEP {cite:p}`nguyen2020`. Do they
# rank the levels of the four networks as a cross-validated linear probe and nearest neighbours do?

# %% tags=["hide-input"]
scores = shots[shots["task"].isin(["hscore", "logme", "probe", "knn"])].pivot_table(
    index=["benchmark", "category", "start", "level"],
    columns="task",
    values="value",
)
ranks = pd.DataFrame(
    {
        " ".join(where): {
            f"{estimate} and {truth}": spearmanr(
                part[estimate], part[truth]
            ).statistic
            for estimate in ("hscore", "logme")
            for truth in ("probe", "knn")
        }
        for where, part in scores.groupby(["benchmark", "category"])
    }
)
ranks.round(2)

# %% tags=["remove-input"]
Markdown(
    f"Over {len(scores) // len(cases)} networks and levels a category, rank correlations lie between {ranks.min().min():.2f} "
    f"and {ranks.max().max():.2f}. (LEEP needs a classifier, so that it exists for one network and one level only and "
    "ranks nothing here.)"
)

# %% [markdown]
# ## Part I, claim by claim
#
# What the recorded runs say of the first paper's claims, with the thresholds that the ledger stated beforehand: the mean
# over cases with its interval. [The verdicts](verdicts.ipynb) explain the rule. It treats cases as
# independent, which classes of one data set are not: the true uncertainty is larger.

# %% tags=["hide-input"]
findings = ledger.recorded()
part_one = [claim for claim in ledger.claims() if claim.id.startswith("P1")]
board = ledger.board(part_one, findings).set_index("claim")
board[["verdict", "effect"]]

# %% tags=["remove-input"]
images_near, defects_near = (
    findings[name] for name in ("P1a-images", "P1a-defects")
)
Markdown(
    f"P1.a speaks of *each* class. Clearly near are {images_near.count('met')} of {len(images_near.cases)} classes as whole images, and "
    f"{defects_near.count('met')} of {len(defects_near.cases)} on the defect itself."
)

# %% [markdown]
# ```{admonition} What would surprise you
# :class: tip
# The first figure and the second need not agree. *Close* is what makes a source plausible, and *far* is what makes a class easy to
# see. Whoever reports that similarity "correlates with performance" must say with which, and with which sign.
# ```
#
# ## What we learnt
#
# - Ask what is predicted: being detected, or being helped.
# - Correlate within groups, and test on groups that were left out.
# - A score that ranks networks well on one data set has earned nothing yet on the next.
#
# ## Exercises
#
# Three that check your answer, with folded solutions: [](exercises/transfer_prediction.ipynb). And four to try out here:
#
# 1. *Warm-up.* Why may the distance from *normal* to photographs not depend on the anomaly class, and what does its column tell?
# 2. *Look closer.* Use detection with `k = 1` (all levels together) as the outcome. Do the signs stay?
# 3. *Look closer.* Add `("surfaces", "mono")` to the cases. What becomes of the skills?
# 4. *Research.* All predictors here look at distributions of single images. Design one that sees what training on normal images
#    *changes*, and test it on held-out benchmarks.
#
# ## Further reading
#
# - {cite:t}`agostinelli2022`: how much the ranking of transferability measures depends on the experiment that ranks them.
# - {cite:t}`simpson1951`: the paradox that makes us correlate within a benchmark, in a few pages.
