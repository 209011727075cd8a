"""Give a number of one chapter to the prose of another page.

The same output as ``myst_nb.glue``, without its dependencies: a notebook opened alone on Colab should not have to
install a documentation builder.
"""

from __future__ import annotations

from IPython.display import display


def glue(name: str, value: float | str) -> None:
    """Store a value in the notebook under a name, invisibly.

    A page shows it by ``{glue:text}`../notebooks/CHAPTER.ipynb::NAME:.2f` `` (``:s`` for text).

    Parameters
    ----------
    name : str
        Unique within the chapter.
    value : float or str
    """
    prefix = "application/papermill.record/"
    text = repr(float(value)) if not isinstance(value, str) else repr(value)
    display({f"{prefix}text/plain": text}, raw=True, metadata={"scrapbook": {"name": name, "mime_prefix": prefix}})
