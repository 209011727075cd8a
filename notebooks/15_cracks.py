# %% [markdown]
# # Concrete cracks: from a score to a decision
#
# **Question.** An AUROC says how well a detector ranks images. An inspector does not rank, but decides, image by image, whether to send
# somebody. What do the decisions cost, which detector makes the cheapest ones, and what are labels worth there?
#
# ```{admonition} Before you start
# :class: note
# *Prerequisites:* [](02_frozen.ipynb) (detectors, AUROC, folds), [](14_labels.ipynb) (labels and transfer). *You will be able to* set a
# threshold with and without labelled cracks, to draw a cost curve, and to say when a detector is worse than none.
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
import numpy as np
import pandas as pd
from IPython.display import Markdown
from PIL import Image

from anomaly_transfer import (
    ablation,
    benchmarks,
    costs,
    cracks,
    plots,
    profiles,
    tables,
)
from anomaly_transfer.cracks import CRACK, HINDSIGHT, SCENARIOS, TEST, THRESHOLD
from anomaly_transfer.evaluation import evaluate
from anomaly_transfer.labels import NORMAL

plots.use_style()
names = {
    "gaussian": "Gaussian",
    "patch-memory": "patch memory",
    "svm-pixels": "SVM on pixels",
    cracks.HEAD_10: "head, 10 cracks",
    cracks.HEAD: "head, all cracks",
    cracks.NETWORK: "network, all cracks",
}

# %% [markdown]
# ## The case
#
# The third paper's example from civil engineering is a set of 40,000 crops of concrete, half of them with a crack
# {cite:p}`ozgenel2018`. It comes as an archive that has to be fetched by hand ([](03_benchmarks.ipynb)), and is not at hand here. What is:
# cracks *drawn* on photographs of bricks, which run on any laptop, and, in recorded runs, real cracks: patches of 118 photographs of
# asphalt {cite:p}`shi2016`, and cracks in magnetic tiles {cite:p}`huang2018`. Other defects are left out.
#
# Whole photographs (blocks of the wall, tiles) are dealt to three parts: on two fifths a detector is **fitted**, on one fifth its **threshold**
# is set, and on two fifths its decisions are **tested**. Who sets a threshold on the images that a detector was fitted on, sets it too low;
# who sets it on those that are tested, has seen the answers.

# %% tags=["hide-input"]
wall = benchmarks.get("surfaces").load("brick", profiles.get(profile).limit)
table = wall.annotations.open()
shown = {"no crack": table.index[table["anomaly_class"] == NORMAL][::40][:5]}
for grade, name in ((1 / 3, "faint"), (2 / 3, "clear"), (1.0, "strong")):
    is_crack = (table["anomaly_class"] == CRACK) & np.isclose(table["grade"], grade)
    shown[f"{name} crack"] = table.index[is_crack][::3][:5]

# %% tags=["hide-input"] mystnb={"image": {"alt": "Crops of a brick wall without a crack and with drawn cracks of three strengths"}, "figure": {"name": "fig-crack-images", "caption": "Crops of a wall without a crack, and with drawn cracks of three strengths. (Data: brick of scikit-image.)"}}
figure = plots.image_sheet(
    {name: [wall.images[int(row)] for row in rows] for name, rows in shown.items()},
    mark=[name for name in shown if name != "no crack"],
)

# %% [markdown]
# Six detectors: three that see no labelled crack (the Gaussian of pooled features, the patch memory, and the one-class SVM on pixels, the kind of
# opponent that the paper names), a linear head on frozen features with ten labelled cracks or with all of the first part, and a network that is
# trained as a whole with all of them, which is what deep transfer usually means.

# %%
live = pd.concat(
    cracks.run("surfaces", "brick", variant, 0, profile).frame()
    for variant in cracks.VARIANTS
)

# %% [markdown]
# ## A threshold divides, and both sides have mistakes
#
# The usual threshold without labels flags a fixed share of normal images, here 5 %, as seen on the second part. Scores of the tested images:

# %% tags=["hide-input"]
gaussian = live[live["variant"] == "gaussian"]
at_5 = cracks.decided(gaussian, [0.5], ["5 % of normal"]).iloc[0]
tested = gaussian[gaussian["part"] == TEST]
tested = tested.assign(anomaly_class=np.where(tested["crack"] == 1, CRACK, NORMAL))

