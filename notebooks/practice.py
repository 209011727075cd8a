# %% [markdown]
# # What we would tell a practitioner
#
# **Question.** You have some hundred pictures of good parts, perhaps a few bad ones, and no week to spare. What do you do, in which order, and what is the evidence?
#
# ```{admonition} Before you start
# :class: note
# *Prerequisites:* none to follow the advice; to doubt it, the chapter that each piece links to. *You will be able to* set up an inspection that does not fool
# you, to choose a detector without seeing a defect, to know which detector needs how many good pictures, and what labels would buy.
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
from IPython.display import HTML, Markdown

from anomaly_transfer import benchmarks, profiles
from anomaly_transfer.claims import ledger
from anomaly_transfer.data.splits import SPLITS
from anomaly_transfer.pages import executions, plots, verdicts
from anomaly_transfer.studies import comparison, detection

plots.use_style()
settings = profiles.get(profile)
findings = ledger.recorded()
names = {
    "combined": "combined",
    "gaussian": "Gaussian",
    "svm": "one-class SVM",
    "neighbours": "neighbours",
    "patch-gaussian": "patch Gaussian",
    "patch-shared": "shared patch Gaussian",
    "patch-memory": "patch memory",
}

# %% tags=["remove-cell", "nbval-ignore-output"]
# What this chapter takes, before it takes it (the site says it in the box above).
executions.announce("practice", profile)

# %% [markdown]
# ## First, a test that does not fool you
#
# Pictures come in groups: cells of one module, exposures of one tile, parts of one day. If some of a group are fitted on and others tested, the test says how well
# the *group* is known. [How a split can lie](data.ipynb) explains it; here is what it amounts to over everything recorded.

# %% tags=["hide-input"] mystnb={"image": {"alt": "AUROC gained when images of the tested groups are fitted on, one interval for each recorded case"}, "figure": {"name": "fig-practice-leak", "caption": "AUROC when images of the tested groups are among as many training images, minus AUROC when groups are kept together, for the recorded detectors on three benchmarks, with 95 % intervals; groups of cells and tiles are inferred. Dashed: the threshold of the claim. (Data: the benchmarks as named; recorded.)"}}
figure = verdicts.draw("W-leak")

