# %% [markdown]
# # Labels or transfer?
#
# **Question.** A pre-trained network that is given labelled anomalies beats a one-class method that is given neither. How much of that
# is the network, how much the labels, and what becomes of it when the next anomaly is of a kind that nobody has labelled?
#
# ```{admonition} Before you start
# :class: note
# *Prerequisites:* [](one_class.ipynb) (what one-class methods rest on), [](nearness.ipynb) (source and target).
# *You will be able to* take a confounded comparison apart with a factorial design, and to say from how many labels on they pay.
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

from anomaly_transfer.claims import published
from anomaly_transfer.metrics import aggregate
from anomaly_transfer.pages import executions, explorers, plots
from anomaly_transfer.studies import (
    deep_one_class,
    linear_probe,
    records,
    supervised,
)
from anomaly_transfer.studies.linear_probe import (
    ALL,
    EXPOSURE,
    ON_PIXELS,
    SEEN,
    UNSEEN,
    WITH,
    WITHOUT,
)

plots.use_style()

# %% tags=["remove-cell", "nbval-ignore-output"]
# What this chapter takes, before it takes it (the site says it in the box above).
executions.announce("labels", profile)

# %% [markdown]
# ## The claim, and what is mixed up in it
#
# **P3.a**: deep transfer learning with CNNs beats one-class methods; **P3.b**: the average AUROC is 0.99, an average improvement of 41 % on
# CIFAR-10, 20 % on MNIST and 16 % on concrete cracks over what was known before {cite:p}`minhas2019`. We know the abstract only: which
# network, how many labelled anomalies and which baselines stand behind these numbers is unknown to us. What the abstract says is enough to
# see that two things change at once:
#
# | | no labelled anomaly | labelled anomalies |
# |---|---|---|
# | **features that owe nothing to other data** | $A$: one-class methods | $C$ |
# | **transferred features** | $B$: the first half of this book | $D$: the paper's method |
#
# The paper compares $D$ with some form of $A$. The two missing cells tell what each of the two is worth. With both main effects and the interaction,
#
# $$
# \begin{aligned}
# \underbrace{D - A}_{\text{both}} &= \underbrace{\tfrac12[(C-A)+(D-B)]}_{\text{labels}} + \underbrace{\tfrac12[(B-A)+(D-C)]}_{\text{transfer}} , \\
# \text{interaction} &= (D-C)-(B-A) .
# \end{aligned}
# $$ (eq-factorial)
#
# The two main effects add up to $D - A$ by themselves, since each is averaged over the other. The interaction is what $D - A$ has beyond
# the two gains over $A$ alone, $(C-A)+(B-A)$. If it is negative, one can partly be had instead of the other; near an AUROC of 1 it may
# also be negative because there is no room left. In our $A$ and $C$ the features are those of the same network with random parameters,
# so that nothing but the parameters differs between the rows.
#
# ## Our protocol
#
# Source and target share no group, as in [](nearness.ipynb). From the source come *all* normal images (they are not what is scarce)
# and $k$ labelled anomalies, from each type in turn. On the frozen features a linear head is fitted, in which both classes weigh the
# same. It is tested on the target, type by type, in two ways: **types seen**, where the labelled anomalies are of all types, and **types
# unseen**, where they are of all types *but* the one that is tested. Without labels, we take the best of three detectors (Gaussian, nearest
# neighbours, SVM) on the same features. "Best" is chosen by the test labels: where labels win here, they win against an opponent
# who was helped. A third way is **outlier exposure**: photographs and surfaces that have nothing to do with the task stand in for
# anomalies.
#
# Every draw has its own labelled images (unless all are used) and its own resample of the target's images (whole groups where there are
# many, else images), the same for all starts and detectors. Bands hold the middle 95 % of a few dozen draws at most: their ends are
# hardly more than the lowest and the highest draw. Said beforehand: an effect counts if its band leaves out zero.

# %%
live = pd.concat(
    linear_probe.run(benchmark, category, start, 0, profile).frame()
    for benchmark, category in (("surfaces", "brick"), ("elpv", "mono"))
    for start in (WITHOUT, WITH)
)