# %% tags=["hide-input"] mystnb={"image": {"alt": "Histogram of the Gaussian's scores of tested bricks with and without crack, and the threshold"}, "figure": {"name": "fig-crack-scores", "caption": "Scores of the Gaussian on the tested part of the wall. Dashed: the threshold above which 5 % of the normal crops of another part lie. (Data: brick of scikit-image.)"}}
figure = plots.score_histogram(tested, at_5["threshold"])

# %% tags=["remove-input"]
known = gaussian[(gaussian["part"] == THRESHOLD) & (gaussian["crack"] == 0)]
Markdown(
    f"It was meant to flag 5 % of normal crops, and flags {at_5['false alarms']:.0%} of those that are tested; {at_5['misses']:.0%} of the cracks are "
    f"missed. It rests on {len(known)} normal crops: their uppermost twentieth is {0.05 * len(known):.0f} or so."
)

# %% [markdown]
# ## What a decision costs
#
# Let a share $\pi$ of all images have a crack, and let a miss cost $r$ times as much as a false alarm. If a threshold misses a share $m$ of
# the cracks and flags a share $a$ of the images without, the expected cost of an image, in units of the worst case, in which every decision is
# wrong, is {cite:p}`drummond2006`
#
# $$
# C = w\, m + (1 - w)\, a , \qquad w = \frac{\pi r}{\pi r + 1 - \pi} .
# $$ (eq-cost)
#
# Prevalence and price come in as one number, the weight of misses $w$. And there are two ways to decide with eyes closed: to flag every
# image ($C = 1 - w$) or none ($C = w$). A detector is worth something only below the lower of the two, so we give costs *relative* to
# $\min(w, 1 - w)$ as well: at 1 it were as good not to look.
#
# Where an inspector stands we do not know. Three places, said beforehand:

# %% tags=["hide-input"]
weights = {name: costs.cost_weight(*where) for name, where in SCENARIOS.items()}
pd.DataFrame(
    {
        "cracked images": [f"{share:.0%}" for share, _ in SCENARIOS.values()],
        "a miss costs": [
            f"{ratio:.0f} false alarms" for _, ratio in SCENARIOS.values()
        ],
        "weight of misses": np.round(list(weights.values()), 3),
        "cheapest blind decision": [
            "flag all" if weight > 0.5 else "flag none"
            for weight in weights.values()
        ],
    },
    index=list(SCENARIOS),
)

# %% [markdown]
# ## Setting the threshold
#
# Three rules, all of which see the second part only:
#
# - **5 % of normal**: no label, and no notion of cost.
# - **calibrated**: a logistic curve through the scores of labelled images {cite:p}`platt1999` says how many times likelier a score is with
#   a crack than without; flagged is what exceeds $(1-w)/w$ {cite:p}`elkan2001`.
# - **cheapest**: the threshold that would have been cheapest on the labelled images.
#
# *Hindsight*, the cheapest on the tested images themselves, is no rule but a bound. Along all weights, with calibrated thresholds:

# %% tags=["hide-input"]
grid = np.linspace(0.02, 0.98, 13)
by_weight = cracks.decided(live, grid, ["calibrated"])
blind = pd.DataFrame(
    {
        "weight": grid,
        "cost": [costs.blind_cost(w) for w in grid],
        "who": "eyes closed",
    }
)
lines = pd.concat([blind, by_weight.assign(who=by_weight["variant"].map(names))])

# %% tags=["hide-input"] mystnb={"image": {"alt": "Cost curves of six detectors on bricks with drawn cracks, and the cost of deciding with eyes closed"}, "figure": {"name": "fig-cost-curves", "caption": "Expected cost of an image by the weight of misses, with thresholds calibrated on another part of the wall: drawn cracks on bricks, one division. Eyes closed: the better of flagging all and flagging none. (Data: brick of scikit-image.)"}}
figure = plots.curves(
    lines.rename(columns={"cost": "value"}),
    "weight",
    "who",
    "expected cost (worst case = 1)",
    "weight of misses",
)

# %% tags=["remove-input"]
worse = by_weight[by_weight["relative"] > 1].groupby("variant").size()
middle = cracks.decided(live, [0.5], ["calibrated"]).set_index("variant")
Markdown(
    f"Where misses and false alarms weigh the same, the cheapest is the {names[middle['relative'].idxmin()]} with {middle['relative'].min():.2f} of "
    f"the blind cost, and the dearest the {names[middle['relative'].idxmax()]} with {middle['relative'].max():.2f}. Worse than eyes closed, "
    f"somewhere along the {len(grid)} weights: "
    + (
        ", ".join(
            f"{names[name]} ({n} of {len(grid)})" for name, n in worse.items()
        )
        or "none"
    )
    + f". There are {tested['crack'].sum()} cracks and {(tested['crack'] == 0).sum()} normal crops in the tested part: a single crack moves a curve by "
    f"up to {1 / tested['crack'].sum():.2f}."
)

