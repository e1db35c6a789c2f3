"""Files, headings, modules and make targets that README.md and docs/ name exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")
MODULE = re.compile(r"python\s+-m\s+((?:fields_jax|data_pipelines|benchmarks)[\w.]*)")
SOURCE = re.compile(
    r"\b((?:fields_jax|data_pipelines|benchmarks|configs|tests|scripts)/[\w/]+\.\w+)"
)
TARGET = re.compile(r"\bmake ([a-z]+)(?=`| +#| MINUTES|\n```)")


@pytest.fixture(params=PAGES, ids=lambda path: path.name)
def page(request) -> Path:
    return request.param


def headings(path: Path) -> set[str]:
    """Anchors as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_links_lead_to_files_and_headings(page):
    for link in LINK.findall(page.read_text()):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.is_file(), link
        assert not anchor or anchor in headings(target), link


def test_named_modules_and_files_exist(page):
    text = page.read_text()
    for module in MODULE.findall(text):
        path = ROOT / module.rstrip(".").replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module
    for name in set(SOURCE.findall(text)):
        assert "NAME" in name or (ROOT / name).is_file(), name


def test_the_readme_leads_to_every_page_and_target():
    text = (ROOT / "README.md").read_text()
    for path in PAGES[1:]:
        assert f"(docs/{path.name})" in text, path.name
    rules = (ROOT / "Makefile").read_text()
    named = set(TARGET.findall(text))
    assert named >= {"demo", "test", "landmarks"}
    for target in named:
        assert f"\n{target}:" in rules, target
