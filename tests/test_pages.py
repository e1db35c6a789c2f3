"""Pages from templates: escaped, complete, and inside what is installed."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import jinja2
import pytest
import setuptools
from jinja2 import meta

from fields_jax import pages

ROOT = Path(__file__).parents[1]
SOURCES = ("fields_jax", "data_pipelines")
FOLDERS = sorted(path for name in SOURCES for path in (ROOT / name).rglob("templates"))
TEMPLATES = [file for folder in FOLDERS for file in sorted(folder.iterdir())]


def package_of(folder):
    return ".".join(folder.parent.relative_to(ROOT).parts)


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "some_pages" / "templates"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    (folder / "page.html").write_text('<p>{{ text }}</p><style>{% include "some.css" %}</style>\n')
    (folder / "some.css").write_text("p { margin: 0; }\n")
    monkeypatch.syspath_prepend(tmp_path)
    return "some_pages"


def test_values_are_escaped_and_style_sheets_are_included(package):
    page = pages.render(package, "page.html", text="<script>&")
    assert page == "<p>&lt;script&gt;&amp;</p><style>p { margin: 0; }</style>"


def test_what_is_missing_is_an_error(package):
    with pytest.raises(jinja2.UndefinedError, match="text"):
        pages.render(package, "page.html")
    with pytest.raises(jinja2.TemplateNotFound, match="other"):
        pages.render(package, "other.html")


def test_every_template_is_installed_with_its_package(monkeypatch):
    said = {}
    monkeypatch.setattr(setuptools, "setup", lambda **options: said.update(options))
    monkeypatch.chdir(ROOT)
    runpy.run_path("setup.py")
    assert len(TEMPLATES) >= 5
    for file in TEMPLATES:
        package = package_of(file.parent)
        assert package in said["packages"], f"{package} has no __init__.py"
        patterns = (*said["package_data"].get("", ()), *said["package_data"].get(package, ()))
        assert any(file in file.parents[1].glob(pattern) for pattern in patterns), file


@pytest.mark.parametrize("folder", FOLDERS, ids=package_of)
def test_templates_include_only_what_lies_beside_them(folder):
    environment = jinja2.Environment()
    for file in filter(Path.is_file, folder.rglob("*")):
        parsed = environment.parse(file.read_text())
        # Names that a loop makes up (None) are for the tests that open the page.
        for name in filter(None, meta.find_referenced_templates(parsed)):
            assert (folder / name).is_file(), f"{file} includes {name}"


def test_no_page_is_written_in_python():
    for name in SOURCES:
        for path in (ROOT / name).rglob("*.py"):
            assert not re.search(r"<(html|head|body|style|table|div)\b", path.read_text()), path