# %% tags=["remove-input"]
cases = pd.DataFrame([case.model_dump() for case in findings["W-leak"].cases])
Markdown(
    f"The median of {len(cases)} cases is {cases['value'].median():+.2f}, the largest {cases['value'].max():+.2f} ({cases.loc[cases['value'].idxmax(), 'case']}). "
    "Before you compare anything: find out what came together, and keep it together."
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
recorded = detection.recorded(names)
values = recorded.pivot_table(
    index=["benchmark", "category"], columns="method", values="value"
)[list(names)]
with_all = values.dropna()
regret = with_all.rsub(with_all.max(axis=1), axis=0)
worst = pd.concat(
    [regret.max().rename("worst"), regret.mean().rename("mean")], axis=1
)
worst = worst.sort_values("worst")

# %% tags=["hide-input"] mystnb={"image": {"alt": "Regret in AUROC of seven detectors, on each data set where all were recorded, as a shaded table"}, "figure": {"name": "fig-regret", "caption": "How far each detector is behind the best of the seven: 0 is the best one. Columns are sorted by the worst case. (Data: the benchmarks as named; recorded.)"}}
shown = regret[worst.index].rename(columns=names)
shown.index = [" ".join(where) for where in shown.index]
figure = plots.heat_table(shown, label="regret", low=0.0, high=0.3)

# %% tags=["remove-input"]
first, last = worst.index[0], worst.index[-1]
others = values.drop(columns="combined").dropna()
elsewhere = others.rsub(others.max(axis=1), axis=0).max().sort_values()
Markdown(
    f"Over these {len(regret)} data sets the smallest worst case is that of the {names[first]}: never more than {worst.loc[first, 'worst']:.2f} behind, "
    f"{worst.loc[first, 'mean']:.2f} on average. The largest is that of the {names[last]} ({worst.loc[last, 'worst']:.2f}). The combined detector is at most "
    f"{worst.loc['combined', 'worst']:.2f} behind and {worst.loc['combined', 'mean']:.2f} on average, "
    f"the patch memory {worst.loc['patch-memory', 'worst']:.2f} and {worst.loc['patch-memory', 'mean']:.2f}. These are surfaces and parts. Without the combined detector, which "
    f"was not recorded there, {len(others)} data sets can be compared, digits, clothes and things among them; the worst cases are then "
    + ", ".join(f"{value:.2f} ({names[name]})" for name, value in elsewhere.items())
    + ". Differences of a few hundredths are within the intervals of most data sets."
)

# %% [markdown]
# `combined` is what `anomaly-transfer evaluate` takes if you say nothing: it adds the Gaussian, which is right where the whole image matters, the patch Gaussian,
# which is made for aligned pictures (and was ahead on some that nobody aligned), and the patch memory, which knows no position. Where you know your pictures, one of its parts can be the better choice. It was chosen on
# two of these data sets, small pictures of mono cells and of bricks ([](side_by_side.ipynb)); those two rows speak for it more than they should.
#
# ## How many good pictures?
#
# Bricks, fitted on few normal pictures drawn at random, always tested on the same ones:

# %%
brick = benchmarks.get("surfaces").load("brick", settings.limit)
fold = SPLITS["grouped"](brick.annotations.open(), 0)[0]
methods = ["gaussian", "patch-gaussian", "patch-memory"]
few = comparison.learning_curve(
    brick, fold, methods, [5, 10, 20, 50, 100, 1000], 3, settings
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "AUROC on bricks over the number of normal pictures a detector was fitted on, for three detectors"}, "figure": {"name": "fig-few-normal", "caption": "AUROC over the number of normal pictures, mean of three draws with their range, one draw for all pictures. (Data: brick of scikit-image.)"}}
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
curve = few.groupby(["method", "images"])["AUROC"].mean().unstack()
Markdown(
    f"From {curve.columns[-2]} to {curve.columns[-1]} pictures there is still a change of "
    + ", ".join(
        f"{change:+.3f} (the {names[name]})"
        for name, change in (curve.iloc[:, -1] - curve.iloc[:, -2]).items()
    )
    + ". Best of the three: "
    + ", ".join(
        f"the {names[name]} with {number}"
        for number, name in curve.idxmax().items()
    )
    + ". What has more to estimate needs more pictures: the patch Gaussian has a covariance at every position, the Gaussian one for the whole image."
)

# %% [markdown]
# This is one surface, cut from one photograph, with drawn defects. On yours there are no defects to draw such a curve with. One could look at the out-of-fold scores of
# *normal* pictures instead, and add pictures until they no longer fall; whether a plateau there means one in AUROC we have not tested (exercise 4).
#
# ## Would labels pay?
#
# With pictures of defects one can train a classifier instead: a linear head on the same frozen features. Does it find defects better than the best of three
# detectors of the same features (the Gaussian, neighbours, the one-class SVM) that see normal pictures only? Patch detectors were not among them.

# %% tags=["hide-input"] mystnb={"image": {"alt": "AUROC of a classifier trained with labelled defects minus that of detectors without any, one interval for each data set"}, "figure": {"name": "fig-labels-pay", "caption": "What labels add: the cases of claim P3a-labels, with 95 % intervals. Dashed: its threshold. (Data: the benchmarks as named; recorded.)"}}
figure = verdicts.draw("P3a-labels")

# %% tags=["remove-input"]
labels = pd.DataFrame([c.model_dump() for c in findings["P3a-labels"].cases])
unseen = pd.DataFrame([c.model_dump() for c in findings["W-unseen-types"].cases])
Markdown(
    f"With labels of the kinds that are tested, {(labels['state'] == 'met').sum()} of {len(labels)} data sets are clearly better "
    f"({', '.join(labels.loc[labels['state'] == 'met', 'case'])}) and {(labels['state'] == 'missed').sum()} clearly worse; the differences are {labels['value'].min():+.2f} to "
    f"{labels['value'].max():+.2f}. On a kind that was never labelled, {(unseen['state'] == 'met').sum()} of {len(unseen)} are clearly better and "
    f"{(unseen['state'] == 'missed').sum()} clearly worse ({unseen['value'].min():+.2f} to {unseen['value'].max():+.2f}). So labels may pay for the defects that you know, and "
    "you still need something for the others ([What labels buy](labels.ipynb))."
)

