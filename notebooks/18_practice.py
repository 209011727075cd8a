# %% [markdown]
# # What we would tell a practitioner
#
# **Question.** You have some hundred pictures of good parts, perhaps a few bad ones, and no week to spare. What do you do, in which order, and what is the evidence?
#
# ```{admonition} Before you start
# :class: note
# *Prerequisites:* none to follow the advice; to doubt it, the chapter that each piece links to. *You will be able to* set up an inspection that does not fool
# you, to choose a detector without seeing a defect, to say how many good pictures are enough, and to know what labels would buy.
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
from IPython.display import HTML, Markdown

from anomaly_transfer import (
    benchmarks,
    claims,
    experiments,
    plots,
    profiles,
    rivals,
)
from anomaly_transfer.splits import SPLITS

plots.use_style()
settings = profiles.get(profile)
findings = claims.recorded()
names = {
    "combined": "combined",
    "gaussian": "Gaussian",
    "svm": "one-class SVM",
    "neighbours": "neighbours",
    "patch-gaussian": "patch Gaussian",
    "patch-shared": "shared patch Gaussian",
    "patch-memory": "patch memory",
}

# %% [markdown]
# ## First, a test that does not fool you
#
# Pictures come in groups: cells of one module, exposures of one tile, parts of one day. If some of a group are fitted on and others tested, the test says how well
# the *group* is known. [How a split can lie](01_data.ipynb) explains it; here is what it amounts to over everything recorded.

# %% tags=["hide-input"] mystnb={"image": {"alt": "AUROC gained by a random split over one that keeps groups together, one interval for each recorded case"}, "figure": {"name": "fig-practice-leak", "caption": "AUROC by a random split minus AUROC by a split that keeps groups together, for each detector and data set with known groups, with 95 % intervals. Dashed: the threshold of the claim. (Data: the benchmarks as named; recorded.)"}}
figure = claims.draw("W-leak")

# %% tags=["remove-input"]
cases = pd.DataFrame([case.model_dump() for case in findings["W-leak"].cases])
Markdown(
    f"The median of {len(cases)} cases is {cases['value'].median():+.2f}, the largest {cases['value'].max():+.2f} ({cases.loc[cases['value'].idxmax(), 'case']}). "
    "That is more than separates most detectors in this book. So before you compare anything: find out what came together, and keep it together."
)

# %% [markdown]
# ## Which detector, when you have seen no defect?
#
# You cannot choose by the test: the defects that you will meet are not there yet. So do not ask which detector wins most often, but how far it is behind
# the best one where it does worst. On a data set $b$ a detector $d$ has the *regret*
#
# $$
# r_b(d) = \max_{d'} \text{AUROC}_b(d') - \text{AUROC}_b(d) .
# $$ (eq-regret)

# %%
recorded = experiments.recorded(names)
values = recorded.pivot_table(
    index=["benchmark", "category"], columns="method", values="value"
)[list(names)].dropna()
regret = values.rsub(values.max(axis=1), axis=0)
worst = regret.max().rename("worst")
worst = pd.concat([worst, regret.mean().rename("mean")], axis=1).sort_values(
    "worst"
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Regret in AUROC of seven detectors, on each data set where all were recorded, as a shaded table"}, "figure": {"name": "fig-regret", "caption": "How far each detector is behind the best of the seven: 0 is the best one. Columns are sorted by the worst case. (Data: the benchmarks as named; recorded.)"}}
shown = regret[worst.index].rename(columns=names)
shown.index = [" ".join(where) for where in shown.index]
figure = plots.heat_table(shown, label="regret", low=0.0, high=0.3)

# %% tags=["remove-input"]
first, last = worst.index[0], worst.index[-1]
Markdown(
    f"Over {len(regret)} data sets the smallest worst case is that of the {names[first]}: never more than {worst.loc[first, 'worst']:.2f} behind, "
    f"{worst.loc[first, 'mean']:.2f} on average. The largest is that of the {names[last]} ({worst.loc[last, 'worst']:.2f}). The combined detector is at most "
    f"{worst.loc['combined', 'worst']:.2f} behind and {worst.loc['combined', 'mean']:.2f} on average, "
    f"the patch memory, which many would take first, {worst.loc['patch-memory', 'worst']:.2f} and {worst.loc['patch-memory', 'mean']:.2f}."
)

# %% [markdown]
# `combined` is what `anomaly-transfer evaluate` takes if you say nothing, and the column beside it is one of its parts. It was chosen on two of these data sets, small pictures of mono cells and of bricks
# ([](16_side.ipynb)); those two rows speak for it more than they should.
#
# ## How many good pictures?
#
# Bricks, fitted on few normal pictures drawn at random, always tested on the same ones:

# %%
brick = benchmarks.get("surfaces").load("brick", settings.limit)
fold = SPLITS["grouped"](brick.annotations.open(), 0)[0]
methods = ["gaussian", "patch-gaussian", "patch-memory"]
few = rivals.learning_curve(
    brick, fold, methods, [5, 10, 20, 50, 100, 1000], 3, settings
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "AUROC on bricks over the number of normal pictures a detector was fitted on, for three detectors"}, "figure": {"name": "fig-few-normal", "caption": "AUROC over the number of normal pictures, mean of three draws with their range. (Data: brick of scikit-image.)"}}
spread = few.groupby(["method", "images"])["AUROC"].agg(["mean", "min", "max"])
spread = (
    spread.reset_index()
    .replace(names)
    .set_axis(["method", "images", "value", "low", "high"], axis=1)
)
figure = plots.curves(
    spread, "images", "method", "AUROC", "normal pictures", log=True
)

