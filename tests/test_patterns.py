"""No pattern of the project takes long, whatever it is given: all are as long at work as the text is long."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from captionbot.text.parts_of_speech import parts_of_speech
from captionbot.text.tokenizer import detokenize, tokenize

ROOT = Path(__file__).parents[1]
METHODS = {"match", "search", "sub", "findall", "finditer", "fullmatch", "split"}
FUNCTIONS = {f"re.{name}" for name in METHODS | {"compile"}}
HANG = 120  # seconds for all patterns; a quadratic one alone takes longer
LENGTH = 100_000
PIECES = (
    "a-.",
    "www.",
    "a.",
    "a ",
    "1.",
    "1",
    " ",
    "A&",
    "a'",
    "(",
    "n't ",
    ".com",
    "a.com ",
    "\u0301",
    "{",
    "_",
)


class Pattern(NamedTuple):
    """Where it stands, in letters of one byte each where it is of bytes, and what it is used by."""

    where: str
    text: str
    is_bytes: bool
    flags: int
    methods: list[str]


def patterns() -> Iterator[Pattern]:
    """All that are written in the code."""
    for folder in ("captionbot", "training"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            source = path.read_text()
            for name, call in calls(ast.parse(source)):
                first = call.args[0]
                if isinstance(first, ast.Constant):
                    pattern, said = first.value, ast.unparse(call)
                    flags = sum(
                        getattr(re, f) for f in ("VERBOSE", "IGNORECASE", "DOTALL") if f"re.{f}" in said
                    )
                    method = call.func.attr
                    used = [method] if method in METHODS else re.findall(rf"\b{name}\.(\w+)\(", source)
                    is_bytes = isinstance(pattern, bytes)
                    text = pattern.decode("latin-1") if is_bytes else pattern
                    where = f"{path.relative_to(ROOT)}:{call.lineno}"
                    yield Pattern(where, text, is_bytes, flags, sorted(METHODS & set(used)))


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Calls of functions of `re`, and the names that what they return is given."""
    names = {node.value: node.targets[0] for node in ast.walk(tree) if isinstance(node, ast.Assign)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in FUNCTIONS:
            yield ast.unparse(names[node]) if node in names else "", node


ATTACK = r"""
import json, re, sys
length, pieces, patterns = json.load(sys.stdin)
for where, pattern, is_bytes, flags, methods in patterns:
    compiled = re.compile(pattern.encode("latin-1") if is_bytes else pattern, flags)
    signs = sorted(set(re.sub(r"\\w|[a-z]{3,}", "", pattern)))
    for piece in [*pieces, *signs]:
        print(where, repr(piece), flush=True)
        for end in ("", "!"):
            text = (piece * length)[:length] + end
            subject = text.encode("latin-1", "replace") if is_bytes else text
            for method in methods:
                found = compiled.sub("", subject) if method == "sub" else getattr(compiled, method)(subject)
                if method == "finditer":
                    for _ in found: pass
"""


def test_patterns_are_as_long_at_work_as_the_text_is_long():
    found = list(patterns())
    assert len(found) > 10
    given = json.dumps([LENGTH, PIECES, found])
    child = subprocess.Popen(
        [sys.executable, "-c", ATTACK],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        _, errors = child.communicate(given, timeout=HANG)
    except subprocess.TimeoutExpired:
        child.kill()
        pytest.fail(f"hangs: {child.communicate()[0].splitlines()[-1:]}")
    assert child.returncode == 0, errors


@pytest.mark.parametrize("piece", ["a-.", "a.com ", "\u0301"])
def test_a_megabyte_of_text_is_read_at_once(piece):
    words = tokenize(piece * (1_000_000 // len(piece)))
    parts_of_speech(words)
    detokenize(words)
