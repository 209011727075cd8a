# %% [markdown]
# # The benchmarks, and what each hides
#
# **Question.** The three papers speak of car parts, digits, animals, tiles and cracks. What is in these collections, what
# do plain detectors make of them, and how much of a good number is owed to the way the images were divided?
#
# ```{admonition} Before you start
# :class: note
# *Prerequisites:* [](data.ipynb) (groups and leaks) and [](frozen_features.ipynb) (the detectors). *You will be able to*
# name the trap of every benchmark in this book, get any of them with one command, and spot a split that flatters.
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
from IPython.display import Markdown, display

from anomaly_transfer import benchmarks, profiles
from anomaly_transfer.claims import published
from anomaly_transfer.metrics import aggregate, ranking
from anomaly_transfer.pages import cards, executions, plots
from anomaly_transfer.pages.glue import glue
from anomaly_transfer.studies import detection
from anomaly_transfer.studies.records import recorded as recorded_runs

plots.use_style()
settings = profiles.get(profile)
known = {name: benchmarks.get(name) for name in benchmarks.names()}
recorded = recorded_runs("detection")

# %% tags=["remove-cell", "nbval-ignore-output"]
# What this chapter takes, before it takes it (the site says it in the box above).
executions.announce("benchmarks", profile)

# %% [markdown]
# ## One door
#
# Every benchmark of this book comes through one door: `benchmarks.get(name).load(category)` gives images, and annotations
# that a detector cannot open. Three come as Python packages, and every chapter runs on those. The others are downloaded
# and checked by `anomaly-transfer fetch NAME`, or are taken from a folder at hand. The column *split* names the one that we
# recommend: *official* where the authors laid one down, *grouped* where images belong together, else *random*.

# %% tags=["hide-input"]
cards.overview(list(known.values()))

# %% [markdown]
# Where a benchmark is not at hand, its numbers below are *recorded runs*: computed by the same code on another day,
# kept with the book together with their provenance, and shown apart from what this page computes itself.
#
# Two ideas of "anomalous" live in this list. In the surfaces and parts, an anomaly is a *defect*: most of the picture is
# normal, some of it is not. In MNIST, Fashion-MNIST and CIFAR-10, one class is called normal and all others are anomalous
# (the *one-class protocol*): nothing is broken, everything is merely something else. A detector can be good at one and poor
# at the other, so a number for one says nothing about the other.
#
# ## A card for each
#
# The sources: CIFAR-10 {cite:p}`krizhevsky2009`, concrete cracks {cite:p}`ozgenel2018`, CrackForest {cite:p}`shi2016`, ELPV
# {cite:p}`deitsch2019`, Fashion-MNIST {cite:p}`xiao2017`, magnetic tiles {cite:p}`huang2018`, MNIST {cite:p}`lecun1998`, MVTec
# AD {cite:p}`bergmann2021`, its features {cite:p}`han2022`, and the textures of scikit-image {cite:p}`vanderwalt2014`.
#
# The cards are made from what the code knows of each benchmark: a benchmark that is added gets its card by itself. Open
# one: pictures and counts appear where the data are at hand, and the traps are worth reading before any number.

# %% tags=["hide-input"]
for benchmark in known.values():
    display(cards.card(benchmark, settings.limit))

# %% [markdown]
# ## The illusion, measured
#
# [The chapter on data](data.ipynb) took apart how a random split flatters on solar cells. Is that a peculiarity of
# solar cells? Two other benchmarks have images that belong together: a view of a magnetic tile is photographed in six
# exposures, and CrackForest's patches are cut from photographs. Neither comes with a list of groups, so whoever deals the pictures
# or patches at random splits them.
#
# We ask the same as there. *Random*: images are dealt to five folds. *Grouped*: images of one group stay together.
# *Matched*: as many training images as in the grouped split, but among them normal images of the groups that are scored. The
# step from grouped to matched is a leak and nothing else. It is a cautious estimate of the random split's: half of each
# group is held out, so fewer near copies are fitted on. (Most tile views have one label only. So images are compared
# within a fold here, not within a group as in the first chapter, and the recorded runs are at another size: the leak of solar
# cells is another number here than there.)

