"""Visual anomaly detection by transfer learning: the package behind the book *What Normal Knows*.

Data flows in one direction, and a module knows only of those before it in this list:

``benchmarks`` (images, groups, sealed labels) -> ``backbones`` -> ``features`` -> ``detectors``
-> ``evaluation`` -> ``experiments`` and ``records`` -> ``plots``, ``cli``.
"""

from importlib.metadata import version

__version__ = version("anomaly-transfer")