# %% [markdown]
# ## From none to all
#
# Drawn defects of five types on bricks. At 0 stands the best detector without labels.

# %% tags=["hide-input"]
lines = pd.concat(
    linear_probe.along_shots(live[live["category"] == "brick"], method).assign(
        method=method
    )
    for method in (SEEN, UNSEEN)
)
lines["line"] = lines["start"] + ", " + lines["method"]

# %% tags=["hide-input"] mystnb={"image": {"alt": "AUROC on bricks against the number of labelled anomalies, for random and ImageNet features, types seen and unseen"}, "figure": {"name": "fig-shots-labels", "caption": "Drawn defects on bricks: AUROC by the number of labelled anomalies, on random and on transferred features, for types that are among the labelled ones and for types that are not; bands hold 95 % of draws. Dashed: chance. (Data: brick of scikit-image.)"}}
figure = plots.level_profile(lines, "labels", "line", xlabel="labelled anomalies")

# %% tags=["hide-input"]
parts = linear_probe.gains(live)
parts["where"] = parts["benchmark"] + " " + parts["category"]
parts.pivot(index="where", columns="part", values="value")[
    ["labels", "transfer", "interaction", "both", "as published"]
].round(3)

# %% tags=["remove-input"]
at = lines.set_index(["start", "method", "labels"])["value"]


def step(start, method):
    return at[start, method, "all"] - at[start, method, "0"]


brick = parts[parts["category"] == "brick"].set_index("part")["value"]
Markdown(
    f"On bricks all labels add {step(WITHOUT, SEEN):+.3f} to the best detector on random features and {step(WITH, SEEN):+.3f} on "
    f"transferred ones; for types unseen {step(WITHOUT, UNSEEN):+.3f} and {step(WITH, UNSEEN):+.3f}. One labelled anomaly alone "
    f"changes the AUROC of types seen by {at[WITH, SEEN, '1'] - at[WITH, SEEN, '0']:+.3f} on transferred features. By the equation above: labels "
    f"{brick['labels']:+.3f}, transfer {brick['transfer']:+.3f}, together {brick['both']:+.3f}. With a one-class SVM on pixels "
    f"in the place of $A$, the kind of opponent that the paper may have had, it would be {brick['as published']:+.3f} (*as published*)."
)

# %% [markdown]
# ## On each benchmark: recorded runs
#
# The same at the `study` profile (larger pictures, more images, so other numbers than live): labels, transfer and their interaction. With all labels nothing is left to draw
# but the test images, so these bands tell what other test images would have given, with the same heads and detectors. They do not cover
# other labelled images, other normal images or another division into source and target (there is one, seed 0); and where the target
# has few groups, images are resampled as if they were independent, which makes bands too narrow if those of one group are alike.

# %% tags=["hide-input"]
recorded = records.frame("linear_probe")
recorded["where"] = recorded["benchmark"] + " " + recorded["category"]
effects = linear_probe.gains(recorded[recorded["seed"] == 0])
effects["where"] = effects["benchmark"] + " " + effects["category"]
main = effects[effects["part"].isin(["labels", "transfer", "interaction"])]

# %% tags=["hide-input"] mystnb={"image": {"alt": "Main effects of labels and of transfer and their interaction on the AUROC, with intervals, for each recorded benchmark"}, "figure": {"name": "fig-effects", "caption": "Main effects of labels and of transfer, and their interaction (what both bring beyond the sum of what each brings alone), in AUROC: all labelled anomalies of all types against none, features from ImageNet against random ones; bands hold 95 % of draws. Dashed: nothing. (Data: the benchmarks as named; recorded.)"}}
figure = plots.intervals(main, row="where", hue="part", label="AUROC", chance=0.0)

# %% tags=["remove-input"]
wide = effects.pivot(index="where", columns="part", values="value")
low = effects.pivot(index="where", columns="part", values="low")
high = effects.pivot(index="where", columns="part", values="high")
first = wide["transfer"] > wide["labels"]


def clear(part):
    return f"{(low[part] > 0).sum()} up and {(high[part] < 0).sum()} down of {len(wide)}"


