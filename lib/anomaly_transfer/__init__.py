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
    One module a detector, fitted on features of normal images, and the threshold of one.
``metrics``
    How good scores and heat maps are, with intervals; what a decision costs.
``similarity``
    How alike two samples, or two networks, are.
``training``
    One training loop, its objectives (Deep SVDD: ``one_class``), and when to stop.
``studies``
    One module an experiment, the plan of all, and their records.
``analysis``
    What chapters compute from records.
``claims``
    The ledger of claims (its entries: ``book/claims.yml``), and what the records say of each.
``pages``
    What pages and notebooks show: figures, cards, what a chapter takes, and the order of the chapters.
``app``
    The command line, a person's own pictures, and models that are kept.

Beside them stand the modules that all use: ``errors``, ``settings`` (where things lie), ``profiles`` (how large
experiments are), ``device``, ``fingerprint`` and ``code_used`` (what a result depends on), ``provenance``, ``atomic``
(whole or not at all) and ``store`` (computed once).

What one needs for images of one's own is handed on here: ``import anomaly_transfer as at``, then ``at.fit(images)``.
Each name is imported when it is asked for, since torch takes seconds.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anomaly_transfer.app.images import read_images as read_images
    from anomaly_transfer.app.inspection import evaluate as evaluate
    from anomaly_transfer.app.models import Model as Model
    from anomaly_transfer.app.models import fit as fit
    from anomaly_transfer.app.models import load as load
    from anomaly_transfer.app.tasks import Task as Task
    from anomaly_transfer.app.tasks import load_benchmark as load_benchmark
    from anomaly_transfer.data.images import Images as Images

__version__ = version("anomaly-transfer")

#: Where the names come from that are handed on.
_HOMES = {
    "Images": "data.images",
    "Model": "app.models",
    "Task": "app.tasks",
    "evaluate": "app.inspection",
    "fit": "app.models",
    "load": "app.models",
    "load_benchmark": "app.tasks",
    "read_images": "app.images",
}
__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