# %% [markdown]
# ## Real cracks: recorded runs
#
# The same at the `study` profile on asphalt and on magnetic tiles, in five divisions into parts. Intervals are Student's, over divisions; test parts of
# divisions overlap, so that they are somewhat too narrow. Said beforehand: a difference counts if its interval leaves out zero.

# %% tags=["hide-input"]
recorded = pd.concat(t.frame() for t in tables.recorded("study", "cracks"))
road = recorded[recorded["benchmark"] == "crackforest"]
order = [name for name in names if name in set(road["variant"])]
curves = cracks.decided(road, grid, ["calibrated"]).assign(
    value=lambda f: f["cost"]
)
curves = ablation.over_seeds(curves, ["variant", "weight"])
curves["who"] = curves["variant"].map(names)
curves["order"] = curves["variant"].map(order.index)
curves = curves.sort_values(["order", "weight"])

# %% tags=["hide-input"] mystnb={"image": {"alt": "Cost curves of the detectors on real asphalt cracks with bands over five divisions, and the cost of deciding with eyes closed"}, "figure": {"name": "fig-cost-road", "caption": "Expected cost of a patch of asphalt by the weight of misses, with calibrated thresholds; bands: 95 % over five divisions. (Data: CrackForest; recorded.)"}}
figure = plots.curves(
    pd.concat([blind.rename(columns={"cost": "value"}), curves]),
    "weight",
    "who",
    "expected cost (worst case = 1)",
    "weight of misses",
)

# %% [markdown]
# ### Three places, three rules
#
# The cost relative to the blind decision's, by place and rule:

# %% tags=["hide-input"]
decisions = cracks.decided(recorded, list(weights.values()))
decisions["place"] = decisions["weight"].map(
    {weight: name for name, weight in weights.items()}
)
relative = ablation.over_seeds(
    decisions.assign(value=decisions["relative"]),
    ["benchmark", "place", "variant", "rule"],
)
on_road = relative[relative["benchmark"] == "crackforest"]
cost_table = on_road.pivot(
    index="variant", columns=["place", "rule"], values="value"
)[[(place, rule) for place in SCENARIOS for rule in cracks.RULES]]
cost_table.loc[order].rename(index=names).T.round(2)

# %% tags=["remove-input"]
best = {}
for place in SCENARIOS:
    rows = on_road[(on_road["place"] == place) & (on_road["rule"] != HINDSIGHT)]
    best[place] = rows.loc[rows["value"].idxmin()]
fixed = on_road[on_road["rule"] == "5 % of normal"]
Markdown(
    "On asphalt the cheapest is, "
    + "; ".join(
        f"for *{place}*, the {names[row['variant']]} with the rule *{row['rule']}* "
        f"({row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}])"
        for place, row in best.items()
    )
    + f". A threshold at 5 % of normal images is worse than eyes closed in {(fixed['value'] > 1).sum()} of {len(fixed)} cases; the worst costs "
    f"{fixed['value'].max():.1f} times as much."
)

# %% [markdown]
# ### What labels are worth
#
# For each place: what the detectors that have learnt from labelled cracks save of the blind cost, compared with the best that has not
# (chosen by the tested images, in its favour), both with calibrated thresholds.

