# %% [markdown]
# # What matters
#
# **Question.** The last chapter fixed a protocol because the paper's is unknown to us. Which of its choices decide anything: the
# Gaussian, how it is estimated, the size and number of steps, the levels, the number of images, the stand-ins that stop it?
#
# ```{admonition} Before you start
# :class: note
# *Prerequisites:* [](09_finetuning.ipynb) (objective, validation, stopping rules). *You will be able to* read an ablation whose
# differences are paired and have intervals, and to turn "it gains little" into hypotheses that can fail.
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

from anomaly_transfer import (
    ablation,
    plots,
    profiles,
    tables,
    tuned,
    vicinal,
)

plots.use_style()
settings = profiles.get(profile)

# %% [markdown]
# ## One thing at a time
#
# Every variant changes one choice of the protocol and nothing else: the same start, the same normal images, the same held-out
# images, the same test images $T_s$ for each seed $s$. What is compared is a difference on those images,
#
# $$
# \Delta_v = \frac1S \sum_{s=1}^{S} \left[\mathrm{AUROC}\left(v, T_s\right) - \mathrm{AUROC}\left(\text{protocol}, T_s\right)\right],
# $$ (eq-ablation)
#
# with Student's 95 % interval over seeds. A seed draws the held-out images, the order of training and the stand-ins, and takes the
# next fold of the split, so that the interval holds for other images as well as for another run. Where the images are so few that
# folds come round again (mono cells have two that tell enough), it is too narrow.
#
# Said beforehand: a choice *matters* on a data set if its interval leaves out zero. With some twenty variants that is a screening, and not a
# test of each: one in twenty would be called without any effect.
#
# What "little" means is to be seen first, on this machine: bricks with drawn defects, one seed, the protocol and three
# remedies. `statistics-crossed` pulls each half of the images towards the Gaussian of the *other* half; `rate-1e-4` takes steps three
# times as large; `euclidean` leaves the covariance out.

# %%
variants = [tuned.DEFAULT, "statistics-crossed", "rate-1e-4", "euclidean"]
live = pd.concat(
    tuned.run("surfaces", "brick", variant, 0, profile).frame()
    for variant in variants
)

# %% tags=["hide-input"]
RULES = ["validation", "last epoch", tuned.ORACLE]
shown = live[(live["kind"] == "rule") & live["measure"].isin(RULES)]
shown = shown[["variant", "measure", "gain", "gain low", "gain high"]]
shown = shown.set_axis(["variant", "stopped by", "value", "low", "high"], axis=1)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Gain in AUROC over the frozen network with intervals for four variants and three stopping rules on bricks"}, "figure": {"name": "fig-live-variants", "caption": "Gain in AUROC over the frozen network on bricks, one seed, by variant and stopping rule; 95 % intervals over test images. The oracle looks at the test labels and is no method. Dashed: no gain. (Data: brick of scikit-image.)"}}
figure = plots.intervals(
    shown, row="variant", hue="stopped by", label="gain in AUROC", chance=0.0
)

# %% tags=["remove-input"]
at = shown.pivot(index="variant", columns="stopped by", values="value").loc[
    variants
]
ahead = [rule for rule in RULES[:2] if at[rule].idxmax() != tuned.DEFAULT]
Markdown(
    "At the last epoch: "
    + ", ".join(f"{name} {value:+.4f}" for name, value in at["last epoch"].items())
    + "; stopped by validation: "
    + ", ".join(f"{name} {value:+.4f}" for name, value in at["validation"].items())
    + ". One seed and one fold: these intervals hold for other images, not for another run."
)

# %% [markdown]
# ## Why so little? Hypotheses that can fail
#
# If fine-tuning gains little, something stands in its way. Each hypothesis names a remedy, and each remedy is a variant. The runs below
# are recorded at the `study` profile (up to 200 normal images at 128 px, 8 epochs) on mono cells.

# %% tags=["hide-input"]
recorded = pd.concat(table.frame() for table in tables.recorded("study", "tuned"))
recorded["where"] = recorded["benchmark"] + " " + recorded["category"]
mono = recorded[recorded["where"] == "elpv mono"]
why = pd.concat(
    ablation.hypotheses(mono, rule).assign(rule=rule) for rule in RULES[:2]
)
why["of"] = why["variant"] + why["seeds"].map(" ({})".format)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Paired differences in AUROC between variants of the protocol and the protocol, stopped by validation and at the last epoch, on mono cells"}, "figure": {"name": "fig-hypotheses", "caption": "AUROC of each variant minus that of the protocol, on the same mono cells: mean over seeds (their number in brackets) with 95 % intervals, stopped by validation and at the last epoch. Dashed: no difference. (Data: ELPV; recorded.)"}}
figure = plots.intervals(
    why, row="of", hue="rule", label="difference in AUROC", chance=0.0
)

