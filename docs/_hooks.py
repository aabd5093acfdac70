"""What `mkdocs build` adds to the files of docs/: the README in front, and an API page for each package."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

import griffe
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#:]+)(#[^)]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    home = re.sub(r"\A---\n.*?\n---\n", "", readme, flags=re.DOTALL).replace("](docs/", "](")
    files.append(File.generated(config, "index.md", content=home))
    for package, modules in _packages().items():
        content = f"# {package}\n" + "".join(f"\n::: {module}\n" for module in modules)
        files.append(File.generated(config, f"reference/{package}.md", content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links to the README lead to the first page; links to files that are no pages become their names."""
    here = PurePosixPath(page.file.src_uri)

    def mend(link: re.Match[str]) -> str:
        text, target = link[1], link[2]
        path = (DOCS / here.parent / target).resolve()
        if here.name == "index.md" and not path.exists():
            path = ROOT / target
        if path == ROOT / "README.md":
            return f"[{text}]({'../' * (len(here.parts) - 1)}index.md)"
        return text if path.exists() and not path.is_relative_to(DOCS) else link[0]

    return LINK.sub(mend, markdown)


def _packages() -> dict[str, list[str]]:
    """The modules of each package by its name, as files are: nothing is imported."""
    found: dict[str, list[str]] = {}
    for file in sorted((ROOT / "captionbot").rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        if "pages" not in parts and not parts[-1].startswith("_"):
            found.setdefault(".".join(parts[:-1]), []).append(".".join(parts))
    return found


class Arguments(griffe.Extension):
    """Lines of a docstring such as `size: in pixels` become a list."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = as_list(obj.docstring.value)


def as_list(docstring: str) -> str:
    """The docstring with `size: in pixels` as an item of a list of Markdown, with its indented lines."""
    lines: list[str] = []
    listed = False
    for line in docstring.splitlines():
        argument = re.match(r"(\w+(?:, \w+)*): (?=\S)", line)
        if argument and not line.startswith(("Raises", "Returns", "Yields")):
            lines += ([] if listed else [""]) + [f"- **{argument[1]}**: {line[argument.end() :]}"]
            listed = True
            continue
        if listed and line and not line.startswith(" "):
            lines.append("")
            listed = False
        lines.append(line)
    return "\n".join(lines)
