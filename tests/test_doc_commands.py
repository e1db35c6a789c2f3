"""The commands of README.md and docs/ have the flags they name, and run in their small form."""

from __future__ import annotations

import contextlib
import subprocess
import sys

import pytest

from fields_jax import cli
from tests.support import doc_commands
from tests.support.doc_commands import ROOT, Command, commands
from tests.support.doc_pages import PAGES, Page
from tests.support.typed import flags_of, typed

WITH_COMMANDS = [page for page in doc_commands.PAGES if commands(page)]


def of(found: dict, command: Command):
    """The value whose key is the command or its beginning; None if there is none."""
    text = f"{command} "
    return next((value for key, value in found.items() if text.startswith(f"{key} ")), None)


def test_the_table_holds_what_the_pages_hold():
    assert list(PAGES) == WITH_COMMANDS
    for name, page in PAGES.items():
        named = commands(name)
        words = {word for command in named for word in (command.module, *command.arguments)}
        assert page.small.keys() <= words, name
        words = words.union(*page.small.values())
        assert set(page.alone) <= {command.module for command in named}, name
        for key in (*page.left, *page.ends):
            assert any(of({key: True}, command) for command in named), f"{name}: {key}"
        for stood in page.place:
            default = stood in ("data/embedded", "docs")  # which commands take without being told
            assert default or any(stood in word for word in words), f"{name}: {stood}"


@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_every_command_has_the_flags_that_the_page_names(page, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    for command in commands(page):
        argv = [command.module, *command.arguments]
        monkeypatch.setattr(sys, "argv", argv)
        monkeypatch.delitem(sys.modules, "config_config", raising=False)
        with flags_of(command.module):
            if not command.arguments:
                continue  # a name within a line
            try:
                cli.parse_flags(argv)
            except SystemExit:
                pytest.fail(f"{command}: {capsys.readouterr().err}")


def run_small(page: Page, command: Command) -> int:
    """The exit status of the small form; what a module gets more comes last, as configs want it."""
    module, *more = page.small.get(command.module, [command.module])
    arguments = [part for word in command.arguments for part in page.small.get(word, [word])] + more
    if module not in page.alone:
        return typed(module, arguments)
    return subprocess.run([sys.executable, "-m", module, *arguments], check=False).returncode


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_every_command_of_a_page_runs(page, tmp_path, monkeypatch):
    """In one folder and in their order, for later ones read what earlier ones write."""
    table = PAGES[page]
    named = [command for command in commands(page) if of(table.left, command) is None]
    if not named:
        pytest.skip("; ".join(table.left.values()))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    with contextlib.ExitStack() as around:
        for enter in table.around:
            around.enter_context(enter())
        for name, make in table.place.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            make(path)
        for command in named:
            status, expected = run_small(table, command), of(table.ends, command) or 0
            assert status == expected, str(command)
