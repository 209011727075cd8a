"""``{floor-plan}``: what each module of the package holds, in its own words, and a link to it."""

from __future__ import annotations

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from anomaly_transfer.fingerprint import module_path
from anomaly_transfer.pages import floor_plan


class FloorPlan(SphinxDirective):
    """A table for each package, and one for what stands beside them."""

    def run(self) -> list[nodes.Node]:
        """Write the tables as Markdown and parse them."""
        address = self.config.html_theme_options.get("repository_url", "")
        floor, rooms = floor_plan.modules(), floor_plan.rooms()
        lines = []
        for name, purpose in [*floor_plan.floors().items(), ("", "Beside them, used by all.")]:
            lines += ["", f"**{name}**: {purpose}" if name else purpose, "", "| Module | Holds |", "|---|---|"]
            for module in rooms.index[floor[rooms.index] == name]:
                path = module_path(module)
                self.env.note_dependency(str(path))
                inside = path.relative_to(floor_plan.ROOT).as_posix()
                short = module.removeprefix("anomaly_transfer.")
                lines.append(f"| [`{short}`]({address}/blob/main/lib/anomaly_transfer/{inside}) | {rooms[module]} |")
        holder = nodes.container()
        self.state.nested_parse(StringList(lines, "floor plan"), 0, holder)
        return holder.children


def setup(app: Sphinx) -> dict:
    """Register with Sphinx."""
    app.add_directive("floor-plan", FloorPlan)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
