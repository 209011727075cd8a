# %% [markdown]
# # What matters
#
# **Question.** The last chapter fixed a protocol because the paper's is unknown to us. Which of its choices decide anything: the
# Gaussian, how it is estimated, the size and number of steps, the levels, the number of images, the stand-ins that stop it?
#
# ```{admonition} Before you start
# :class: note
# *Prerequisites:* [](finetuning.ipynb) (objective, validation, stopping rules). *You will be able to* read an ablation whose
# differences are paired and have intervals, and to turn "it gains little" into hypotheses that can fail.
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

from anomaly_transfer import profiles
from anomaly_transfer.analysis import ablation
from anomaly_transfer.claims import ledger
from anomaly_transfer.metrics import aggregate
from anomaly_transfer.pages import executions, plots
from anomaly_transfer.studies import finetuning, records
from anomaly_transfer.training import pseudo_anomalies

plots.use_style()
settings = profiles.get(profile)

# %% tags=["remove-cell", "nbval-ignore-output"]
# What this chapter takes, before it takes it (the site says it in the box above).
executions.announce("ablation", profile)

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
# next fold of the split. Training images of folds overlap, and mono cells have only two folds that tell enough, so that five seeds see
# two test sets there: the interval is a lower bound of the uncertainty.
#
# Said beforehand: a choice *matters* on a data set if its interval leaves out zero. With many variants that is a screening, and not a
# test of each: one in twenty would be called without any effect.
#
# What "little" means is to be seen first, on this machine: bricks with drawn defects, one seed, the protocol and three
# remedies. `statistics-crossed` pulls each half of the images towards the Gaussian of the *other* half; `rate-1e-4` takes steps three
# times as large; `euclidean` leaves the covariance out.

# %%
variants = [finetuning.DEFAULT, "statistics-crossed", "rate-1e-4", "euclidean"]
live = pd.concat(
    finetuning.run("surfaces", "brick", variant, 0, profile).frame()
    for variant in variants
)

# %% tags=["hide-input"]
RULES = ["validation", "last epoch", finetuning.ORACLE]
shown = live[(live["kind"] == "rule") & live["measure"].isin(RULES)]
shown = shown[["variant", "measure", "gain", "gain low", "gain high"]]
shown = shown.set_axis(["variant", "stopped by", "value", "low", "high"], axis=1)
shown.loc[shown["stopped by"] == finetuning.ORACLE, ["low", "high"]] = np.nan

# %% tags=["hide-input"] mystnb={"image": {"alt": "Gain in AUROC over the frozen network with intervals for four variants and three stopping rules on bricks"}, "figure": {"name": "fig-live-variants", "caption": "Gain in AUROC over the frozen network on bricks, one seed, by variant and stopping rule; 95 % intervals over test images. The oracle looks at the test labels and is no method; its gain is never negative, so it has no interval. Dashed: no gain. (Data: brick of scikit-image.)"}}
figure = plots.intervals(
    shown, row="variant", hue="stopped by", label="gain in AUROC", chance=0.0
)

# %% tags=["remove-input"]
at = shown.pivot(index="variant", columns="stopped by", values="value").loc[
    variants
]
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
# are recorded at the `study` profile (up to 200 normal images at 128 px, 8 epochs) on mono cells, whose defects are real and whose folds
# are two, and on bricks, whose defects are drawn and whose folds are five.

# %% tags=["hide-input"]
recorded = records.frame("finetuning")
recorded["where"] = recorded["benchmark"] + " " + recorded["category"]
tested = recorded[recorded["where"].isin(["elpv mono", "surfaces brick"])]
why = pd.concat(
    ablation.hypotheses(tested, rule).assign(rule=rule) for rule in RULES[:2]
)
why["where"] = why["benchmark"] + " " + why["category"]