# %% tags=["hide-input"]
final = why[why["rule"] == "last epoch"].drop(
    columns=["rule", "of", *ablation.WHERE]
)
final.set_index(["hypothesis", "variant"]).round(4)

# %% tags=["remove-input"]
up = final[final["verdict"] == "above zero"]
down = final[final["verdict"] == "below zero"]
Markdown(
    f"Of {len(final)} remedies, run to the last epoch, {len(up)} are better than the protocol beyond their interval"
    + (f" ({', '.join(up['variant'])})" if len(up) else "")
    + f", {len(down)} worse"
    + (f" ({', '.join(down['variant'])})" if len(down) else "")
    + f", and {len(final) - len(up) - len(down)} cannot be told apart from it. The largest difference is "
    f"{final['value'].max():+.4f} ({final.loc[final['value'].idxmax(), 'variant']})."
)

# %% [markdown]
# And what did the variants do to the network? The objective of the images that are trained on, the distance of those held out, the
# validation, and how alike the features of the test images are to those of the frozen network, from the start to the last epoch:

# %% tags=["hide-input"]
way = ablation.changes(mono).drop(columns=ablation.WHERE).set_index("variant")
names = {
    "cka": "CKA",
    tuned.WHITENED: "CKA, whitened",
    tuned.RANKS: "ranks of distances",
}
way = way.drop(columns=["svcca", "rsa"]).rename(columns=names)
way.sort_values("CKA", ascending=False).round(3)

# %% tags=["remove-input"]
last = ablation.gains(mono, ["last epoch"]).set_index("variant")["value"]
moved = way.join(last.rename("gain"))
crossed = way.loc["statistics-crossed"]
follows = moved[["held-out", "CKA", "gain"]].corr("spearman")["gain"]
fixed = way.loc["statistics-fixed", "held-out"]
Markdown(
    f"The protocol changes the distance of held-out normal images by {way.loc[tuned.DEFAULT, 'held-out']:+.1%}. Crossed statistics, "
    f"whose objective cannot be flattered, change it by {crossed['held-out']:+.1%}, a fixed Gaussian by {fixed:+.1%}. Over the "
    f"{len(moved)} variants, the gain at the last epoch has a rank correlation of {follows['CKA']:+.2f} with the likeness "
    f"to the frozen network (CKA), and of {follows['held-out']:+.2f} with the change of the held-out distance. "
    + (
        "What moved the network further gained more: on these images the protocol was too timid, and forgetting was not what "
        "stood in its way."
        if follows["CKA"] < -0.5
        else "How far a network moves does not by itself tell what it gains."
    )
)

# %% [markdown]
# ## Which stand-ins?
#
# The abstract calls the scheme *robust to the choice of augmentation* (claim P2.d). Each kind of stand-in can stop the same runs by
# itself. Regret is what the oracle had more:

# %% tags=["hide-input"]
default = recorded[recorded["variant"] == tuned.DEFAULT]
kinds = {f"validation by {kind}": kind for kind in vicinal.KINDS}
missed = ablation.regrets(default, ["validation", *kinds])
missed["where"] = missed["benchmark"] + " " + missed["category"]
missed["stand-ins"] = missed["rule"].map({"validation": "all six", **kinds})
of_kind = missed.pivot_table(
    index="stand-ins", columns="where", values="value", sort=False
)
of_kind.round(4)

# %% tags=["remove-input"]
single = of_kind.drop(index="all six")
spread = single.max() - single.min()
Markdown(
    f"Between the best and the worst kind lie {spread.min():.4f} to {spread.max():.4f} of AUROC, depending on the data set; the mean "
    f"regret of single kinds is {single.mean(axis=1).min():.4f} ({single.mean(axis=1).idxmin()}) to "
    f"{single.mean(axis=1).max():.4f} ({single.mean(axis=1).idxmax()}), that of all six together "
    f"{of_kind.loc['all six'].mean():.4f}."
)

# %% [markdown]
# ## On every benchmark
#
# `rate-1e-4` looked best on the first seed of mono cells, and was then run on all the others, where nothing had been looked at:

# %% tags=["hide-input"]
pair = recorded[recorded["variant"].isin([tuned.DEFAULT, "rate-1e-4"])]
everywhere = ablation.gains(pair, RULES)
everywhere["where"] = everywhere["benchmark"] + " " + everywhere["category"]

