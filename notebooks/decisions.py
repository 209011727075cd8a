# %% [markdown]
# # Cracks: from a score to a decision
#
# **Question.** An AUROC says how well a detector ranks images. An inspector does not rank, but decides, image by image, whether to send
# somebody. What do the decisions cost, which detector makes the cheapest ones, and what are labels worth there?
#
# ```{admonition} Before you start
# :class: note
# *Prerequisites:* [](frozen_features.ipynb) (detectors, AUROC, folds), [](labels.ipynb) (heads, labels and transfer). *You will be able to* set a
# threshold with and without labelled cracks, to draw a cost curve, and to say when a detector is worse than none.
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
from itertools import pairwise

import numpy as np
import pandas as pd
from IPython.display import Markdown

from anomaly_transfer import benchmarks, profiles
from anomaly_transfer.data.annotations import NORMAL
from anomaly_transfer.metrics import aggregate, decision
from anomaly_transfer.metrics.ranking import evaluate
from anomaly_transfer.pages import executions, plots
from anomaly_transfer.studies import decisions, records
from anomaly_transfer.studies.decisions import (
    CRACK,
    HINDSIGHT,
    SCENARIOS,
    TEST,
    THRESHOLD,
)

plots.use_style()
names = {
    "gaussian": "Gaussian",
    "patch-memory": "patch memory",
    "svm-pixels": "SVM on pixels",
    decisions.HEAD_10: "head, 10 cracks",
    decisions.HEAD: "head, all cracks",
    decisions.NETWORK: "network, all cracks",
}

# %% tags=["remove-cell", "nbval-ignore-output"]
# What this chapter takes, before it takes it (the site says it in the box above).
executions.announce("decisions", profile)

# %% [markdown]
# ## The case
#
# Minhas and Zelek {cite:p}`minhas2019` take an example from civil engineering: 40,000 crops of photographs of concrete, half of them with a crack
# {cite:p}`ozgenel2018`. The set comes as an archive that has to be fetched by hand ([](benchmarks.ipynb)), and no number on this page is from it.
# We have two substitutes: cracks *drawn* on crops of a brick wall, which run on any laptop, and, in recorded runs, real cracks in 118 photographs of
# asphalt, cut into patches {cite:p}`shi2016`. Each of these photographs has a crack somewhere; patches in which it covers less than half a per cent
# are left out, which makes the task easier than a road is.
#
# Blocks of the wall, or whole photographs, are dealt to three parts: on two fifths a detector is **fitted**, on one fifth its **threshold**
# is set, and on two fifths its decisions are **tested**. So no threshold is set on images that the detector was fitted on, or that it is judged by.

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
# Six detectors. Three see no labelled crack: the Gaussian of frozen features, the patch memory, and the one-class SVM on pixels, a kind of
# opponent that the paper names. Two are linear heads on frozen features, with ten labelled cracks or with all of the first part. The last is a network
# that is trained as a whole with all of them, from ImageNet, which is what deep transfer usually means.

# %%
runs = {
    variant: decisions.run("surfaces", "brick", variant, 0, profile)
    for variant in decisions.VARIANTS
}
live = pd.concat(run.frame() for run in runs.values())

# %% tags=["hide-input", "nbval-ignore-output"]
tested = live[live["part"] == TEST]
pd.DataFrame(
    {
        names[variant]: {
            "AUROC": str(
                evaluate(
                    part["score"],
                    part["crack"] == 1,
                    clusters=part["group"].to_numpy(),
                )["auroc"]
            ),
            "seconds": f"{runs[variant].provenance.seconds['all']:.0f}",
        }
        for variant, part in tested.groupby("variant", sort=False)
    }
).T

# %% [markdown]
# The table has the AUROC on the tested part of the wall with its 95 % interval (whole blocks resampled), and the seconds that a detector took when it
# was computed, with features where they were not at hand. How many images stand behind the numbers of this page, in the parts that no detector was
# fitted on:

# %% tags=["hide-input"]
recorded = records.frame("decisions")
recorded = recorded[recorded["benchmark"] == "crackforest"]
order = [name for name in names if name in set(recorded["variant"])]
sizes = pd.concat({"wall": live, "asphalt": recorded}, names=["data"])
sizes = sizes[(sizes["variant"] == "gaussian") & (sizes["seed"] == 0)]
sizes.groupby(["data", "part"], sort=False).agg(
    groups=("group", "nunique"),
    normal=("crack", lambda crack: (crack == 0).sum()),
    cracks=("crack", "sum"),
)

# %% [markdown]
# ## A threshold divides, and both sides have mistakes
#
# The usual threshold without labels flags a fixed share of normal images, here 5 %, as seen on the second part. Scores of the tested images:

# %% tags=["hide-input"]
gaussian = live[live["variant"] == "gaussian"]
at_5 = decisions.decide(gaussian, [0.5], ["5 % of normal"]).iloc[0]
scores = gaussian[gaussian["part"] == TEST]
scores = scores.assign(anomaly_class=np.where(scores["crack"] == 1, CRACK, NORMAL))

# %% tags=["hide-input"] mystnb={"image": {"alt": "Histogram of the Gaussian's scores of tested bricks with and without crack, and the threshold"}, "figure": {"name": "fig-crack-scores", "caption": "Scores of the Gaussian on the tested part of the wall. Dashed: the threshold above which 5 % of the normal crops of another part lie. (Data: brick of scikit-image.)"}}
figure = plots.score_histogram(scores, at_5["threshold"])