# %% tags=["remove-input"]
near = 0.02  # of AUROC
curve = few.groupby(["method", "images"])["AUROC"].mean().unstack()
enough = (curve.rsub(curve.iloc[:, -1], axis=0) < near).idxmax(axis=1)
Markdown(
    f"Within {near} of what {curve.columns[-1]} pictures give: "
    + ", ".join(
        f"the {names[name]} from {number} on" for name, number in enough.items()
    )
    + ". Best of the three: "
    + ", ".join(
        f"the {names[name]} with {number}"
        for number, name in curve.idxmax().items()
    )
    + ". What has more to estimate needs more pictures: the patch Gaussian has a covariance at every position, the Gaussian one for the whole image."
)

# %% [markdown]
# This is one surface with drawn defects. On yours there are no defects to draw such a curve with; look at the out-of-fold scores of *normal* pictures instead.
# While they still fall as pictures are added, the detector is still learning what is normal.
#
# ## Would labels pay?
#
# With pictures of defects one can train a classifier instead. Does it find defects better than the best detector that sees normal pictures only?

# %% tags=["hide-input"] mystnb={"image": {"alt": "AUROC of a classifier trained with labelled defects minus that of detectors without any, one interval for each data set"}, "figure": {"name": "fig-labels-pay", "caption": "What labels add: the cases of claim P3a-labels, with 95 % intervals. Dashed: its threshold. (Data: the benchmarks as named; recorded.)"}}
figure = claims.draw("P3a-labels")

# %% tags=["remove-input"]
labels = pd.DataFrame([c.model_dump() for c in findings["P3a-labels"].cases])
unseen = pd.DataFrame([c.model_dump() for c in findings["W-unseen-types"].cases])
Markdown(
    f"With labels of the kinds that are tested, {(labels['state'] == 'met').sum()} of {len(labels)} data sets are clearly better ({labels['value'].min():+.2f} to "
    f"{labels['value'].max():+.2f}). Of a kind that was never labelled the classifier knows nothing: there the difference is {unseen['value'].min():+.2f} to "
    f"{unseen['value'].max():+.2f} on {len(unseen)} data sets. So labels pay for the defects that you know, and you still need something for the others "
    "([What labels buy](14_labels.ipynb))."
)

# %% [markdown]
# ## The guide
#
# What we would do, and which claim it rests on. The last column is read from the recorded verdicts: if one of them moves, the advice is marked.

# %% tags=["hide-input"]
guide = """
How to test? | Keep together what came together. | W-leak: supported
Which network? | One pre-trained on ImageNet, frozen. | P3a-transfer: supported; P1c-from-imagenet: not supported
Which detector? | The combined one, or a Gaussian at each position. Not the patch memory alone. | W-combined-patch: supported
Which distance? | With covariances, not Euclidean. | P2d-score: supported
Fine-tune on normal images? | Later: what it gains cannot be told. | P2a-gain: inconclusive; W-tuned-over-level: inconclusive
If you do, when to stop? | By any of the stand-ins; they hardly differ. | P2d-stand-ins: supported
Collect labels? | Yes, of every kind you can get. | P3a-labels: supported
Rely on them for new kinds? | No: keep a detector of the normal beside. | W-unseen-types: inconclusive
Where to put the threshold? | By costs, not at a fixed false alarm rate. | W-five-per-cent: partly
Choose a source by similarity? | No: it does not tell what transfers. | W-similarity-predicts: inconclusive
"""

# %% tags=["remove-input"]
rows = []
for line in guide.strip().splitlines():
    question, advice, evidence = (part.strip() for part in line.split("|"))
    cited, stands = [], True
    for name, expected in (claim.split(": ") for claim in evidence.split("; ")):
        found = findings[name]
        cited.append(
            f'<a href="../book/claims/{name}.html">{name}</a> ({found.verdict}, {found.value:+.3f})'
        )
        stands &= found.verdict == expected
    mark = "" if stands else " <strong>A verdict has moved since.</strong>"
    rows.append((question, advice + mark, "; ".join(cited)))
HTML(
    pd.DataFrame(rows, columns=["You ask", "We would", "because of"]).to_html(
        escape=False, border=0, index=False, classes="claim-board"
    )
)

# %% [markdown]
# The number in brackets is the mean effect over cases; its unit, its interval and its limits stand on the page of the claim. *Inconclusive* is evidence too: of something
# that costs a week and whose gain five runs could not show, we would say *later*.
#
# ```{admonition} What would surprise you
# :class: tip
# How little of this is about networks. The split, the number of pictures and the threshold decide more than the choice between two
# detectors that papers compare.
# ```
#
# ## What we learnt
#
# - Choose by the worst case when you cannot choose by the test.
# - Count groups, not pictures.
# - Whatever you choose, keep the pictures on which it was wrong: they are the labels of next month.
#
# ## Exercises
#
# 1. *Warm-up.* A detector is best on nine data sets of ten and far behind on the tenth. When would you still take it?
# 2. *Look closer.* Repeat {numref}`fig-few-normal` for grass. Why is the curve flat?
# 3. *Look closer.* Leave out the two data sets on which `combined` was chosen from {numref}`fig-regret`. Does the order of the columns change?
# 4. *Research.* Find a curve, from normal images alone, that tells when more pictures stop helping. Test it on three surfaces with the AUROC as the judge.