# %% [markdown]
# ## The guide
#
# What we would do, and which claim it rests on. The last column is read from the recorded verdicts: if one of them moves, the advice is marked.

# %% tags=["hide-input"]
guide = """
How to test? | Keep together what came together. | W-leak: supported
Which network? | One pre-trained on ImageNet, frozen. | P3a-transfer: supported; P1c-from-imagenet: not supported
Which detector? | On surfaces and parts the combined one or the patch Gaussian, which had the smaller worst case. The combined one beats our patch memory; that it is as good as its best part, or as PatchCore, is not shown, and on pictures of things it was not run. | W-combined-patch: supported; W-combined: inconclusive; W-combined-peers: inconclusive
Which distance? | With covariances, not Euclidean. | P2d-score: supported
Fine-tune on normal images? | Later: what it gains cannot be told. | P2a-gain: inconclusive; W-tuned-over-level: inconclusive
If you do, when to stop? | By several kinds of stand-in together: mostly one does as well, but not always. Whether stopping helps cannot be told. | P2b-stop: inconclusive; P2d-stand-ins: supported
Collect labels? | They may pay, for the kinds that you label. | P3a-labels: supported
Rely on them for new kinds? | Not alone: whether they help there cannot be told. | W-unseen-types: inconclusive
Where to put the threshold? | Not at a habitual rate of false alarms: on cracks that could cost more than not looking (chapter on cracks). | W-five-per-cent: partly
Choose a source by similarity? | We would not: that it predicts a gain was not shown. | W-similarity-predicts: inconclusive
"""

# %% tags=["remove-input"]
measures = {claim.id: claim.measure for claim in ledger.claims()}
rows = []
for line in guide.strip().splitlines():
    question, advice, evidence = (part.strip() for part in line.split("|"))
    cited, stands = [], True
    for name, expected in (claim.split(": ") for claim in evidence.split("; ")):
        found = findings[name]
        effect = f"{measures[name]}: {found.value:+.3f}"
        cited.append(
            f'<a href="../book/claims/{name}.html">{name}</a>, {found.verdict} ({effect})'
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
# The number in brackets is the mean effect over cases; its interval, its threshold and its limits stand on the page of the claim. *Inconclusive* is evidence too: what needs a GPU and
# more care, and whose gain could not be shown, we would do *later*.
#
# ```{admonition} What would surprise you
# :class: tip
# How little of this is about new methods. Much of it is about the split, about a network that somebody else has trained, and about what the evidence
# cannot tell.
# ```
#
# ## What we learnt
#
# - Choose by the worst case when you cannot choose by the test.
# - What has more to estimate needs more pictures.
# - Whatever you choose, keep the pictures on which it was wrong: they are the labels of next month.
#
# ## Exercises
#
# Three that check your answer, with folded solutions: [](exercises/practice.ipynb). And four to try out here:
#
# 1. *Warm-up.* A detector is best on nine data sets of ten and far behind on the tenth. When would you still take it?
# 2. *Look closer.* Repeat {numref}`fig-few-normal` for grass. Why is the curve flat?
# 3. *Look closer.* Leave out the two data sets on which `combined` was chosen from {numref}`fig-regret`. Does the order of the columns change?
# 4. *Research.* Find a curve, from normal images alone, that tells when more pictures stop helping. Test it on three surfaces with the AUROC as the judge.
#
# ## Further reading
#
# - {cite:t}`angelopoulos2023`: promises about rates that hold whatever the score; an exercise to [](exercises/gaussian.ipynb) makes one.
# - {cite:t}`sculley2015`: what a detector costs after it was delivered.
