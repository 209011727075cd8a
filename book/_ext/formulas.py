"""The program that sets formulas, started again where it was asked before it listened.

sphinxcontrib-katex connects as soon as the program's socket is there; on a busy machine it may not yet take calls, and
the whole build then failed.
"""

from __future__ import annotations

from sphinx.application import Sphinx
from sphinxcontrib.katex import KaTeXServer

TRIES = 5


def setup(app: Sphinx) -> dict:
    """Make the start patient."""
    start = KaTeXServer.start

    def patient() -> KaTeXServer:
        for _ in range(TRIES - 1):
            try:
                return start()
            except ConnectionRefusedError:
                continue
        return start()

    KaTeXServer.start = patient
    return {"parallel_read_safe": True}
