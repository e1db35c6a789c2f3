"""How commands end: in one line for a user's mistake, with a traceback for a bug."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from absl import flags
from ml_collections import config_flags

from fields_jax import cli
from fields_jax.errors import MissingFile, UserError

ROOT = Path(__file__).parents[1]
CONFIG = "from ml_collections import ConfigDict\ndef get_config(arg=''):\n"


def failing(error):
    def main(_):
        raise error

    return main


@pytest.mark.parametrize(
    "error", [ValueError("odd\x1b[2J"), KeyError("key"), FileNotFoundError(2, "none", "/none")]
)
def test_what_is_no_mistake_of_the_user_is_shown_whole_and_asked_for(capsys, error):
    assert cli.guarded(failing(error))(["fit", "--out=/home/ann"]) == 1
    *before, last = capsys.readouterr().err.splitlines()
    assert before[0] == "Traceback (most recent call last):"
    assert any("tests/test_cli.py" in line for line in before)
    assert type(error).__name__ in before[-1]
    assert last.startswith("this is a bug of fields_jax 0.") and "please report" in last
    assert "ann" not in last and not any("\x1b" in line for line in before)


def test_a_mistake_of_the_user_is_one_line(capsys):
    for error in (UserError("name another"), MissingFile("name another")):
        assert cli.guarded(failing(error))([]) == 2
        assert capsys.readouterr().err == "error: name another\n"


def test_buckets_without_their_package_are_one_line(capsys):
    assert cli.guarded(failing(ImportError("Please install gcsfs")))([]) == 2
    assert "pip install -e '.[data]'" in capsys.readouterr().err
    assert cli.guarded(failing(ImportError("no module")))([]) == 1


def test_a_device_that_is_not_there_is_one_line_and_doctor_says_so():
    code = (
        "import sys; from fields_jax import cli\n"
        "def main(argv):\n    import jax\n    jax.devices()\n"
        "cli.run(main)"
    )
    absent = os.environ | {"JAX_PLATFORMS": "cuda"}
    for command, status in ((["-c", code], 2), (["-m", "fields_jax.doctor"], 0)):
        run = subprocess.run(
            [sys.executable, *command],
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=False,
            env=absent,
        )
        assert run.returncode == status and "Traceback" not in run.stderr
        assert "JAX has no device (no cuda): see that" in run.stdout + run.stderr


def test_a_device_without_room_is_no_bug(capsys):
    text = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes.\nmore"
    assert cli.guarded(failing(jax.errors.JaxRuntimeError(text)))([]) == 2
    error = capsys.readouterr().err
    assert "memory is short (RESOURCE_EXHAUSTED: Out of memory" in error and "more" not in error
    assert "--config.accumulate" in error


def test_a_bug_ends_a_real_command_with_status_1():
    code = (
        "import sys; from fields_jax import cli, doctor\n"
        "def main(argv): raise KeyError('ours')\n"
        "cli.run(main)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert run.returncode == 1 and "KeyError: 'ours'" in run.stderr
    assert run.stderr.splitlines()[-1].startswith("this is a bug of fields_jax")


@pytest.fixture
def parsed(monkeypatch, capsys):
    """Parses flags of its own; returns the exit status and what was said."""

    def parse(*arguments):
        values = flags.FlagValues()
        config_flags.DEFINE_config_file("config", None, "", flag_values=values)
        flags.DEFINE_integer("count", 1, "", 1, flag_values=values)
        monkeypatch.delitem(sys.modules, "config_config", raising=False)  # of the config before
        monkeypatch.setattr(cli.flags, "FLAGS", values)
        monkeypatch.setattr(sys, "argv", ["train", *arguments])
        try:
            cli.parse_flags(["train", *arguments])
        except SystemExit as ended:
            return ended.code, capsys.readouterr().err
        return 0, ""

    return parse


def test_configs_of_the_package_are_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for argument in ("--config=configs/stage2.py:full", "-config=configs/embedded.py"):
        flag, _, value = argument.partition("=")
        found = cli._installed_config(argument)
        path, _, choice = found.removeprefix(f"{flag}=").partition(":")
        assert Path(path).is_file() and choice == value.partition(":")[2]
    own = tmp_path / "configs/stage2.py"
    own.parent.mkdir()
    own.write_text("")
    for kept in ("--config=configs/stage2.py", "--config=configs/none.py", "--out=configs/a.py"):
        assert cli._installed_config(kept) == kept


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (f"{CONFIG}    return ConfigDict(dict(\n", "FILE, line 3 is no Python: '(' was never"),
        (f"{CONFIG}    return ConfigDict(dict(z=1))", "unknown config key: "),
        (f"{CONFIG}    raise ValueError('bad\\x1b[2J')", r"bad\x1b[2J"),
        (f"{CONFIG}    return {{}}['a']", "FILE, line 3: KeyError: 'a'"),
        (f"{CONFIG}    return ConfigDict().modle", "FILE, line 3: AttributeError: "),
        (f"{CONFIG}    return 1 + 'a'", "FILE, line 3: TypeError: unsupported"),
        ("import no_such_module", "FILE, line 1: ModuleNotFoundError: No module named"),
        (f"{CONFIG}    return 1 / 0", "FILE, line 3: ZeroDivisionError: division by zero"),
        ("x = 1", "the config file has no function get_config"),
        ("def get_config():\n    raise AssertionError", "FILE, line 2: AssertionError: Assert"),
    ],
)
def test_what_a_config_file_raises_is_one_line(tmp_path, parsed, content, line):
    file = tmp_path / "odd.py"
    file.write_text(content)
    status, said = parsed(f"--config={file}", "--config.a=1")
    assert status == 2
    assert said.startswith(f"error: {line}".replace("FILE", str(file))) and said.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--cuont=2"], "Unknown command line flag 'cuont'"),
        (["--count=0"], "flag --count=0: 0 is not a positive integer"),
        (["--count=x"], "flag --count=x: invalid literal"),
        (["--config=/none/odd.py"], "/none/odd.py"),
        (["--config="], "empty string"),
        (["--config={config}:arg:ument", "--config.a=x"], "config.a"),
        (["--config={config}", "--config.a.b=1"], "a.b"),
        (["--config={config}", "--config.t=(1,"], "config.t"),
    ],
)
def test_odd_flags_are_one_line(tmp_path, parsed, arguments, line):
    file = tmp_path / "config.py"
    file.write_text(f"{CONFIG}    return ConfigDict(dict(a=1, t=(0, 0)))")
    status, said = parsed(*(argument.format(config=file) for argument in arguments))
    assert status == 2 and line in said
    assert said.startswith("error: ") and said.count("\n") == 1 and "Traceback" not in said


def test_a_bug_while_flags_are_parsed_is_shown_whole(monkeypatch, capsys):
    def broken(argv):
        raise KeyError("ours")

    monkeypatch.setattr(cli.flags, "FLAGS", broken)
    with pytest.raises(SystemExit, match="1"):
        cli.parse_flags(["train"])
    said = capsys.readouterr().err
    assert said.startswith("Traceback") and "please report" in said


def test_a_refused_file_of_the_user_is_one_line(tmp_path, capsys):
    file = tmp_path / "closed.txt"
    file.write_text("x")
    file.chmod(0)
    if os.access(file, os.R_OK):
        pytest.skip("nothing can be denied to root")
    assert cli.guarded(lambda _: file.read_text())([]) == 2
    assert capsys.readouterr().err.startswith(f"error: {file}: Permission denied; see to its perm")


def test_commands_read_sets_without_importing_keras():
    code = (
        "import sys; from fields_jax.cli import guarded; "
        "guarded(lambda _: __import__('data_pipelines.reading.mixture') and None)([]); "
        "print('tensorflow' in sys.modules, 'keras.src' in sys.modules)"
    )
    environment = {k: v for k, v in os.environ.items() if k != "TF_USE_LEGACY_KERAS"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == ["True", "False"]
