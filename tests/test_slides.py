"""Slides of the key figures, from executed chapters."""

import base64
import importlib.util
import io
import json
import re
from pathlib import Path

import pytest
import yaml
from PIL import Image
from pptx import Presentation

ROOT = Path(__file__).parents[1]
LISTED = yaml.safe_load((ROOT / "book" / "slides.yml").read_text(encoding="utf-8"))
NAMES = ("data", "measures", "gaussian")


@pytest.fixture
def slides(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("slides", ROOT / "book" / "tools" / "slides.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "book").mkdir()
    (tmp_path / "_toc.yml").write_text(yaml.safe_dump({"chapters": [{"file": f"notebooks/{name}"} for name in NAMES]}))
    (tmp_path / "_executed" / "smoke").mkdir(parents=True)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    return module


def chapter(path, name, size):
    buffer = io.BytesIO()
    Image.new("RGB", size).save(buffer, format="PNG")
    output = {"data": {"image/png": base64.b64encode(buffer.getvalue()).decode()}}
    figure = {"name": name, "caption": f"Caption of {name}."}
    path.write_text(json.dumps({"cells": [{"metadata": {"mystnb": {"figure": figure}}, "outputs": [output]}]}))


def test_each_figure_fits_on_its_slide(slides, tmp_path):
    entries = []
    for number, (name, size) in enumerate(zip(NAMES, [(600, 100), (100, 600), (300, 200)], strict=True)):
        chapter(tmp_path / "_executed" / "smoke" / f"{name}.ipynb", f"fig-{number}", size)
        entries.append({"figure": f"fig-{number}", "title": f"Title {number}"})
    (tmp_path / "book" / "slides.yml").write_text(yaml.safe_dump(entries))
    slides.write("smoke", tmp_path / "out" / "slides.pptx")
    made = Presentation(tmp_path / "out" / "slides.pptx")
    assert [slide.shapes.title.text for slide in made.slides] == ["Title 0", "Title 1", "Title 2"]
    for number, slide in enumerate(made.slides):
        (picture,) = (shape for shape in slide.shapes if hasattr(shape, "image"))
        assert picture.left >= 0
        assert picture.left + picture.width <= made.slide_width
        assert picture.top + picture.height <= made.slide_height
        assert slide.notes_slide.notes_text_frame.text == f"Caption of fig-{number}."


def test_an_unknown_figure_is_said(slides, tmp_path):
    (tmp_path / "book" / "slides.yml").write_text(yaml.safe_dump([{"figure": "fig-none", "title": "x"}]))
    with pytest.raises(SystemExit, match="fig-none: make book PROFILE=smoke"):
        slides.write("smoke", tmp_path / "slides.pptx")


def test_the_listed_figures_are_those_of_chapters():
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "notebooks").glob("*.py"))
    names = re.findall(r'"name": "(fig-[a-z-]+)"', text)
    assert {entry["figure"] for entry in LISTED} <= set(names)
