import pytest

from anomaly_transfer.pages import glue as module


@pytest.mark.parametrize("value", [0.5, 1e-9, "a text"])
def test_the_output_is_that_of_myst_nb(monkeypatch, value):
    """The same data and metadata as the library whose roles read it."""
    found = []
    for place in ("anomaly_transfer.pages.glue.display", "myst_nb.ext.glue.ipy_display"):
        monkeypatch.setattr(place, lambda data, raw, metadata: found.append((data, metadata["scrapbook"])))
    from myst_nb import glue as theirs

    module.glue("name", value)
    theirs("name", value, display=False)
    (data, note), (their_data, their_note) = found
    key = "application/papermill.record/text/plain"
    assert data[key] == their_data[key]
    assert note == {name: their_note[name] for name in note}
