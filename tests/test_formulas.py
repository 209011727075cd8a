import importlib.util
from pathlib import Path

import pytest

katex = pytest.importorskip("sphinxcontrib.katex")


@pytest.mark.parametrize(("refused", "starts"), [(0, True), (3, True), (9, False)])
def test_a_program_that_does_not_listen_yet_is_started_again(refused, starts, monkeypatch):
    path = Path(__file__).parents[1] / "book" / "_ext" / "formulas.py"
    spec = importlib.util.spec_from_file_location("formulas", path)
    formulas = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(formulas)
    calls = []

    def start():
        calls.append(None)
        if len(calls) <= refused:
            raise ConnectionRefusedError
        return "server"

    monkeypatch.setattr(katex.KaTeXServer, "start", staticmethod(start))
    formulas.setup(None)
    if starts:
        assert katex.KaTeXServer.start() == "server"
    else:
        with pytest.raises(ConnectionRefusedError):
            katex.KaTeXServer.start()
    assert len(calls) == min(refused + 1, formulas.TRIES)