# %% tags=["remove-input"]
known = gaussian[(gaussian["part"] == THRESHOLD) & (gaussian["crack"] == 0)]
Markdown(
    f"It was meant to flag {decision.FALSE_ALARM_RATE:.0%} of normal crops, and flags {at_5['false alarms']:.0%} of those that are tested; "
    f"{at_5['misses']:.0%} of the cracks are missed. It rests on {len(known)} normal crops, so that about "
    f"{max(1, round(decision.FALSE_ALARM_RATE * len(known)))} of them decide where it is."
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
# Prevalence and price enter as one number, the **weight of misses** $w$. (A justified alarm costs nothing here, so $r$ is a net price; and we take
# it that scores with and without crack stay as they are if cracks become rarer.) There are two ways to decide with **eyes closed**: to flag every
# image ($C = 1 - w$) or none ($C = w$). A detector is worth something only below the lower of the two, so we give its cost *relative* to
# $\min(w, 1 - w)$: at 1 one might as well not look. For $w > \tfrac12$ that means $m < (1 - a)(1 - w)/w$: where misses are dear, a detector has to
# find nearly everything before it beats flagging everything.
#
# Where an inspector stands we do not know. Three places, fixed in advance:

# %% tags=["hide-input"]
weights = {name: decision.cost_weight(*where) for name, where in SCENARIOS.items()}
places = {weight: name for name, weight in weights.items()}
pd.DataFrame(
    {
        "cracked images": [f"{share:.0%}" for share, _ in SCENARIOS.values()],
        "a miss costs": [
            f"{ratio:.0f} false alarms" for _, ratio in SCENARIOS.values()
        ],
        "weight of misses": [f"{w:.3f}" for w in weights.values()],
        "eyes closed": [
            "flag all" if w > 0.5 else "flag none" for w in weights.values()
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
# - **calibrated**: a logistic curve through the scores of labelled images {cite:p}`platt1999`, fitted so that both kinds weigh the same, estimates how
#   many times likelier a score is with a crack than without; flagged is what exceeds $(1-w)/w$ {cite:p}`elkan2001`. Where the curve falls with the
#   score, the detector knows nothing on these images, and the rule decides with eyes closed.
# - **cheapest**: the threshold that would have been cheapest on the labelled images.
#
# *Hindsight*, the cheapest on the tested images themselves, is no rule but a bound. Along all weights, with calibrated thresholds:

# %% tags=["hide-input"]
grid = np.linspace(0.02, 0.98, 13)
by_weight = decisions.decide(live, grid, ["calibrated"])
blind = pd.DataFrame(
    {
        "weight": grid,
        "value": [decision.blind_cost(w) for w in grid],
        "who": "eyes closed",
    }
)
by_weight = by_weight.assign(
    who=by_weight["variant"].map(names), value=by_weight["cost"]
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Cost curves of six detectors on bricks with drawn cracks, and the cost of deciding with eyes closed"}, "figure": {"name": "fig-cost-curves", "caption": "Expected cost of an image by the weight of misses, with thresholds calibrated on another part of the wall: drawn cracks on bricks, one division. Eyes closed: the better of flagging all and flagging none. A detector that is not used lies on the line of eyes closed. (Data: brick of scikit-image.)"}}
figure = plots.curves(
    pd.concat([by_weight, blind]),
    "weight",
    "who",
    "expected cost (worst case = 1)",
    "weight of misses",
)

# %% tags=["remove-input"]
middle = decisions.decide(live, [0.5], ["calibrated"]).set_index("variant")
n_cracks = scores["crack"].sum()
one = {place: w / n_cracks / decision.blind_cost(w) for place, w in weights.items()}
Markdown(
    f"Where misses and false alarms weigh the same, the lowest is the {names[middle['relative'].idxmin()]} with a relative cost of "
    f"{middle['relative'].min():.2f}, the highest the {names[middle['relative'].idxmax()]} with {middle['relative'].max():.2f}. But the tested part has "
    f"{n_cracks} cracks: one of them more or less changes a relative cost by "
    + ", ".join(f"{value:.2f} (*{place}*)" for place, value in one.items())
    + ". The wall shows how it is done; who is better has to be asked of more images."
)

# %% [markdown]
# ## Real cracks: recorded runs
#
# The same at the `study` profile on asphalt, in up to five divisions into parts. Since divisions overlap, the 95 % intervals over them are Student's,
# widened as Nadeau and Bengio propose {cite:p}`nadeau2003`: for $n$ divisions by the factor $\sqrt{1 + \tfrac23 n}$, since two parts in five are tested. The
# network is trained on at most a few hundred of the normal patches, the other detectors on all of them.
#
# Fixed in advance: the three places, and that a difference counts if its interval leaves out zero. Not fixed in advance: intervals were plain Student's until
# they had been seen, and were widened when a reader objected; and magnetic tiles stood beside the asphalt until their cracks turned out to be of too few
# views, with two of them to set a threshold on.


# %% tags=["hide-input"]
def over_divisions(frame, by):
    """Divisions of different seeds overlap: their intervals are widened."""
    return aggregate.over_seeds(frame, by, decisions.OVERLAP)


curves = decisions.decide(recorded, grid, ["calibrated"])
curves = over_divisions(curves.assign(value=curves["cost"]), ["variant", "weight"])
curves["low"] = curves["low"].clip(0)
curves["who"] = curves["variant"].map(names)
curves["order"] = curves["variant"].map(order.index)
curves = curves.sort_values(["order", "weight"])

# %% tags=["hide-input"] mystnb={"image": {"alt": "Cost curves of the detectors on real asphalt cracks with bands over divisions, and the cost of deciding with eyes closed"}, "figure": {"name": "fig-cost-road", "caption": "Expected cost of a patch of asphalt by the weight of misses, with calibrated thresholds; bands: 95 % over divisions. (Data: CrackForest; recorded.)"}}
figure = plots.curves(
    pd.concat([curves, blind]),
    "weight",
    "who",
    "expected cost (worst case = 1)",
    "weight of misses",
)

# %% tags=["hide-input"]
decided = decisions.decide(recorded, list(weights.values()))
decided["place"] = decided["weight"].map(places)
relative = over_divisions(
    decided.assign(value=decided["relative"]), ["place", "variant", "rule"]
)
# No cost is below zero.
relative["low"] = relative["low"].clip(0)
relative["told"] = plots.with_interval(relative, ".2f")
told = relative.pivot(index=["place", "rule"], columns="variant", values="told")[
    order
]
told.rename(columns=names).reindex(
    [(place, rule) for place in SCENARIOS for rule in decisions.RULES]
)

# %% tags=["remove-input"]
absent = [name for key, name in names.items() if key not in order]
clear = {
    place: relative[
        (relative["place"] == place)
        & (relative["rule"] == "calibrated")
        & (relative["high"] < 1)
    ]
    for place in SCENARIOS
}
blindly = np.isinf(decided.loc[decided["rule"] == "calibrated", "threshold"]).mean()
fixed = relative[relative["rule"] == "5 % of normal"].set_index(
    ["place", "variant"]
)["value"]
dearest = list(SCENARIOS)[-1]
Markdown(
    "The table has the relative cost by place, rule and detector. With calibrated thresholds, clearly better than eyes closed (the interval is below 1) are "
    + "; ".join(
        f"{len(rows)} of {len(order)} at *{place}*" for place, rows in clear.items()
    )
    + f". A threshold at 5 % of normal patches is on average dearer than eyes closed in {(fixed > 1).sum()} of {len(fixed)} cases: at *{dearest}* the "
    f"Gaussian costs {fixed[dearest, 'gaussian']:.1f} times as much as flagging everything. In {blindly:.0%} of its cases the rule *calibrated* found no use of "
    "the score and fell back on eyes closed. A threshold below (nearly) all scores flags as much, and costs as much, without being called so: "
    "hence the entries in the table that are as dear as eyes closed."
    + (f" Not recorded: {', '.join(absent)}." if absent else "")
)

# %% [markdown]
# ### What labels are worth
#
# For each place: what the detectors that have *learnt* from labelled cracks save of the relative cost, compared with the best that has not
# (chosen by the tested patches, in its favour). Both have calibrated thresholds, so both use the labels of the second part; the question is what
# labels are worth in training.

# %% tags=["hide-input"]
savings = decisions.saved(decided[decided["rule"] == "calibrated"])
savings["place"] = savings["weight"].map(places)
savings["who"] = savings["variant"].map(names)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Relative cost saved by detectors with labels over the best without, with intervals, for three places on asphalt"}, "figure": {"name": "fig-cost-saved", "caption": "Relative cost that labels in training save, against the best detector without them, at three places on asphalt; intervals over divisions. Dashed: nothing. (Data: CrackForest; recorded.)"}}
figure = plots.intervals(
    savings,
    row="place",
    hue="who",
    label="relative cost saved",
    chance=0.0,
)

# %% tags=["remove-input"]
verdict = np.select(
    [savings["low"] > 0, savings["high"] < 0], ["saves", "costs"], "unclear"
)
divisions = recorded.groupby("variant")["seed"].nunique()
fewer = divisions[divisions < divisions.max()]
Markdown(
    "Against "
    + ", ".join(
        f"the {names[free]} at *{place}*"
        for place, free in savings.groupby("place", sort=False)["free"]
        .first()
        .items()
    )
    + ": "
    + "; ".join(
        f"{who} saves clearly at {(verdict[rows] == 'saves').sum()}, costs clearly more at {(verdict[rows] == 'costs').sum()} of {len(rows)} places"
        for who, rows in savings.groupby("who", sort=False).indices.items()
    )
    + ". What the labelling itself costs is not counted."
    + (
        " Recorded in fewer divisions: "
        + ", ".join(f"{names[name]} ({n})" for name, n in fewer.items())
        + "."
        if len(fewer)
        else ""
    )
)

# %% [markdown]
# ### Does the AUROC tell who is cheapest?
#
# An AUROC averages the share of cracks found over *all* rates of false alarms, also over those that no inspector would accept. Beside the relative costs
# with calibrated thresholds:

# %% tags=["hide-input"]
by_division = decided[decided["rule"] == "calibrated"].pivot(
    index=["variant", "seed"], columns="place", values="relative"
)[list(SCENARIOS)]
ranked = recorded[recorded["part"] == TEST].groupby(["variant", "seed"])
by_division.insert(
    0,
    "AUROC",
    ranked[["crack", "score"]].apply(
        lambda part: (
            evaluate(part["score"], part["crack"] == 1, None, 50)["auroc"].value
        )
    ),
)
by_division.groupby("variant").mean().loc[order].rename(index=names).round(3)

# %% tags=["remove-input"]
agree, swapped = 0, 0
for number, one_variant in enumerate(order):
    for other in order[:number]:
        step = (by_division.loc[one_variant] - by_division.loc[other]).dropna()
        step = step.stack().rename("value").rename_axis(["seed", "what"])
        step = over_divisions(step.reset_index(), ["what"])
        step = step.set_index("what")
        sign = np.sign(step["low"]).where(step["low"] * step["high"] > 0, 0)
        both = sign[list(SCENARIOS)] * sign["AUROC"]
        agree, swapped = agree + (both < 0).sum(), swapped + (both > 0).sum()
n_pairs = len(order) * (len(order) - 1) // 2 * len(SCENARIOS)
Markdown(
    f"Of {n_pairs} comparisons (pairs of detectors at a place), {agree + swapped} are clear in the AUROC and in the cost: in {agree} the one with the "
    f"higher AUROC is cheaper, in {swapped} it is dearer. So the AUROC "
    + ("does not mislead" if swapped == 0 else "misleads in some cases")
    + " where both speak clearly, but it is silent on what the table above shows: whether any of them is worth its cost."
)

# %% [markdown]
# ## How many labelled cracks does a threshold need?
#
# A few labels can be spent on the threshold alone. For the place in the middle, on asphalt: the relative cost by the number of labelled cracks
# in the second part (all of its normal patches are used), mean over draws and divisions. The head has learnt from the cracks of the first part
# besides.

# %% tags=["hide-input"]
place = "1 in 100, a miss costs 100"
few = decisions.with_few(
    recorded[recorded["variant"].isin(["gaussian", decisions.HEAD])],
    weights[place],
    (2, 5, 10, 20, 50, 100),
    draws=20,
)
each = few.assign(value=few["relative"])
each = each.groupby(["variant", "rule", "k", "seed"], sort=False)["value"]
needed = over_divisions(each.mean().reset_index(), ["variant", "rule", "k"])
needed["line"] = needed["variant"].map(names) + ": " + needed["rule"]

# %% tags=["hide-input"] mystnb={"image": {"alt": "Relative cost on asphalt by the number of labelled cracks that set the threshold, for two rules and two detectors"}, "figure": {"name": "fig-cost-few", "caption": "Relative cost by the number of labelled cracks that help to set the threshold, where a miss costs 100 false alarms and one patch in a hundred has a crack; bands: 95 % over divisions. (Data: CrackForest; recorded.)"}}
figure = plots.curves(
    needed,
    "k",
    "line",
    "relative cost",
    "labelled cracks for the threshold",
    log=True,
)

# %% tags=["remove-input"]
at = needed.set_index(["variant", "rule", "k"])["value"].unstack("k")
enough = {
    (names[variant], rule): int((row <= row[100] + 0.02).idxmax())
    for (variant, rule), row in at.iterrows()
}
Markdown(
    "The smallest number with which the mean relative cost is within 0.02 of that with 100: "
    + "; ".join(f"{k} ({name}, {rule})" for (name, rule), k in enough.items())
    + ". Without any label, at 5 % of normal patches, the cost is "
    + " and ".join(
        f"{fixed[place, name]:.2f} ({names[name]})"
        for name in ("gaussian", decisions.HEAD)
    )
    + "."
)

# %% [markdown]
# ## What is missed, and where the false alarms are
#
# Numbers of mistakes hide which. With the threshold that needs no label, on asphalt: the share of cracks that are found, by how much of the patch they
# cover.

# %% tags=["hide-input"]
flagged = decisions.at_no_label(recorded)
found = flagged[flagged["crack"] == 1]
third, edges = pd.qcut(found["area"], 3, labels=False, retbins=True)
thirds = [f"{low:.1%} to {high:.1%}" for low, high in pairwise(edges)]
found = found.assign(third=third).groupby(["variant", "third", "seed"])
found = over_divisions(
    found["flagged"].mean().rename("value").reset_index(), ["third", "variant"]
)
found[["low", "high"]] = found[["low", "high"]].clip(0, 1)
found["area"] = [thirds[number] for number in found["third"]]
found["who"] = found["variant"].map(names)
found["at"] = found["variant"].map(order.index)
found = found.sort_values(["third", "at"])

# %% tags=["hide-input"] mystnb={"image": {"alt": "Share of asphalt cracks that are found, by their area in thirds, for each detector"}, "figure": {"name": "fig-cost-area", "caption": "Share of the cracks that are found at the threshold of 5 % of normal patches, by the share of the patch that the crack covers; intervals over divisions. (Data: CrackForest; recorded.)"}}
figure = plots.intervals(
    found, row="who", hue="area", label="share of cracks found", chance=None
)

# %% tags=["remove-input"]
of = found.pivot(index="variant", columns="third", values="value")
alarms = flagged[(flagged["crack"] == 0) & (flagged["variant"] == "gaussian")]
alarms = alarms.groupby(["seed", "group"])["flagged"].agg(["sum", "size"])
rate = alarms.groupby("seed").sum().pipe(lambda f: f["sum"] / f["size"])
none = (alarms["sum"] == 0).groupby("seed").mean()
alone = ((1 - rate) ** alarms["size"]).groupby("seed").mean()
bunched = alarms.loc[alarms["sum"] > 1, "sum"].sum() / alarms["sum"].sum()
Markdown(
    f"Of the smallest third the Gaussian finds {of.loc['gaussian', 0]:.0%}, of the largest {of.loc['gaussian', 2]:.0%}; the head with all cracks "
    f"{of.loc[decisions.HEAD, 0]:.0%} and {of.loc[decisions.HEAD, 2]:.0%}. The false alarms of the Gaussian, {rate.mean():.1%} of normal patches on average, are not "
    f"spread evenly over photographs: {bunched:.0%} of them are in photographs that have two or more. {none.min():.0%} to {none.max():.0%} of the photographs of a "
    f"division have none; if patches were independent, it would be {alone.min():.0%} to {alone.max():.0%}, and it is more than that in "
    f"{(none > alone).sum()} of {len(none)} divisions."
)

# %% [markdown]
# On the wall one can look at them. The head with all cracks of the first part, with its calibrated threshold where both mistakes weigh the same:

# %% tags=["hide-input"]
head = live[(live["variant"] == decisions.HEAD) & (live["part"] == TEST)]
threshold = middle.loc[decisions.HEAD, "threshold"]
above = head["score"] > threshold
is_crack = head["crack"] == 1
kinds = {
    "found": head[above & is_crack],
    "missed": head[~above & is_crack],
    "false alarm": head[above & ~is_crack],
}

# %% tags=["hide-input"] mystnb={"image": {"alt": "Crops of the wall whose crack was found, whose crack was missed, and that were flagged without a crack"}, "figure": {"name": "fig-crack-mistakes", "caption": "Tested crops of the wall by what was decided on them, with their number, those of the highest score first: cracks that were found, cracks that were missed, and false alarms; at most six of each. (Data: brick of scikit-image.)"}}
figure = plots.image_sheet(
    {
        f"{name} ({len(rows)})": [
            wall.images[int(row)]
            for row in rows.sort_values("score", ascending=False)["row"][:6]
        ]
        for name, rows in kinds.items()
        if len(rows)
    }
)

# %% [markdown]
# ## What an inspector would use
#
# On asphalt, at each place: the detector and the rule with the lowest mean cost among all that we tried, if it is clearly better than eyes closed, and else
# eyes closed. It is chosen by the tested patches, so that its number flatters it.

# %% tags=["hide-input"]
rates = decided.groupby(["place", "variant", "rule"])[
    ["false alarms", "misses"]
].mean()
lines = []
for place, w in weights.items():
    rows = relative[(relative["place"] == place) & (relative["rule"] != HINDSIGHT)]
    best = rows.loc[rows["value"].idxmin()]
    mistakes = rates.loc[(place, best["variant"], best["rule"])]
    lines.append(
        {
            "place": place,
            "best detector": names[best["variant"]],
            "rule": best["rule"],
            "relative cost": best["told"],
            "false alarms": f"{mistakes['false alarms']:.0%}",
            "misses": f"{mistakes['misses']:.0%}",
            "to be used": "this one"
            if best["high"] < 1
            else "eyes closed: flag " + ("all" if w > 0.5 else "none"),
        }
    )
choice = pd.DataFrame(lines).set_index("place")
choice

# %% tags=["remove-input"]
used = choice["to be used"] == "this one"
Markdown(
    f"A detector pays, beyond its interval, at {used.sum()} of {len(choice)} places"
    + (
        f" (not at {', '.join(f'*{name}*' for name in choice.index[~used])})"
        if not used.all()
        else ""
    )
    + ". Labels in training save clearly in "
    + f"{(verdict == 'saves').sum()} of {len(savings)} comparisons, and cost clearly more in {(verdict == 'costs').sum()}."
)

# %% [markdown]
# ```{admonition} What would surprise you
# :class: tip
# A good AUROC can belong to a detector that costs more than none. Where a missed crack is a hundred times dearer than a false alarm and cracks
# are not rare, flagging everything is so cheap that a detector has to find nearly every crack to compete, and a threshold that
# allows 5 % of false alarms is far on the wrong side.
# ```
#
# ## What we learnt
#
# - Ask for prevalence and price before you ask for a detector. Together they are one number, and there are values of it at which most detectors on this
#   page are not worth looking at.
# - A threshold is a model of its own and needs images of its own. Labels can be spent on it or in training; measure what they buy in
#   either place.
# - Report mistakes by the size of the defect and by photograph. The mean hides that small cracks are missed, and that false alarms come together.
#
# ## Exercises
#
# Three that check your answer, with folded solutions: [](exercises/decisions.ipynb). And four to try out here:
#
# 1. *Warm-up.* Show that the cost {eq}`eq-cost` of one fixed threshold is a straight line in $w$, and that the hindsight curve is the lower
#    envelope of such lines.
# 2. *Look closer.* Replace `brick` by `grass` in the cells that load the wall and run the detectors. Is any of them below the cost of eyes closed?
# 3. *Look closer.* Set `decision.FALSE_ALARM_RATE` to 0.01 and to 0.2 and decide again. At which place is each the better rule?
# 4. *Research.* Put the concrete set into the data folder and record it: `anomaly-transfer record decisions --benchmark concrete_cracks --variant gaussian
#    --profile study`. Its groups are blocks of file numbers of one class. What does that do to the three parts, and what would you have to know to state a cost at your
#    own bridge's prevalence?
#
# ## Further reading
#
# - {cite:t}`provost2001`: which detector is best for costs that nobody knows yet.
# - {cite:t}`hernandez2012`: what AUROC, Brier score and accuracy say about cost, each under its own assumption.