Markdown(
    f"Beyond their band, labels are {clear('labels')}, transfer is {clear('transfer')}, and the interaction is {clear('interaction')}. "
    f"By the mean alone, transfer is worth more than labels on {first.sum()} of {len(wide)} ({', '.join(wide.index[first])}); how many of them are "
    "clear, over all seeds, is claim [W-transfer-over-labels](../book/claims/W-transfer-over-labels.md). Means over these data sets: labels "
    f"{wide['labels'].mean():+.3f}, transfer {wide['transfer'].mean():+.3f}. There are {recorded['draw'].nunique()} draws."
)

# %% [markdown]
# One division is one throw of a die. The same from other seeds: their means, with Student's 95 % interval over seeds, widened because each seed divides the
# same images {cite:p}`nadeau2003` (everywhere alike, though it is needed only where the division changes). A seed changes the random network, the
# labelled images and the resamples everywhere; it changes the division into source and target where that is drawn (bricks, tiles, roads),
# and not where the split is official (MNIST, CIFAR-10) or the groups are few (solar cells): there the interval says nothing about other divisions.

# %% tags=["hide-input"]
every = linear_probe.gains(recorded)
every["where"] = every["benchmark"] + " " + every["category"]
# Source and target are halves: as many images are tested as are not.
over = aggregate.over_seeds(every, ["where", "part"], overlap=1.0)
over["told"] = plots.with_interval(over, "+.3f")
over.pivot(index="where", columns="part", values="told")[
    ["labels", "transfer", "interaction", "as published"]
].join(over.groupby("where")["seeds"].first())

# %% tags=["remove-input"]
repeated = over[over["seeds"] > 1].set_index(["part", "where"])
same = {
    part: every[every["part"] == part]
    .groupby("where")["value"]
    .agg(lambda v: abs(np.sign(v).sum()) == len(v))
    .sum()
    for part in ("labels", "transfer", "interaction")
}
Markdown(
    f"The sign is the same from every seed: labels on {same['labels']}, transfer on {same['transfer']}, interaction on {same['interaction']} of "
    f"{every['where'].nunique()} data sets. Over seeds, the interval is above zero for labels on "
    f"{(repeated.loc['labels', 'low'] > 0).sum()}, for transfer on {(repeated.loc['transfer', 'low'] > 0).sum()} of "
    f"{len(repeated.loc['labels'])} data sets with more than one seed."
)

# %% [markdown]
# ## The claim, read in the light of it
#
# We read the abstract's percentages as relative improvements of the AUROC, which it does not say. Ours, from the one-class SVM on pixels to all labels on transferred features, and what is
# it is against the best of three detectors that are given the transferred features too, but no label (seed 0; the claims' pages have means
# over seeds):

# %% tags=["hide-input"]
names = {"cifar10": "CIFAR-10", "mnist": "MNIST", "crackforest": "concrete cracks"}
BEST = "best of three on transferred features"
claimed = {
    key: published.table(f"{name}, claimed improvement")["value"].iloc[0]
    for key, name in names.items()
}
mean = recorded[(recorded["seed"] == 0) & (recorded["start"] == WITH)]
mean = mean.groupby(["benchmark", "where", "method", "k"])["value"].mean().unstack()
shown = pd.DataFrame(
    {
        "SVM on pixels": mean[0].xs(ON_PIXELS, level="method"),
        BEST: mean[0].unstack("method")[list(linear_probe.LABEL_FREE)].max(axis=1),
        "all labels": mean[ALL].xs(SEEN, level="method"),
    }
)
over = shown["all labels"]
shown["gain on SVM"] = over / shown["SVM on pixels"] - 1
shown["gain on best"] = over / shown[BEST] - 1
shown["claimed"] = shown.index.get_level_values("benchmark").map(
    lambda name: f"{claimed[name]:.0%}" if name in claimed else ""
)
shown.droplevel("benchmark").round(3).assign(
    **{
        name: shown[name].map("{:+.1%}".format).to_numpy()
        for name in ("gain on SVM", "gain on best")
    }
)

