"""Pages of the site that aren't written by hand, and links out of docs/ that must lead somewhere on it.

The pages below docs/ are read on a forge, too: there they link to ../README.md and to files of the
repository. Here those are pages and files of the site.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
CORE = ROOT / "packages" / "s3gc-core" / "src" / "s3gc"

PAGES = {"README.md": "readme.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
"""Of the repository's folder, and what they are here."""

API = {
    "The collector": ["s3gc.Collector"],
    "Configuration": [
        "s3gc.create_config",
        "s3gc.load_config",
        "s3gc.create_config_from_env",
        "s3gc.Config",
        "s3gc.Safety",
        "s3gc.builder",
    ],
    "The vault by itself": ["s3gc.archive.Archive"],
    "Values": ["s3gc.model", "s3gc.plan.Plan", "s3gc.operations.Operation", "s3gc.health.Health"],
    "Questions": [
        "s3gc.backtest",
        "s3gc.difference.Difference",
        "s3gc.discovery",
        "s3gc.doctor.examine",
        "s3gc.missing.Missing",
    ],
    "Errors": ["s3gc.errors"],
    "Contracts": ["s3gc.abc"],
    "Resolver": ["s3gc.resolver.Resolver"],
    "Tests": ["s3gc.testing.fakes"],
}
"""What the API reference is made of, by heading."""

_LINK = re.compile(r"\]\(([^)\s]+)\)")


def hooks_page(source: str) -> str:
    """The reference of the hooks, from the code."""
    tree = ast.parse(source)
    (hooks,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Hooks"]
    lines = [
        "# Hook reference",
        "",
        "Made from the code. [Writing a plugin](../plugins.md) says how to use them, and which of them stay.",
        "",
        "| hook | first answer counts |",
        "|---|---|",
    ]
    functions = [node for node in hooks.body if isinstance(node, ast.FunctionDef)]
    for node in functions:
        first = any("firstresult=True" in ast.unparse(one) for one in node.decorator_list)
        lines.append(f"| [`{node.name}`](#{node.name}) | {'yes' if first else 'no: all are asked'} |")
    for node in functions:
        arguments = ", ".join(
            f"{one.arg}: {ast.unparse(one.annotation)}" for one in node.args.args[1:] if one.annotation
        )
        returns = ast.unparse(node.returns) if node.returns else "None"
        lines += [
            "",
            f"## {node.name}",
            "",
            "```python",
            f"def {node.name}({arguments}) -> {returns}: ...",
            "```",
        ]
        lines += ["", ast.get_docstring(node) or ""]
    return "\n".join(lines) + "\n"


def api_page() -> str:
    """The API reference; mkdocstrings fills it in from the docstrings."""
    lines = [
        "# API reference",
        "",
        "Made from the docstrings. [Embedding](../embedding.md) says how to use it.",
        "",
    ]
    for heading, names in API.items():
        lines += [f"## {heading}", ""]
        for name in names:
            lines += [f"::: {name}", "    options:", "      heading_level: 3", ""]
    return "\n".join(lines)


def static_files() -> dict[str, Path]:
    """Files of the repository that pages link to: name on the site → file."""
    found: dict[str, Path] = {}
    for page in sorted((ROOT / "docs").rglob("*.md")):
        for target in _LINK.findall(page.read_text(encoding="utf-8")):
            path = target.partition("#")[0]
            if not path.startswith("../") or PurePosixPath(path).name in PAGES:
                continue
            file = (page.parent / path).resolve()
            if file.is_file() and ROOT in file.parents and file.suffix != ".md":
                found[_static(path)] = file
    return found


def _static(path: str) -> str:
    name = PurePosixPath(path).name
    return f"files/{name if '.' in name else name + '.txt'}"


def links(markdown: str, *, of_root: bool) -> str:
    """A page's links as they are on the site.

    Args:
        of_root: the page is one of the repository's folder, else one right below docs/.
    """

    def there(match: re.Match[str]) -> str:
        target, hash_, anchor = match[1].partition("#")
        if of_root and target.startswith("docs/"):
            target = target.removeprefix("docs/")
        elif of_root and target in PAGES:
            target = PAGES[target]
        elif target.startswith("../") and target.removeprefix("../") in PAGES:
            target = PAGES[target.removeprefix("../")]
        elif target.startswith("../"):
            target = _static(target)
        return f"]({target}{hash_}{anchor})"

    return _LINK.sub(there, markdown)


# ------------------------------------------------------------------ called by MkDocs


def on_files(files: Files, config: Any) -> Files:
    """Add what isn't written by hand."""
    made = {
        "reference/hooks.md": hooks_page((CORE / "hooks.py").read_text(encoding="utf-8")),
        "reference/api.md": api_page(),
    }
    for name, page in PAGES.items():
        made[page] = links((ROOT / name).read_text(encoding="utf-8"), of_root=True)
    for uri, text in made.items():
        files.append(File.generated(config, uri, content=text))
    for uri, path in static_files().items():
        files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links of a page below docs/."""
    uri = page.file.src_uri
    return markdown if "/" in uri or uri in PAGES.values() else links(markdown, of_root=False)


def on_post_build(config: Any) -> None:
    """The theme would fetch Mermaid, which no page uses, and a polyfill for old browsers: it can't."""
    for script in Path(config["site_dir"]).glob("assets/javascripts/*.js"):
        text = script.read_text(encoding="utf-8")
        script.write_text(re.sub(r"https://unpkg\.com/", "about:blank?", text), encoding="utf-8")
    for source_map in Path(config["site_dir"]).rglob("*.map"):
        source_map.unlink()