# %% tags=["hide-input"] mystnb={"image": {"alt": "Paired differences in AUROC between variants of the protocol and the protocol, stopped by validation and at the last epoch, on mono cells and bricks"}, "figure": {"name": "fig-hypotheses", "caption": "AUROC of each variant minus that of the protocol, on the same images: mean over seeds with 95 % intervals, stopped by validation and at the last epoch. Points without a bar have one seed. Dashed: no difference. (Data: ELPV; brick of scikit-image; recorded.)"}}
figure = plots.intervals(
    why,
    row="variant",
    hue="rule",
    column="where",
    label="difference in AUROC",
    chance=0.0,
)

# %% tags=["hide-input"]
final = why[why["rule"] == "last epoch"].reset_index(drop=True)
final["difference"] = ablation.formatted(final) + final["seeds"].map(
    ", n = {}".format
)
final.pivot_table(
    index=["hypothesis", "variant"],
    columns="where",
    values="difference",
    aggfunc="first",
    sort=False,
).fillna("")

# %% tags=["remove-input"]
best = final.sort_values("value").iloc[-1]
up = final[final["verdict"] == "above zero"]
down = final[final["verdict"] == "below zero"]
judged = final["low"].notna().sum()
Markdown(
    f"Of {len(final)} cases of remedy and data set, run to the last epoch, {len(up)} are better than the protocol beyond their interval"
    + (f" ({', '.join(up['variant'] + ' on ' + up['where'])})" if len(up) else "")
    + f", {len(down)} worse"
    + (
        f" ({', '.join(down['variant'] + ' on ' + down['where'])})"
        if len(down)
        else ""
    )
    + f", and {judged - len(up) - len(down)} cannot be told apart from it; {len(final) - judged} have one seed and no interval. The largest "
    f"difference is {ablation.formatted(final)[best.name]} ({best['variant']} on {best['where']}), the largest of {len(final)}, and so flattered. Of "
    f"{judged} intervals {0.05 * judged:.1f} would leave out zero by chance alone."
)

# %% [markdown]
# And what did the variants do to the network? The objective of the images that are trained on, the distance of those held out, the
# validation, and how alike the features of the test images are to those of the frozen network, from the start to the last epoch. (The
# first two are relative changes, the third is a difference of AUROC, the others are the likeness at the last epoch.)

# %% tags=["hide-input"]
way = ablation.changes(tested)
way["where"] = way["benchmark"] + " " + way["category"]
way = way.drop(columns=ablation.WHERE).set_index(["where", "variant"])
names = {
    "cka": "CKA",
    finetuning.WHITENED: "CKA, whitened",
    finetuning.RANKS: "ranks of distances",
}
way = way.drop(columns=["svcca", "rsa"]).rename(columns=names)
way.sort_values(["where", "CKA"], ascending=[True, False]).round(3)

# %% tags=["remove-input"]
crossed, base, fixed = (
    way.xs(name, level="variant")
    for name in ("statistics-crossed", finetuning.DEFAULT, "statistics-fixed")
)


def change(part, column):
    return ", ".join(
        f"{value:+.1%} ({where})" for where, value in part[column].items()
    )


flattered = (crossed["objective"] < crossed["held-out"].clip(upper=0)).sum()
Markdown(
    f"The protocol changes the distance of held-out normal images by {change(base, 'held-out')}. Crossed statistics, whose Gaussian "
    "has not seen the images that it pulls (the network has seen both halves), change their objective by "
    f"{change(crossed, 'objective')} and the held-out distance by {change(crossed, 'held-out')}: the objective falls more than the "
    f"held-out distance on {flattered} of {len(crossed)} data sets, and where it does, it is not the Gaussian alone that flatters. A "
    f"fixed Gaussian, which is another ruler (the frozen network's), finds {change(fixed, 'held-out')}. The least likeness to the "
    f"frozen network (CKA) is {way['CKA'].min():.2f} ({way['CKA'].idxmin()[1]})."
)

# %% [markdown]
# ## Which stand-ins?
#
# The abstract calls the scheme *robust to the choice of augmentation* (claim P2.d). Each kind of stand-in can stop the same runs by
# itself. Regret is what the oracle had more:

# %% tags=["hide-input"]
default = recorded[recorded["variant"] == finetuning.DEFAULT]
kinds = {f"validation by {kind}": kind for kind in pseudo_anomalies.KINDS}
missed = ablation.regrets(default, ["validation", *kinds])
missed["where"] = missed["benchmark"] + " " + missed["category"]
missed["stand-ins"] = missed["rule"].map({"validation": "all six", **kinds})
of_kind = missed.pivot_table(
    index="stand-ins", columns="where", values="value", sort=False
)
of_kind.round(4)

# %% tags=["hide-input"]
each = default[(default["kind"] == "rule") & default["measure"].isin(kinds)]
whole = default[(default["kind"] == "rule") & (default["measure"] == "validation")]
whole = whole.set_index(["where", "seed"])["value"].rename("whole")
each = each.join(whole, on=["where", "seed"])
apart = aggregate.over_seeds(
    each.assign(value=each["value"] - each["whole"]), ["where", "measure"]
)
apart["sign"] = ablation.signs(apart)
chance = ablation.by_patience(default, [])["value"].mean()

# %% tags=["remove-input"]
single = of_kind.drop(index="all six").mean(axis=1)
count = apart["sign"].value_counts()
differ = count.get("above zero", 0) + count.get("below zero", 0)
Markdown(
    f"Mean regret over the data sets: {single.min():.4f} ({single.idxmin()}) to {single.max():.4f} ({single.idxmax()}) for single kinds, "
    f"{of_kind.loc['all six'].mean():.4f} for all six together, and {chance:.4f} for an epoch drawn at random. Paired with all six, a single "
    f"kind differs beyond its interval in {differ} of {len(apart)} cases of kind and data set ({0.05 * len(apart):.1f} would by chance)."
)

# %% [markdown]
# ## On every benchmark
#
# `rate-1e-4` looked best on the first seed of mono cells, by the test labels. That is selection, so mono cells say no more about it. It
# was then run on the other data sets, and is compared with the protocol there, paired by seed:

# %% tags=["hide-input"]
others = recorded[recorded["where"] != "elpv mono"]
others = others[others["variant"].isin([finetuning.DEFAULT, "rate-1e-4"])]
faster = pd.concat(
    ablation.differences(others, rule).assign(rule=rule) for rule in RULES[:2]
)
faster["where"] = faster["benchmark"] + " " + faster["category"]
faster["of"] = faster["where"] + faster["seeds"].map(" ({})".format)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Difference in AUROC between the larger learning rate and the protocol, by data set, stopped by validation and at the last epoch"}, "figure": {"name": "fig-everywhere", "caption": "AUROC at about three times the learning rate minus that of the protocol, on the same images: mean over seeds (their number in brackets) with 95 % intervals, stopped by validation and at the last epoch. Points without a bar have one seed. Dashed: no difference. (Data: the benchmarks as named; recorded.)"}}
figure = plots.intervals(
    faster, row="of", hue="rule", label="difference in AUROC", chance=0.0
)

# %% tags=["remove-input"]
faster["sign"] = ablation.signs(faster)


def told(rule):
    part = faster[faster["rule"] == rule]
    n = part["sign"].value_counts()
    return (
        f"better beyond its interval on {n.get('above zero', 0)} of {len(part)} data sets and worse on {n.get('below zero', 0)} "
        f"({part['value'].min():+.4f} to {part['value'].max():+.4f})"
    )


Markdown(
    "Stopped by validation, the larger rate is "
    + told("validation")
    + "; at the last epoch, "
    + told("last epoch")
    + ". A rate that was chosen on one data set is a conjecture about the others."
)

# %% [markdown]
# ## The paper's own benchmark
#
# The paper reports MVTec AD, whose pictures are not ours to ship; of its fifteen categories one is among the data sets above. Its
# protocol, as far as the predecessor tells it (fifteen categories, five folds over the training images, the official test set,
# EfficientNet-B4 at its native size, mean and standard error over categories), is the profile `full`. With the data set in
# place ([](benchmarks.ipynb)) and a GPU it is one command, `make mvtec`; `ablation.over_categories` then gives the table.
#
# ## The plain answer
#
# The abstract names two results of its ablations (P2.d): the Gaussian is important, and the scheme is robust to the choice of
# augmentation. What the Gaussian is worth as a *score* is in {numref}`fig-distances-everywhere`, and all variants are scored by it; here it
# is on trial as the *objective*.