# %% tags=["hide-input"]
savings = cracks.saved(decisions[decisions["rule"] == "calibrated"])
savings["place"] = savings["weight"].map(
    {weight: name for name, weight in weights.items()}
)
savings["who"] = savings["variant"].map(names)
savings["data"] = savings["benchmark"].map(
    {"crackforest": "asphalt", "magnetic_tile": "magnetic tiles"}
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Savings of detectors with labels over the best without, with intervals, for three places on asphalt and magnetic tiles"}, "figure": {"name": "fig-cost-saved", "caption": "Share of the blind cost that labels in training save, against the best detector without them, at three places; intervals over five divisions. Dashed: nothing. (Data: CrackForest, magnetic tile; recorded.)"}}
figure = plots.intervals(
    savings,
    row="place",
    hue="who",
    column="data",
    label="share saved",
    chance=0.0,
)

# %% tags=["remove-input"]
clear = savings.groupby("variant").apply(
    lambda part: pd.Series(
        {
            "up": (part["low"] > 0).sum(),
            "down": (part["high"] < 0).sum(),
            "n": len(part),
        }
    ),
    include_groups=False,
)
Markdown(
    "Beyond the interval: "
    + "; ".join(
        f"{names[name]} cheaper in {row['up']}, dearer in {row['down']} of {row['n']} cases"
        for name, row in clear.reindex(
            [name for name in names if name in clear.index]
        ).iterrows()
    )
    + ". What the labelling itself costs is not counted."
)

# %% [markdown]
# ### Does the AUROC tell who is cheapest?
#
# An AUROC weighs all thresholds alike. If it is what one selects by, it should order the detectors as their costs do:

# %% tags=["hide-input"]
ranked = (
    recorded[recorded["part"] == TEST]
    .groupby(["benchmark", "variant", "seed"])[["crack", "score"]]
    .apply(
        lambda part: (
            evaluate(part["score"], part["crack"] == 1, None, 50)["auroc"].value
        )
    )
    .rename("value")
    .reset_index()
)
auroc = ablation.over_seeds(ranked, ["benchmark", "variant"]).set_index(
    ["benchmark", "variant"]
)
calibrated = relative[relative["rule"] == "calibrated"].pivot(
    index=["benchmark", "variant"], columns="place", values="value"
)[list(SCENARIOS)]
both = calibrated.assign(AUROC=auroc["value"])[["AUROC", *SCENARIOS]]
both.rename(index=names).round(3)

# %% tags=["remove-input"]
swapped, pairs = 0, 0
for _, part in both.groupby(level="benchmark"):
    for place in SCENARIOS:
        for one in range(len(part)):
            for other in range(one):
                better = part["AUROC"].iloc[one] > part["AUROC"].iloc[other]
                cheaper = part[place].iloc[one] < part[place].iloc[other]
                swapped, pairs = swapped + (better != cheaper), pairs + 1
Markdown(
    f"Of {pairs} pairs of detectors (over places and data sets), {swapped} are ordered otherwise by cost than by AUROC."
)

# %% [markdown]
# ## How many labelled cracks does a threshold need?
#
# A few labels can be spent on the threshold alone. For the place in the middle, on asphalt: the relative cost by the number of labelled cracks
# in the second part (all of its normal patches are used), mean over 20 draws and five divisions.

# %% tags=["hide-input"]
few = cracks.with_few(
    road[road["variant"].isin(["gaussian", cracks.HEAD])],
    weights["1 in 100, a miss costs 100"],
    (2, 5, 10, 20, 50, 100),
    draws=20,
)
each = few.assign(value=few["relative"])
each = (
    each.groupby(["variant", "rule", "k", "seed"], sort=False)["value"]
    .mean()
    .reset_index()
)
needed = ablation.over_seeds(each, ["variant", "rule", "k"])
needed["line"] = needed["variant"].map(names) + ": " + needed["rule"]

# %% tags=["hide-input"] mystnb={"image": {"alt": "Relative cost on asphalt by the number of labelled cracks that set the threshold, for two rules and two detectors"}, "figure": {"name": "fig-cost-few", "caption": "Cost relative to the blind decision's by the number of labelled cracks that help to set the threshold, where a miss costs 100 false alarms and one patch in a hundred has a crack; bands: 95 % over divisions. (Data: CrackForest; recorded.)"}}
figure = plots.curves(
    needed,
    "k",
    "line",
    "cost, share of the blind decision's",
    "labelled cracks for the threshold",
    log=True,
)

# %% tags=["remove-input"]
at = needed.set_index(["variant", "rule", "k"])["value"]
no_label = on_road[
    (on_road["rule"] == "5 % of normal")
    & (on_road["place"] == "1 in 100, a miss costs 100")
].set_index("variant")["value"]
Markdown(
    " ".join(
        f"{names[name]}: with 5 labelled cracks {at[name, 'calibrated', 5]:.2f} (calibrated) and {at[name, 'cheapest', 5]:.2f} (cheapest), with 100 "
        f"{at[name, 'calibrated', 100]:.2f} and {at[name, 'cheapest', 100]:.2f}; without any, at 5 % of normal patches, {no_label[name]:.2f}."
        for name in ("gaussian", cracks.HEAD)
    )
)

# %% [markdown]
# ## What is missed, and where the false alarms are
#
# Numbers of mistakes hide which. With the threshold that needs no label, on asphalt: the share of cracks that are found, by how much of the patch they
# cover, in thirds.

# %% tags=["hide-input"]
flagged = cracks.at_no_label(road)
found = flagged[flagged["crack"] == 1]
thirds = ["small", "middle", "large"]
found = found.assign(third=pd.qcut(found["area"], 3, labels=thirds).astype(str))
found = (
    found.groupby(["variant", "third", "seed"])["flagged"]
    .mean()
    .rename("value")
    .reset_index()
)
found = ablation.over_seeds(found, ["third", "variant"])
found["order"] = found["third"].map(thirds.index)
found["who"] = found["variant"].map(names)
found["at"] = found["variant"].map(order.index)
found = found.sort_values(["order", "at"])

# %% tags=["hide-input"] mystnb={"image": {"alt": "Share of asphalt cracks that are found, by their area in thirds, for each detector"}, "figure": {"name": "fig-cost-area", "caption": "Share of the cracks that are found at the threshold of 5 % of normal patches, by the area of the crack; intervals over five divisions. (Data: CrackForest; recorded.)"}}
figure = plots.intervals(
    found, row="who", hue="third", label="share of cracks found", chance=None
)

# %% tags=["remove-input"]
normal = flagged[(flagged["crack"] == 0) & (flagged["variant"] == "gaussian")]
by_photograph = normal.groupby(["seed", "group"])["flagged"].agg(["mean", "size"])
by_photograph = by_photograph[by_photograph["size"] >= 5]["mean"]
Markdown(
    f"The threshold of the Gaussian flags {normal['flagged'].mean():.1%} of normal patches on the mean, as it was meant to do to 5 %. But not photograph by "
    f"photograph: on {(by_photograph == 0).mean():.0%} of them it flags none, and on every tenth {by_photograph.quantile(0.9):.0%} or more. False "
    "alarms come in bunches, where the asphalt or the light is another, and an inspector meets them as a bad photograph, not as a rate."
)

# %% [markdown]
# On the wall one can look at them. The head with all cracks of the first part, with its calibrated threshold where both mistakes weigh the same:

# %% tags=["hide-input"]
head = live[(live["variant"] == cracks.HEAD) & (live["part"] == TEST)]
threshold = cracks.decided(
    live[live["variant"] == cracks.HEAD], [0.5], ["calibrated"]
)["threshold"].iloc[0]
above = head["score"] > threshold
is_crack = head["crack"] == 1
kinds = {
    "found": head[above & is_crack],
    "missed": head[~above & is_crack],
    "false alarm": head[above & ~is_crack],
}

# %% tags=["hide-input"] mystnb={"image": {"alt": "Crops of the wall whose crack was found, whose crack was missed, and that were flagged without a crack"}, "figure": {"name": "fig-crack-mistakes", "caption": "Tested crops of the wall by what was decided on them, those of the highest score first: cracks that were found, cracks that were missed, and false alarms. A row may be short. (Data: brick of scikit-image.)"}}
blank = Image.new("L", wall.images[0].size, 255)
figure = plots.image_sheet(
    {
        f"{name} ({len(rows)})": [
            wall.images[int(row)]
            for row in rows.sort_values("score", ascending=False)["row"][:6]
        ]
        or [blank]
        for name, rows in kinds.items()
    }
)

# %% [markdown]
# ```{admonition} What would surprise you
# :class: tip
# A detector with an AUROC well above one half can cost more than none at all: the threshold decides, and the common one, a fixed share of
# false alarms, knows neither how rare a crack is nor what a miss costs. Look at the column of the dearest place before you call a detector
# ready.
# ```
#
# ## What we learnt
#
# - Ask for prevalence and price before you ask for a detector. Together they are one number, and at either end of it few detectors
#   beat a decision with eyes closed.
# - A threshold is a model of its own, with its own data: neither those of the fit nor those of the test.
# - Report the mistakes by photograph and by size of the defect, not only by image.
#
# ## Exercises
#
# 1. *Warm-up.* Show that the cost {eq}`eq-cost` of one fixed threshold is a straight line in $w$, and that the hindsight curve is the lower
#    envelope of such lines.
# 2. *Look closer.* Run the cells on `grass` and `gravel`. Is any detector there below the blind cost at the three places?
# 3. *Look closer.* Set the quantile to 1 % and to 20 %. At which weight is each the better rule?
# 4. *Research.* Get the concrete set, record it (`anomaly-transfer tables cracks --benchmark concrete_cracks --variant network-all`) and compare the cost at
#    your own bridge's prevalence. What would you have to know to state that number?