# %% tags=["hide-input"]
names = {
    "gaussian": "Gaussian",
    "neighbours": "neighbours, all levels",
    "neighbours@head": "neighbours, last level",
}
grouped_sets = ["elpv", "magnetic_tile", "crackforest"]
leaks = [
    record
    for record in recorded
    if record.experiment.benchmark in grouped_sets
    and record.experiment.variant in names
    and record.experiment.split in ("random", "matched", "grouped")
]


def named(frame):
    """One row a benchmark, category, detector and split: means over seeds."""
    frame = aggregate.mean_over_seeds(frame)
    places = {"crackforest": "CrackForest", "magnetic_tile": "magnetic tiles"}
    where = frame["benchmark"].map(places).fillna("ELPV " + frame["category"])
    return frame.assign(where=where, detector=frame["method"].map(names))


# %% tags=["hide-input"]
leak_scores = named(detection.table(leaks))
order = {"random": 0, "matched": 1, "grouped": 2}
leak_scores = leak_scores.sort_values(
    "split", key=lambda s: s.map(order), kind="stable"
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "AUROC with intervals of three detectors on solar cells, magnetic tiles and road cracks, for a random, a matched and a grouped split"}, "figure": {"name": "fig-leaks", "caption": "Recorded runs: AUROC of three detectors by split. With the random and the matched split the model may have seen normal images of the group that it scores, with the grouped split never. Intervals resample whole groups where there are more than five. Dashed: chance. (Data: ELPV, magnetic tile, CrackForest.)"}}
figure = plots.intervals(leak_scores, row="where", hue="split", column="detector")

# %% [markdown]
# Paired on the same images, and comparing only images that one and the same model has scored, this is by how much each
# split flatters:

# %% tags=["hide-input"]
flattery = named(
    detection.table(
        [r for r in leaks if "minus grouped" in detection.groups(r)],
        group="minus grouped",
    )
)
flattery["text"] = plots.with_interval(flattery, "+.3f")
flattery.pivot_table(
    index=["where", "detector"], columns="split", values="text", aggfunc="first"
)[["matched", "random"]]

# %% tags=["remove-input"]
only = flattery[flattery["split"] == "matched"]
clear = only[only["low"] > 0]
worst, least = only.loc[only["value"].idxmax()], only.loc[only["value"].idxmin()]
tiles = leak_scores[
    (leak_scores["benchmark"] == "magnetic_tile")
    & (leak_scores["method"] == "neighbours@head")
].set_index("split")["value"]
glue("tile-random", float(tiles["random"]))
glue("tile-grouped", float(tiles["grouped"]))
Markdown(
    f"The leak (matched) is clear of zero in {len(clear)} of {len(only)} cases. It is largest on {worst['where']} with "
    f"{worst['detector']}, {worst['text']}, and smallest on {least['where']} with {least['detector']}, {least['text']}. So "
    "how much a group gives away depends on the data *and* on the detector; a description of the data does not tell. On "
    f"magnetic tiles the neighbours in the last level fall from {tiles['random']:.2f} "
    f"(random split) to {tiles['grouped']:.2f} (grouped)."
)

# %% [markdown]
# How does it come about? Under a random split, a normal picture of a tile has on average four of its five sister exposures
# among the training images: the same scratches and the same grain, a little lighter or darker. It has near copies to lie
# close to. A defective picture has almost none, since its sisters are mostly defective, too, and are not fitted on. So good
# tiles are known and defective ones are not. That situation answers no inspector's question: in use, both are new, or
# both are known.
#
# ## Defects whose truth is known
#
# Some questions need defects of which we know everything: where, which kind, how strong. For these we draw them, on crops
# of real textures and on real solar cells without defects. The generator changes pixels inside a mask and none outside of
# it, and fades out at the rim. One class, `control`, is handled like a defect, but nothing is drawn. It checks the
# bookkeeping (labels, folds, intervals): we said beforehand that about 95 % of its intervals should hold one half. It cannot
# show whether a detector reacts to the *way* defects are drawn, since nothing is drawn.