# %% tags=["remove-input"]
said = shown.droplevel("where").loc[
    [n for n in claimed if n in shown.index.levels[0]]
]
Markdown(
    "On the paper's own kinds of data: "
    + "; ".join(
        f"{name}: claimed {row['claimed']}, ours {row['gain on SVM']:+.1%} on the SVM and {row['gain on best']:+.1%} on the best "
        "detector without labels"
        for name, row in said.iterrows()
    )
    + ". One class of each stands for ten here, and the cracks are others than the paper's, so this is no reproduction. It shows "
    "how much such a percentage owes to the opponent that was chosen."
)

# %% tags=["remove-input"]
weak = shown.droplevel("benchmark")[BEST]
weak = weak[weak < 0.6]
Markdown(
    "Close to chance without labels, so that a relative gain says little: "
    + (", ".join(f"{name} {value:.3f}" for name, value in weak.items()) or "none")
    + ". Where source and target are single groups, the AUROC can differ much from that of the chapter *One-class baselines*, which "
    "tests on all groups."
)

# %% [markdown]
# ## Labels or transfer: a slider
#
# Choose a data set and a number of labelled anomalies. *Labels alone* is the head on random features; *transfer alone* the best detector without labels on features from ImageNet; the last
# line says which of the two you would rather have, and by how much. At 0 there is no head yet: both are then the best detector without labels.
# (One division, seed 0.)

# %% tags=["hide-input"]
along = pd.concat(
    linear_probe.along_shots(recorded[recorded["seed"] == 0], method).assign(
        method=method
    )
    for method in (SEEN, UNSEEN)
)
along["case"] = along["benchmark"] + " " + along["category"]
along = along[along["start"].isin([WITHOUT, WITH])]

# %% tags=["hide-input"] mystnb={"image": {"alt": "AUROC by the number of labelled anomalies on random and transferred features; on the site a slider moves through the numbers"}, "figure": {"name": "fig-labels-slider", "caption": "AUROC by the number of labelled anomalies, types seen and unseen, on random and on transferred features; bands hold 95 % of draws. On the site, choose a data set and move the slider. (Data: the benchmarks as named; recorded.)"}}
explorers.labels(along, "surfaces brick")

# %% [markdown]
# ## From how many labels on?
#
# For the head on transferred features: from which number of labelled anomalies on it beats the best detector without labels, in the mean over
# draws (*k mean*), and at the lower end of the band too (*k sure*, about 97.5 % of draws). Where the source has fewer, all it has are
# taken. *never* means: not even with all that the source has.

# %% tags=["hide-input"]
start = recorded[(recorded["seed"] == 0) & (recorded["start"] == WITH)]
when = pd.concat(
    {
        method: linear_probe.overtaken(
            start[
                start["where"].isin(
                    start.loc[start["method"] == method, "where"].unique()
                )
            ],
            method,
        )
        for method in (SEEN, UNSEEN)
    },
    names=["labelled"],
).reset_index("labelled")
when["where"] = when["benchmark"] + " " + when["category"]
for column in ("k mean", "k sure"):
    when[column] = when[column].map(linear_probe.shots)
when.pivot(index="where", columns="labelled", values=["k mean", "k sure"]).fillna(
    "one type only"
)

# %% tags=["remove-input"]
of = {
    method: when[when["labelled"] == method].set_index("where")
    for method in (SEEN, UNSEEN)
}
never = {m: part.index[part["k sure"] == "never"] for m, part in of.items()}
Markdown(
    f"With types seen, the band of the gain (of seed 0; claim [P3a-labels](../book/claims/P3a-labels.md) takes all) is above zero from some number of labels on, on {len(of[SEEN]) - len(never[SEEN])} of {len(of[SEEN])} data sets"
    + (f" (not on {', '.join(never[SEEN])})" if len(never[SEEN]) else "")
    + f"; with types unseen on {len(of[UNSEEN]) - len(never[UNSEEN])} of {len(of[UNSEEN])}"
    + (f" (not on {', '.join(never[UNSEEN])})" if len(never[UNSEEN]) else "")
    + "."
)