# %% tags=["hide-input"] mystnb={"image": {"alt": "Gain in AUROC over the frozen network on eight data sets for two learning rates and three stopping rules"}, "figure": {"name": "fig-everywhere", "caption": "Gain in AUROC over the frozen network: mean over seeds with 95 % intervals, at two learning rates. The oracle looks at the test labels and is no method. Dashed: no gain. (Data: ELPV, magnetic tiles, MVTec AD, CrackForest, MNIST, CIFAR-10, brick of scikit-image; recorded.)"}}
figure = plots.intervals(
    everywhere,
    row="where",
    hue="rule",
    column="variant",
    label="gain in AUROC",
    chance=0.0,
)

# %% tags=["remove-input"]
everywhere["sign"] = ablation.signs(everywhere)
count = everywhere.groupby(["variant", "rule", "sign"], sort=False).size()
count = count.unstack(fill_value=0)


def told(variant, rule):
    row = count.loc[(variant, rule)]
    part = everywhere[
        (everywhere["variant"] == variant) & (everywhere["rule"] == rule)
    ]
    return (
        f"{row.get('above zero', 0)} of {row.sum()} data sets above zero, {row.get('below zero', 0)} below "
        f"(mean {part['value'].mean():+.4f})"
    )


Markdown(
    "Beyond their intervals, gains are, with the protocol: stopped by validation, "
    + told(tuned.DEFAULT, "validation")
    + "; at the last epoch, "
    + told(tuned.DEFAULT, "last epoch")
    + ". At the larger rate: stopped by validation, "
    + told("rate-1e-4", "validation")
    + "; at the last epoch, "
    + told("rate-1e-4", "last epoch")
    + "."
)

# %% [markdown]
# ## The paper's own benchmark
#
# The paper reports MVTec AD, whose pictures are not ours to ship; of its fifteen categories one is among the data sets above. Its
# protocol, as far as the predecessor tells it (fifteen categories, five folds over the training images, the official test set,
# EfficientNet-B4 at its native size, mean and standard error over categories), is the profile `full`. With the data set in
# place ([](03_benchmarks.ipynb)) and a GPU it is one command, `make mvtec`; `ablation.over_categories` then gives the table.
#
# ## The plain answer
#
# The abstract names two results of its ablations (P2.d): the Gaussian is important, and the scheme is robust to the choice of
# augmentation.

# %% tags=["remove-input"]
gaussian = why[why["variant"].isin(["euclidean", "diagonal"])]
verdicts = [
    f"{row['variant']}, {row['rule']}: {row['value']:+.4f} [{row['low']:+.4f} {row['high']:+.4f}], {row['verdict']}"
    for _, row in gaussian.iterrows()
]
above = everywhere[everywhere["rule"] == "validation"]
above = above[above["variant"] == tuned.DEFAULT].set_index("where")["value"]
matters = (gaussian["verdict"] == "below zero").any()
Markdown(
    "*Is the Gaussian important?* As an objective, "
    + (
        "yes, on mono cells and in our protocol: "
        if matters
        else "not that our runs on mono cells could tell: "
    )
    + "; ".join(verdicts)
    + ". All are scored by the same full Gaussian; what the Gaussian is worth as a *score* is another question, "
    "answered in [](08_gaussian.ipynb).\n\n"
    f"*Is the scheme robust to the choice of augmentation?* The choice moves the result by {spread.median():.4f} "
    f"(median over {len(spread)} data sets, at most {spread.max():.4f}); the gain that it is there to secure is "
    f"{above.median():+.4f} in the median. "
    + (
        "A scheme whose choice of stand-ins moves the result by as much as it gains is not robust in a sense that would help: "
        "robust is then only that little is gained with any of them."
        if spread.median() >= abs(above.median())
        else "Against the gain, the choice is small."
    )
)

# %% [markdown]
# ```{admonition} What would surprise you
# :class: tip
# Look at which variants *moved* the network most in the table of changes, and at what they gained. The fear of forgetting makes for small
# steps; whether it is justified is an empirical question, and has to be asked with steps large enough to forget by.
# ```
#
# ## What we learnt
#
# - An ablation is a set of paired differences. Without intervals, most of this chapter's bars would tell a story of their own.
# - "It gains little" has several causes that a curve does not tell apart, and each wants a remedy that could fail.
# - A validation by stand-ins can only stop what it can see: its regret is part of the method's result.
#
# ## Exercises
#
# 1. *Warm-up.* Why is the objective of `statistics-crossed` higher at the start than that of the protocol, on the same network?
# 2. *Look closer.* Add `rate-3e-4` to the variants above, and compare its validation curve with that of the protocol. Is it noise that
#    stops it?
# 3. *Look closer.* Combine two remedies in a `Recipe`. Do their gains add up?
# 4. *Research.* Find a validation that sees normal images only and whose regret is smaller than that of the stand-ins. Fix it on
#    two data sets, and test it on the others.