# %%
methods = ["gaussian", "patch-memory"]
drawn = detection.run_all(detection.matrix(methods, "surfaces", profile, seeds=[0]))

# %% tags=["hide-input"]
kinds = [*known["surfaces"].target_classes, "control"]
by_kind = pd.concat(
    detection.table(drawn, group=kind).assign(kind=kind) for kind in kinds
)


def kinds_of(method):
    part = by_kind[by_kind["method"] == method]
    return part.pivot(index="category", columns="kind", values="value")[kinds]


# %% tags=["hide-input"] mystnb={"image": {"alt": "Table of AUROC of the patch memory for five surfaces and five kinds of drawn defects, and for the control"}, "figure": {"name": "fig-drawn-patch", "caption": "Patch memory: AUROC by surface and kind of drawn defect (all severities together). Control: handled like a defect, but nothing was drawn. (Data: brick, grass and gravel of scikit-image; ELPV cells.)"}}
figure = plots.heat_table(kinds_of("patch-memory").rename_axis(None))

# %% tags=["hide-input"] mystnb={"image": {"alt": "Table of AUROC of the Gaussian for five surfaces and five kinds of drawn defects, and for the control"}, "figure": {"name": "fig-drawn-gaussian", "caption": "The same for the Gaussian of pooled features. (Data: brick, grass and gravel of scikit-image; ELPV cells.)"}}
figure = plots.heat_table(kinds_of("gaussian").rename_axis(None))

# %% tags=["remove-input"]
control = by_kind[by_kind["kind"] == "control"]
holds = ((control["low"] <= 0.5) & (control["high"] >= 0.5)).sum()
means = (
    by_kind[by_kind["kind"] != "control"]
    .groupby(["kind", "method"])["value"]
    .mean()
)
kind_means = means.groupby("kind").mean()
best_kind, worst_kind = kind_means.idxmax(), kind_means.idxmin()
surface_means = (
    by_kind[by_kind["kind"] != "control"].groupby("category")["value"].mean()
)
Markdown(
    f"Of the control's intervals, {holds} of {len(control)} contain one half. Over both detectors, *{best_kind}* is found "
    f"best and *{worst_kind}* worst: the kinds' means over all surfaces range from {kind_means.min():.2f} to "
    f"{kind_means.max():.2f}. The surfaces' means over all kinds range from {surface_means.min():.2f} "
    f"({surface_means.idxmin()}) to {surface_means.max():.2f} ({surface_means.idxmax()})."
)

# %% [markdown]
# Where a surface defeats both detectors, one guess is that it has dark gaps and bright edges of its own everywhere. Another:
# new blocks of grass differ more from the blocks that were fitted on than a defect changes a crop. (The random split can
# tell the two apart: exercise 2.)
#
# Is a stronger defect easier to find? AUROC by severity, all kinds together:


# %% tags=["hide-input"]
def by_severity(record):
    """AUROC of the defects of each severity against normal images of the same fold."""
    scores = detection.scores(record)
    scores = scores[scores["anomaly_class"] != "control"]
    row = {}
    for grade in sorted(set(scores["grade"]) - {0}):
        part = scores[scores["grade"].isin([0, grade])]
        positive = (part["grade"] > 0).to_numpy()
        found = ranking.evaluate(
            part["score"].to_numpy(), positive, part["fold"].to_numpy(), 50
        )
        row[f"severity {grade:.2f}"] = found["auroc"].value
    return row


severity = pd.DataFrame(
    [by_severity(r) for r in drawn],
    index=[f"{r.experiment.category}, {r.experiment.variant}" for r in drawn],
)
severity.map("{:.2f}".format)

# %% tags=["remove-input"]
rises = (severity.diff(axis=1).iloc[:, 1:] > 0).all(axis=1)
Markdown(
    f"It rises with every step in {rises.sum()} of {len(rises)} rows"
    + (f"; not for {'; '.join(rises.index[~rises])}." if (~rises).any() else ".")
)