# %% tags=["remove-input"]
gaussian = why[why["variant"].isin(["euclidean", "diagonal"])]
gaussian = gaussian[gaussian["rule"] == "last epoch"].set_index(
    ["variant", "where"]
)
unclear = gaussian["verdict"] == "not told apart from zero"
ways = set(gaussian["verdict"])
answer = {
    ("above zero",): "leaving it out was better where it could be told (",
    ("below zero",): "yes, where it could be told (",
    (): "our runs cannot tell (none of the cases",
}.get(tuple(ways - {"not told apart from zero"}), "it depends on the data set (")

doubtful = ledger.recorded()["P2d-stand-ins"]
within = next(c.threshold for c in ledger.claims() if c.id == "P2d-stand-ins")
far = apart.loc[apart["value"].abs().idxmax()]
stop = ablation.gains(default, ["validation"])["value"]


# %% tags=["remove-input"]
def listed(cases):
    return "; ".join(
        f"{name} on {where} {words}"
        for (name, where), words in ablation.formatted(cases).items()
    )


Markdown(
    "*Is the Gaussian important?* As an objective, judged at the last epoch, "
    + answer
    + listed(gaussian[~unclear])
    + f"); it could not be told of {listed(gaussian[unclear]) or 'none'}.\n\n"
    "*Is the scheme robust to the choice of augmentation?* "
    f"Of {len(doubtful.cases)} cases of kind and data set, {doubtful.count('met')} lie within ±{within} of all six together by their whole "
    f"interval, {doubtful.count('open')} may or may not, and {doubtful.count('missed')} does not. The farthest is {far['measure'].removeprefix('validation by ')} on "
    f"{far['where']}: {far['value']:+.3f} [{far['low']:+.3f}, {far['high']:+.3f}]. So most kinds do as well, and a single one can do much worse, where "
    "there is something to lose. "
    f"And the change of AUROC that the whole rule brings is {stop.median():+.4f} in the median over data sets ({stop.min():+.4f} to "
    f"{stop.max():+.4f}), and where little is gained, every choice is as good as another."
)

# %% [markdown]
# ```{admonition} What would surprise you
# :class: tip
# How far some variants *moved* the network, in the table of changes, and how little of that shows in the AUROC. The fear of forgetting
# makes for small steps; whether it is justified has to be asked where something is forgotten: with larger steps, or on the one data
# set of [the last chapter](finetuning.ipynb) on which small ones did it.
# ```
#
# ## What we learnt
#
# - An ablation is a set of paired differences. Without intervals, most of this chapter's bars would tell a story of their own.
# - "It gains little" has several causes that a curve does not tell apart, and each wants a remedy that could fail.
# - A stopping rule is part of the method, and its regret part of the result; so is what an epoch drawn at random would have had.
#
# ## Exercises
#
# Three that check your answer, with folded solutions: [](exercises/ablation.ipynb). And four to try out here:
#
# 1. *Warm-up.* At the start, `statistics-crossed` has a larger objective than the protocol on the same network (look at `loss` of epoch 0 in
#    `live`). Why?
# 2. *Look closer.* Add `rate-3e-4` to the variants above, and draw its validation with `ablation.paths(live)`. Is it noise that stops it?
# 3. *Look closer.* Combine two remedies: add an entry to `finetuning.RECIPES`, and its name to `finetuning.VARIANTS`. Do their gains add up?
# 4. *Research.* Find a validation that sees normal images only and whose regret is smaller than that of the stand-ins. Fix it on
#    two data sets, and test it on the others.
#
# ## Further reading
#
# - {cite:t}`bouthillier2021`: which sources of variance a benchmark must repeat over, and which are only cheap to repeat.
# - {cite:t}`lipton2019`: four habits of machine-learning papers; an ablation answers one of them.
