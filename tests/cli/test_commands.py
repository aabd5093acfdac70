"""What all command lines share: one line for what went wrong, and the exit code."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import build_tiny_captioner

from captionbot import Captioner
from captionbot.cli.commands import Parser, command
from captionbot.errors import CaptionBotError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (CaptionBotError("It is\nwrong."), 2, "It is wrong.\n"),
        (
            OSError(28, "No space left on device", "a.json"),
            2,
            "a.json cannot be read or written (No space left",
        ),
        (ModuleNotFoundError("No module named 'PIL'", name="PIL.Image"), 2, "This Python has no package PIL"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_what_goes_wrong_is_one_line_and_a_code(error, code, said, capsys):
    @command
    def main():
        raise error

    assert main() == code
    assert capsys.readouterr().err.startswith(said)


def test_a_flag_that_is_wrong_is_one_line_without_the_usage(capsys):
    parser = Parser("prog")
    parser.add_argument("--limit", type=int)
    with pytest.raises(SystemExit) as stop:
        parser.parse_args(["--limit", "x"])
    assert stop.value.code == 2
    assert capsys.readouterr().err == (
        "prog: argument --limit: invalid int value: 'x'; `prog --help` shows what is allowed\n"
    )


def test_a_reader_that_has_seen_enough_is_no_error():
    program = (
        "import sys\nfrom captionbot.cli.commands import command\n"
        "@command\ndef main():\n    for _ in range(99999): print('line')\nsys.exit(main())"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "line\n"
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 0


def test_commands_start_where_docstrings_are_stripped():
    names = [f"training.{name}" for name in ("data.__main__", "train", "evaluate", "compare", "export")]
    program = (
        "import importlib\n"
        f"for name in ['captionbot.__main__', *{names}]:\n"
        "    try: importlib.import_module(name).main(['--help'])\n"
        "    except SystemExit as stop: print(f'{name}: {stop.code}')"
    )
    done = subprocess.run([sys.executable, "-OO", "-c", program], cwd=ROOT, capture_output=True, text=True)
    said = [line for line in done.stdout.splitlines() if line.endswith(": 0")]
    assert [line.removesuffix(": 0") for line in said] == ["captionbot.__main__", *names], done.stderr


def test_torch_gets_a_folder_for_a_user_without_a_name(tmp_path, monkeypatch):
    def unknown():
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr("getpass.getuser", unknown)
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    Captioner.from_pretrained(build_tiny_captioner(tmp_path))
    assert "torchinductor" in os.environ["TORCHINDUCTOR_CACHE_DIR"]
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")  # which is then what it was before


@pytest.mark.slow  # it imports torch anew, and all of torch._dynamo
def test_a_captioner_loads_for_a_user_without_a_name(tmp_path):
    as_nobody = ["unshare", "-U", "--map-user=12345"]
    if not shutil.which("unshare") or subprocess.run([*as_nobody, "true"], capture_output=True).returncode:
        pytest.skip("needs unshare, and the right to make a user namespace")
    card = build_tiny_captioner(tmp_path)
    load = f"from captionbot import Captioner; Captioner.from_pretrained({str(card)!r}); import torch._dynamo"
    unknown = ("USER", "LOGNAME", "LNAME", "USERNAME", "HOME", "TORCHINDUCTOR_CACHE_DIR")
    environment = {name: value for name, value in os.environ.items() if name not in unknown}
    command = [*as_nobody, sys.executable, "-c", load]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