# %% [markdown]
# ## Plain detectors on everything
#
# Before anything is learnt, this is what frozen features and the detectors of [the last chapter](frozen_features.ipynb) make of
# all benchmarks, each by its recommended split: grouped where there are groups, the official one where there is one.

# %% tags=["hide-input"]
columns = [
    "gaussian",
    "neighbours",
    "neighbours@head",
    "patch-gaussian",
    "patch-shared",
    "patch-memory",
]
plain = [
    record
    for record in recorded
    if record.experiment.split == known[record.experiment.benchmark].splits[0]
    and record.experiment.variant in columns
]
baseline = aggregate.mean_over_seeds(detection.table(plain))
by_method = baseline.pivot_table(
    index="benchmark", columns="method", values="value"
)
by_method = by_method.reindex(columns=columns)

# %% tags=["hide-input"]
# Where one category of several was run, the row says which.
run = baseline.groupby("benchmark")["category"].unique()
by_method.index = [
    known[name].title
    + (
        f" ({run[name][0]} only)"
        if len(run[name]) == 1 < len(known[name].categories)
        else ""
    )
    for name in by_method.index
]

# %% tags=["hide-input"] mystnb={"image": {"alt": "Table of mean AUROC of each detector on each benchmark"}, "figure": {"name": "fig-baselines", "caption": "Recorded runs: AUROC of each detector, mean over the categories of each benchmark (for ELPV the two materials, for the features two networks and ten objects), headline anomalies, recommended split. Blank: not run, as patches of features, which have none. (Data: each benchmark as its card above says; CIFAR-10 is a JPEG copy.)"}}
figure = plots.heat_table(by_method)

# %% tags=["remove-input"]
full = by_method.dropna()
winners = full.idxmax(axis=1)
spread = (by_method.max(axis=1) - by_method.min(axis=1)).sort_values()
Markdown(
    "Read it row by row. Where all six detectors were run, the highest mean is that of "
    + "; ".join(f"`{who}` on {name}" for name, who in winners.items())
    + f". On {spread.index[-1]} the best and the worst detector differ by {spread.iloc[-1]:.2f}. Choosing by this table "
    "would be choosing by test labels. How to choose without them is a question for the end of the book."
)

# %% [markdown]
# When the recorded runs were computed, and what to read their numbers with (hardware, versions, code and data are in the
# records under `results/study`):

# %% tags=["hide-input"]
origin = pd.DataFrame(
    {
        "benchmark": known[r.experiment.benchmark].title,
        "date": r.provenance.date[:10],
        "copies": r.facts["duplicates"],
        "note": r.note,
    }
    for r in recorded
    if known[r.experiment.benchmark].pictures
)
origin.groupby("benchmark").agg(
    runs=("date", "size"),
    last=("date", "max"),
    copies=("copies", "max"),
    note=("note", "max"),
)

# %% [markdown]
# The column *copies* counts test images that are, byte for byte, also training images of the same run: the most of any run.
#
# ## MVTec AD without its pictures
#
# The second paper's benchmark takes five gigabytes and a signature. Its images as *features* take some 30 megabytes: ADBench
# {cite:p}`han2022` publishes, for each image, the output of two networks. A Gaussian and nearest neighbours need no more. (The
# pictures of one category, metal nuts, are at hand, at 256 pixels: they are a row of the table above.)

# %% tags=["hide-input"]
features = detection.table(recorded_runs("detection", benchmark="mvtec_features"))
features = features[features["method"].isin(["gaussian", "neighbours"])]
parts = features["category"].str.split("-", n=1, expand=True)
features = features.assign(network=parts[0], object=parts[1])
objects = features.pivot_table(
    index="object", columns=["network", "method"], values="value"
)
objects.loc["mean"] = objects.mean()
objects.map("{:.3f}".format)

# %% [markdown]
# Beside these, what others published on MVTec AD, each by its own protocol:

# %% tags=["hide-input"]
published.table("MVTec AD").set_index("method")

# %% tags=["remove-input"]
count = len(objects) - 1
vit = objects.loc["mean", ("vit", "gaussian")]
resnet = objects.loc["mean", ("resnet18", "gaussian")]
detectors_differ = objects.loc["mean"].unstack().diff(axis=1).iloc[:, 1].abs()
Markdown(
    f"The two tables may not be subtracted. Ours covers the {count} categories at hand when it was recorded, theirs all 15. "
    "Ours uses random folds, because the files mix the official training and test images; so each of our models is fitted on "
    "four fifths of *all* normal images, theirs on the official training images. What can be said: between the two networks "
    f"the mean of the Gaussian moves by {abs(vit - resnet):.2f}, between the two detectors on one network by "
    f"{detectors_differ.min():.2f} and {detectors_differ.max():.2f}."
)

# %% [markdown]
# ## Live: MNIST, a digit at a time
#
# The records above were computed beforehand. This is computed here: the Gaussian on the 5,000 digits that come with a
# package, each digit once as the normal class.

# %%
digits = detection.table(
    detection.run_all(detection.matrix(["gaussian"], "mnist5k", profile, seeds=[0]))
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "AUROC with intervals of the Gaussian for each of the ten digits as the normal class"}, "figure": {"name": "fig-digits", "caption": "AUROC of the Gaussian, by the digit that is called normal; five random folds. (Data: MNIST-5k.)"}}
figure = plots.intervals(
    digits.assign(digit="normal: " + digits["category"]), row="digit"
)

# %% tags=["remove-input"]
hardest = digits.loc[digits["value"].idxmin()]
easiest = digits.loc[digits["value"].idxmax()]
Markdown(
    f"Normal *{easiest['category']}*: {easiest['value']:.3f}; normal *{hardest['category']}*: {hardest['value']:.3f}. A mean "
    f"over classes ({digits['value'].mean():.3f} here) hides that. Nor is it the network's merit until the same has been "
    "tried on raw pixels (exercise 3)."
)

# %% [markdown]
# ```{admonition} What would surprise you
# :class: tip
# Nobody published which cells share a module, or which pictures show one view of a tile. Numbers in *file names* (and the
# sizes of crops) let us guess, and the leaks of cells and tiles above rest on that guess. A wrong one would hide part of the
# leak. (Which patches of a road come from one photograph we know: we cut them.)
# ```
#
# ## What we learnt
#
# - "Anomaly" means a defect in some benchmarks and another class in others. Report both, or say which.
# - Where several images show one object, a random split can pay for memory. How much depends on the data and on the
#   detector: measure it.
# - A control is worth only what it can show. Say what it cannot.
# - The choice of detector, of network and of split each move a number: none may go unsaid.
# - A number belongs to a split and a copy of the data: without them it cannot be compared.
#
# ## Exercises
#
# Three that check your answer, with folded solutions: [](exercises/benchmarks.ipynb). And four to try out here:
#
# 1. *Warm-up.* Get a benchmark that is not at hand (`anomaly-transfer fetch mnist`, or by hand as its card says) and run this
#    page again. Does the card agree with the published counts?
# 2. *Look closer.* Run `detection.matrix(["gaussian"], "surfaces", profile, splits=["random"], seeds=[0])`. Does knowing the
#    block help on grass and gravel? Which of the two guesses above does that support?
# 3. *Look closer.* Flatten the digits to 784 numbers, `Features.of(pixels=...)`, and give them to the Gaussian. How much of
#    the AUROC did the network add?
# 4. *Research.* The concrete cracks (to be fetched by hand) are grouped by blocks of file numbers, since nobody published which
#    crops share a photograph. Find the photographs again from the images alone, and measure how much the blocks leak.
#
# ## Further reading
#
# - {cite:t}`gebru2021`: the questions that a data card should answer.
# - {cite:t}`northcutt2021`: wrong labels in well-known test sets, and what they do to a ranking.
