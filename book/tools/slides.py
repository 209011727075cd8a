"""Put the key figures on slides: python book/tools/slides.py PROFILE FILE.

``book/slides.yml`` lists them; the pictures are those of the executed chapters, and the captions stand in the notes.
"""

from __future__ import annotations

import base64
import io
import json
import sys
from pathlib import Path

import yaml
from PIL import Image
from pptx import Presentation
from pptx.util import Inches

from anomaly_transfer.pages import contents

ROOT = Path(__file__).resolve().parents[2]
WIDTH, HEIGHT, TOP, MARGIN = 13.33, 7.5, 1.4, 0.4
TITLE_ONLY = 5


def figures(folder: Path) -> dict[str, tuple[bytes, str]]:
    """Picture and caption of each figure of the executed chapters, by its label."""
    found = {}
    for path in filter(Path.is_file, (folder / f"{name}.ipynb" for name in contents.chapters(ROOT))):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            figure = cell["metadata"].get("mystnb", {}).get("figure")
            pictures = [o["data"]["image/png"] for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
            if figure and pictures:
                found[figure["name"]] = (base64.b64decode(pictures[0]), figure["caption"])
    return found


def write(profile: str, file: Path) -> None:
    """Write the slides of a profile's executed chapters."""
    known = figures(ROOT / "_executed" / profile)
    slides = Presentation()
    slides.slide_width, slides.slide_height = Inches(WIDTH), Inches(HEIGHT)
    for entry in yaml.safe_load((ROOT / "book" / "slides.yml").read_text(encoding="utf-8")):
        if entry["figure"] not in known:
            raise SystemExit(f"No executed chapter has a figure {entry['figure']}: make book PROFILE={profile}")
        picture, caption = known[entry["figure"]]
        slide = slides.slides.add_slide(slides.slide_layouts[TITLE_ONLY])
        title = slide.shapes.title
        title.text, title.width, title.left, title.top = entry["title"], Inches(WIDTH), Inches(0), Inches(0.1)
        with Image.open(io.BytesIO(picture)) as image:
            across, down = image.size
        width = min(WIDTH - 2 * MARGIN, (HEIGHT - TOP - MARGIN) * across / down)
        slide.shapes.add_picture(io.BytesIO(picture), Inches((WIDTH - width) / 2), Inches(TOP), width=Inches(width))
        slide.notes_slide.notes_text_frame.text = caption
    file.parent.mkdir(parents=True, exist_ok=True)
    slides.save(file)


if __name__ == "__main__":
    write(sys.argv[1], Path(sys.argv[2]))
