"""What stands around the package holds together: workflows, issue forms, the site, the version."""

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import yaml

import latentcot

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
BENCHMARKS = ROOT / "benchmarks"


def read(path: Path) -> dict[Any, Any]:
    found: dict[Any, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_call_targets_that_exist(path: Path) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    for job in read(path)["jobs"].values():
        assert "runs-on" in job
        for step in job["steps"]:
            called = re.findall(r"\bmake ([a-z-]+)", step.get("run", ""))
            assert set(called) <= set(targets), step


def test_every_promised_python_is_tried() -> None:
    tried = read(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]["test"]["strategy"]["matrix"]
    assert f">={tried['python'][0]}" == PROJECT["requires-python"]


def test_a_report_of_a_bug_asks_for_the_run() -> None:
    form = (ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yml").read_text(encoding="utf-8")
    assert "latentcot show RUN --json" in form


def test_the_site_has_every_page_once() -> None:
    listed = [page for part in read(ROOT / "mkdocs.yml")["nav"] for group in part.values()
              for entry in group for page in entry.values()]  # fmt: skip
    docs = ROOT / "docs"
    pages = sorted(path.relative_to(docs).as_posix() for path in docs.rglob("*.md"))
    assert sorted(listed) == pages


def test_the_package_says_its_version() -> None:
    assert latentcot.__version__ == version("latentcot")
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == PROJECT["version"]


def test_both_readmes_show_the_same_commands() -> None:
    def shown(name: str) -> list[str]:
        text = (ROOT / name).read_text(encoding="utf-8")
        fenced = re.findall(r"^```\w+\n(.*?)^```$", text, re.M | re.S)
        return [*fenced, *re.findall(r"^    .+$|^\| [a-z-]+ \|.*$", text, re.M)]

    own = shown("README.zh-CN.md")
    assert len(own) > 5
    assert own == shown("README.md")[: len(own)]


def benchmark(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS)
    with patch.dict(os.environ):  # some set what is for their own process
        return import_module(name)


@pytest.mark.parametrize("name", sorted(path.stem for path in BENCHMARKS.glob("*.py")))
def test_every_benchmark_can_be_imported(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert benchmark(name, monkeypatch).__doc__


def test_the_results_name_studies_that_their_scripts_know(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    known = {
        "studies": benchmark("studies", monkeypatch).NAMES,
        "methods": benchmark("methods", monkeypatch).STUDIES,
    }
    named = re.findall(r"\b(studies|methods)\.py (?:run|collect|curves) ([\w-]+)", page)
    assert named and [(script, name) for script, name in named if name not in known[script]] == []
    files = re.findall(r"\bmethods\.py cost (\S+)", page)
    assert files and all((ROOT / file).is_file() for file in files)


@pytest.mark.slow
def test_the_notebook_runs_and_finds_the_frontier() -> None:
    cells = json.loads((ROOT / "examples" / "quickstart.ipynb").read_text(encoding="utf-8"))[
        "cells"
    ]
    code = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    masses = [int(share) for share in re.findall(r"gives (\d+) % to", ended.stdout)]
    assert len(masses) == 3 and min(masses) > 80
    shares = [float(share) for share in re.findall(r"thoughts: ([\d.]+) % right", ended.stdout)]
    assert len(shares) == 4 and shares[3] > 98 and max(shares[:2]) < 80
