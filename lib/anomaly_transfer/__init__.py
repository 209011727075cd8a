"""Visual anomaly detection by transfer learning: the package behind the book *What Normal Knows*.

The floor plan, in the way of the data. A package imports from those above it in this list, never from those below:

``data``
    Images, what is known of each (sealed until asked for), and how they are divided, downloaded or drawn.
``networks``
    Networks whose layers are looked at: pre-trained, with random parameters, or small ones of the literature.
``features``
    What a network says of images, level by level, extracted once and kept.
``benchmarks``
    One module a benchmark; what pictures are compared with.
``detectors``
    One module a detector, fitted on features of normal images.
``metrics``
    How good scores and heat maps are, with intervals; thresholds and their costs.
``similarity``
    How alike two samples, or two networks, are.
``training``
    One training loop, its objectives, and when to stop.
``studies``
    One module an experiment, the plan of all, and their records.
``analysis``
    What chapters compute from records.
``claims``
    The ledger of claims, and what the records say of each.
``pages``
    What pages and notebooks show: figures, cards, what a chapter takes, and the order of the chapters.
``app``
    The command line, and a person's own pictures.

Beside them stand the modules that all use: ``errors``, ``settings`` (where things lie), ``profiles`` (how large
experiments
are), ``device``, ``fingerprint`` and ``code_used`` (what a result depends on), ``provenance``, ``atomic`` (whole or not
at all) and ``store`` (computed once).
"""

from importlib.metadata import version

__version__ = version("anomaly-transfer")