# %% [markdown]
# ## Types that nobody has labelled
#
# An inspector labels what has gone wrong so far. What is the head worth on the next kind of defect, with all labels of all other types?

# %% tags=["hide-input"]
base = recorded[recorded["seed"] == 0]
best = {
    key: name
    for key, name in linear_probe.best_label_free(base).items()
    if key[-1] == WITH
}
columns = {}
for (benchmark, category, _, _), free in best.items():
    rows = base[(base["benchmark"] == benchmark) & (base["category"] == category)]
    rows = rows[rows["start"] == WITH].set_index(["method", "k"])["value"]
    mean = rows.groupby(level=[0, 1]).mean()
    columns[f"{benchmark} {category}"] = {
        "no label": mean[free, 0],
        EXPOSURE: mean[EXPOSURE, 0],
        "all labels, types unseen": mean.get((UNSEEN, ALL)),
        "all labels, types seen": mean[SEEN, ALL],
    }
unseen = pd.DataFrame(columns)

# %% tags=["hide-input"] mystnb={"image": {"alt": "AUROC on transferred features without labels, with outlier exposure, with labels of other types and with labels of all types, on each recorded benchmark"}, "figure": {"name": "fig-unseen", "caption": "AUROC on transferred features: the best detector without labels, outlier exposure with unrelated pictures, a head with all labels of the other types, and one with all labels of all types. Blank: there is one type only. (Data: the benchmarks as named; recorded.)"}}
figure = plots.heat_table(unseen.astype(float))

# %% tags=["remove-input"]
typed = unseen.dropna(axis=1)
lost = typed.loc["all labels, types unseen"] - typed.loc["no label"]
exposed = unseen.loc[EXPOSURE] - unseen.loc["no label"]
Markdown(
    "For a type that is not among the labelled ones, all labels of the others change the AUROC of the best detector without labels by "
    + ", ".join(f"{value:+.3f} ({where})" for where, value in lost.items())
    + f". Outlier exposure with unrelated pictures changes it by {exposed.median():+.3f} in the median ({exposed.min():+.3f} to "
    f"{exposed.max():+.3f})."
)

# %% [markdown]
# How much types have in common differs. Whether kinds of damage on a surface have anything in common has to be tested, surface by surface: a result from digits does
# not carry over.
#
# ## Does a network that has learnt from normal images do better?
#
# The third start, at random and then self-supervised on the source's normal images ([](source_domain.ipynb)), needs neither labels nor foreign
# data:

# %% tags=["hide-input"]
starts = linear_probe.along_shots(base).assign(
    where=lambda f: f["benchmark"] + " " + f["category"]
)
chosen = starts[starts["labels"].isin(["0", "5", "all"])]
chosen.pivot_table(
    index="where", columns=["labels", "start"], values="value", sort=False
).round(3)

# %% tags=["remove-input"]
by_start = chosen.pivot_table(
    index=["where", "labels"], columns="start", values="value"
)
own, nothing, foreign = (
    by_start[name] for name in ("random+normal", "random", "imagenet")
)
Markdown(
    f"Self-supervision on normal images changes the AUROC of random features by {(own - nothing).median():+.3f} in the median over data "
    f"sets and numbers of labels (0, 5, all) "
    f"({(own - nothing).min():+.3f} to {(own - nothing).max():+.3f}), features from photographs instead by "
    f"{(foreign - nothing).median():+.3f} ({(foreign - nothing).min():+.3f} to {(foreign - nothing).max():+.3f})."
)

# %% [markdown]
# ## How deep may the labels reach?
#
# Until here the network stayed frozen, and labels reached a linear head alone. The paper's transfer may have trained more. Runs in which the
# last block or the whole network is trained, with its head, with all labels, from ImageNet or at random, with pictures of 64 pixels (the frozen features
# above were taken from larger ones), stopped by the stand-ins of normal images. Types seen, as far as runs are recorded:

# %% tags=["hide-input"]
deep = records.frame("supervised")
deep["where"] = deep["benchmark"] + " " + deep["category"]
deep = deep[(deep["measure"] == deep_one_class.VALIDATION) & (deep["seed"] == 0)]
trained = deep[(deep["method"] == SEEN) & (deep["k"] == ALL)]
trained = trained.assign(
    order=trained["variant"].map(list(supervised.VARIANTS).index)
)
trained = trained.sort_values(["order", "where"], kind="stable")

# %% tags=["hide-input"] mystnb={"image": {"alt": "AUROC with intervals of networks trained with all labels to different depths, on each recorded data set"}, "figure": {"name": "fig-depth", "caption": "AUROC, types seen, of networks trained with all labelled anomalies: the last block or the whole network, from ImageNet or at random; 95 % intervals over test images. Not all are recorded everywhere. Dashed: chance. (Data: the benchmarks as named; recorded.)"}}
figure = plots.intervals(trained, row="where", hue="variant")

# %% tags=["hide-input"]
depth = deep[deep["k"] == ALL].pivot_table(
    index=["method", "where"], columns="variant", values="value"
)
frozen = base[(base["start"] == WITH) & (base["k"] == ALL)]
depth["frozen, larger pictures"] = frozen.groupby(["method", "where"])[
    "value"
].mean()
order = [name for name in supervised.VARIANTS if name in depth]
depth[[*order, "frozen, larger pictures"]].dropna(how="all").map(
    lambda value: "" if np.isnan(value) else f"{value:.3f}"
)

# %% tags=["remove-input"]


def compared(first, second, method=SEEN):
    if not {first, second} <= set(depth):
        return ""
    step = (depth[first] - depth[second]).loc[method].dropna()
    return (
        f"*{first}* minus *{second}*, {method}: {step.median():+.3f} in the median "
        f"({step.min():+.3f} to {step.max():+.3f}; {len(step)} data sets)"
    )


recorded_on = trained.groupby("variant", sort=False)["where"].nunique()
pairs = [
    ("imagenet-block", "imagenet-head", SEEN),
    ("imagenet-whole", "imagenet-block", SEEN),
    ("imagenet-whole", "random-whole", SEEN),
    ("imagenet-block", "frozen, larger pictures", SEEN),
    ("imagenet-block", "frozen, larger pictures", UNSEEN),
]
Markdown(
    "Recorded: "
    + ", ".join(f"*{name}* on {n} data sets" for name, n in recorded_on.items())
    + ". "
    + "; ".join(filter(None, (compared(*pair) for pair in pairs)))
    + ". One seed stands behind each number. In the next chapter a network is trained as a whole on larger pictures of real cracks."
)

# %% [markdown]
# ```{admonition} What would surprise you
# :class: tip
# That a head with *every* label of the source can do worse than a detector with none. A head learns what tells the labelled anomalies from
# the normal images of the source; where the target is another group (another tile, another module), that may not be what tells them apart
# there. That is a guess, not tested here: a detector without labels meets the same shift. And the best of three detectors was chosen by
# the test labels, so that part of its lead is the choice.
# ```
#
# ## What we learnt
#
# - A comparison that changes two things measures neither. Two more cells of the same table tell them apart.
# - Report labels against the best detector on the *same* features. A percentage over an opponent says as much about the opponent.
# - Test with types held out. If a method needs labels of what it will meet, say so.
#
# ## Exercises
#
# Three that check your answer, with folded solutions: [](exercises/labels.ipynb). And four to try out here:
#
# 1. *Warm-up.* With $A = 0.5$, $B = 0.9$, $C = 0.9$, $D = 0.95$: what are labels, transfer and interaction by {eq}`eq-factorial`?
# 2. *Look closer.* Which single type of defect on bricks loses most by being held out? Use the column `anomaly_class` of `live`.
# 3. *Look closer.* Give the opponent no help: replace the best detector without labels by the Gaussian everywhere. Does any conclusion
#    change?
# 4. *Research.* Combine both: a Gaussian for what is new, a head for what is known. Fix how their scores are added before you look.
#
# ## Further reading
#
# - {cite:t}`ruff2020`: a hypersphere that is told of some labelled anomalies.
# - {cite:t}`hendrycks2019`: outlier exposure: other pictures in place of anomalies.
