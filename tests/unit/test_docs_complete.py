"""Nothing public is undocumented, nothing documented is made up, and no link is broken.

What must be documented is taken from the program itself: its values, its source, its command line.
Tables between ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->`` are held to the program word by word; a
failing test shows the table as it must be.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import attrs
import pytest
import typer

import s3gc
import s3gc.builder
import s3gc.errors
import s3gc.testing.fakes
from acceptance.docs_blocks import ROOT, blocks, pages, prose
from s3gc import (
    Collector,
    Explanation,
    Plan,
    Position,
    Reference,
    Report,
    RestoreReport,
    Safety,
    abc,
    breakers,
    derivation,
    drill,
    events,
    journal_events,
    lease,
    owner,
)
from s3gc.archive import Archive
from s3gc.capabilities import StoreState
from s3gc.config import OPTIONS
from s3gc.config._s3 import SETTINGS, Setting
from s3gc.discovery import Lead
from s3gc.doctor import CHECKS, Check
from s3gc.health import Health, SourceHealth
from s3gc.hooks import Hooks
from s3gc.missing import Missing
from s3gc.model import ChangeBatch, Mode, RowChange, StoreCapabilities, TrippedBreaker, UntrackedColumn
from s3gc.operations import Operation
from s3gc.plan import PlanFooter
from s3gc.safety import MAY_CLEAR
from s3gc.stores.s3 import S3Store
from s3gc_cli._app import app

DOCS = ROOT / "docs"
SOURCE = ROOT / "packages" / "s3gc-core" / "src" / "s3gc"
COVERED = {"vault-format.md", "benchmarks.md"}  # of others; their links are checked all the same


@cache
def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def table(page: str, name: str) -> str:
    """What stands between the marks of this name."""
    found = re.findall(rf"<!-- {name}: begin -->\n(.*?)<!-- {name}: end -->", read(page), re.DOTALL)
    assert len(found) == 1, f"{page} must have one table {name}"
    return str(found[0])


def markdown(head: str, rows: Iterator[str]) -> str:
    columns = head.count("|") - 1
    return "\n".join([head, "|" + "---|" * columns, *rows]) + "\n"


def first_cells(text: str) -> list[str]:
    """The code in the first column of every table row."""
    return re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)


# ---------------------------------------------------------------------------------------------- options


def shown(value: Any) -> str:
    """A default as people write it."""
    if repr(value) == "required":
        return "required"
    if value is None:
        return "none"
    if isinstance(value, Mode):
        return f"`{value.value}`"
    if isinstance(value, Safety):
        return f"`Safety.{value.preset}()`"
    if isinstance(value, str):
        return f"`{value}`"
    if isinstance(value, int | float):
        return f"`{value}`"
    assert not value, f"write down how {value!r} is shown"
    return "none"


def env(name: str | None) -> str:
    return f"`{name}`" if name else ""


def test_the_options_of_the_readme() -> None:
    rows = (f"| `{o.name}` | {shown(o.default)} | {env(o.env)} | {o.help} |" for o in OPTIONS)
    assert table("README.md", "options") == markdown("| option | default | variable | what it is |", rows)


def test_the_options_of_the_reference() -> None:
    rows = (
        f"| `{o.name}` | {o.type} | {shown(o.default)} | {env(o.env)} | `{o.toml}` | {o.help} |"
        for o in OPTIONS
    )
    head = "| option | type | default | variable | in `s3gc.toml` | what it is |"
    assert table("docs/configuration.md", "options") == markdown(head, rows)


def test_the_settings_of_the_s3_client() -> None:
    def value(each: Setting) -> str:
        if each.between is not None:
            return "{} to {}".format(*each.between)
        return " or ".join(f"`{value}`" for value in each.values) or "text"

    rows = (f"| `{name}` | {value(each)} | {each.help} |" for name, each in SETTINGS.items())
    assert table("docs/configuration.md", "s3") == markdown("| setting | value | what it is |", rows)
    taken = inspect.signature(S3Store).parameters
    assert set(SETTINGS) <= set(taken)


def test_options_that_may_hold_a_secret_are_named() -> None:
    (named,) = re.findall(
        r"^May hold a secret: (.*?)\.", read("docs/configuration.md"), re.MULTILINE | re.DOTALL
    )
    assert set(re.findall(r"`(\w+)`", named)) == {option.name for option in OPTIONS if option.secret}


def number(value: Any) -> str:
    if value is None:
        return "unlimited"
    if isinstance(value, tuple):
        return ", ".join(f"`{code}`" for code in value) or "none"
    if isinstance(value, timedelta):
        seconds = int(value.total_seconds())
        for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
            if seconds and seconds % size == 0 and (unit != "d" or seconds > size):
                return f"{seconds // size}{unit}"
        return f"{seconds}s"
    return str(value).lower() if isinstance(value, bool) else str(value)


def unit(field: attrs.Attribute[Any]) -> str:
    if isinstance(field.default, timedelta):
        return "time"
    if field.name == "batch_bytes":
        return "bytes"
    if field.name == "preset":
        return "name"
    return {bool: "yes or no", float: "share, 0 to 1", int: "number", tuple: "codes"}[type(field.default)]


def test_the_safety_numbers() -> None:
    presets = [Safety.full(), Safety.none(), Safety.demo()]
    documented = field_texts(SOURCE / "safety.py", "Safety")
    rows = (
        f"| `{f.name}` | {unit(f)} | "
        + " | ".join(number(getattr(preset, f.name)) for preset in presets)
        + f" | {documented[f.name]} |"
        for f in attrs.fields(Safety)
    )
    head = "| number | unit | `full` (default) | `none` | `demo` | what it is |"
    assert table("docs/configuration.md", "safety") == markdown(head, rows)


def field_texts(path: Path, name: str) -> dict[str, str]:
    """Field → the text below it, from the source of a class."""
    (found,) = (
        node
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef) and node.name == name
    )
    texts: dict[str, str] = {}
    for node, after in zip(found.body, found.body[1:], strict=False):
        if (
            isinstance(node, ast.AnnAssign)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
        ):
            texts[ast.unparse(node.target)] = " ".join(str(after.value.value).split())
    return texts


def test_breakers_that_can_be_made_to_clear_themselves_are_named() -> None:
    (named,) = re.findall(
        r"^Can be made to clear themselves: (.*?)\.", read("docs/configuration.md"), re.MULTILINE | re.DOTALL
    )
    assert set(re.findall(r"`(\w+)`", named)) == set(MAY_CLEAR)


def test_the_bounds_of_derivation_are_the_real_ones() -> None:
    page = " ".join(read("docs/configuration.md").split())
    assert f"at most {derivation.MOST_FIELDS} fields" in page
    assert f"{derivation.GENERATIONS} generations" in page
    assert f"more than {derivation.MOST_PARENTS:,} parents" in page


def test_environment_variables_are_documented_and_real() -> None:
    from s3gc.config import _env

    real = {option.env for option in OPTIONS if option.env} | {_env.EXECUTE_MODE, _env.CONFIG_FILE}
    page = read("docs/configuration.md")
    for name in real:
        assert f"`{name}`" in page
    for path in pages():
        assert set(re.findall(r"\bS3GC_[A-Z_]*[A-Z]\b", path.read_text(encoding="utf-8"))) <= real, path.name


# ---------------------------------------------------------------------------------------------- codes


def gate_codes() -> set[str]:
    """The codes of the gates' classes, and the module's constants that have a text below them."""
    tree = ast.parse((SOURCE / "gates.py").read_text(encoding="utf-8"))
    codes: set[str] = set()
    for node, after in zip(tree.body, [*tree.body[1:], None], strict=True):
        match node, after:
            case ast.Assign(value=ast.Constant(value=str(code))), ast.Expr():
                codes.add(code)
            case ast.ClassDef(body=body), _:
                for inner in body:
                    match inner:
                        case ast.Assign(targets=[ast.Name(id="code")], value=ast.Constant(value=str(code))):
                            codes.add(code)
    return codes


def breaker_codes() -> set[str]:
    """Every code that a TrippedBreaker is made with anywhere in the source."""
    codes: set[str] = set()
    for path in SOURCE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and ast.unparse(call.func).rpartition(".")[2] == "TrippedBreaker":
                code = call.args[0] if call.args else next(k.value for k in call.keywords if k.arg == "code")
                codes |= constants(code, tree, f"{path.name}:{call.lineno}")
    return codes


def constants(node: ast.expr, tree: ast.Module, where: str) -> set[str]:
    """The texts that an expression can be; fails for one that can't be told."""
    match node:
        case ast.Constant(value=str(text)):
            return {text}
        case ast.IfExp(body=one, orelse=other):
            return constants(one, tree, where) | constants(other, tree, where)
        case ast.Name(id=name):
            assigned = [
                n.value
                for n in ast.walk(tree)
                if isinstance(n, ast.Assign) and any(ast.unparse(target) == name for target in n.targets)
            ]
            if assigned:
                return set().union(*(constants(value, tree, where) for value in assigned))
        case ast.Call(func=ast.Name(id=name)):
            returned = [
                inner.value
                for n in ast.walk(tree)
                if isinstance(n, ast.FunctionDef) and n.name == name
                for inner in ast.walk(n)
                if isinstance(inner, ast.Return) and inner.value is not None
            ]
            if returned:
                return set().union(*(constants(value, tree, where) for value in returned))
    raise AssertionError(f"{where}: write the breaker's code so that this test can read it")


def test_the_readers_of_the_source_find_what_is_known() -> None:
    assert {"referenced", "referenced_now", "too_young", "in_grace", "vetoed", "interrupted"} <= set(
        gate_codes()
    )
    assert {"no_sources", "vault_unusable", "source_failed", "recovery_pending"} <= breaker_codes()
    assert breaker_codes() >= breakers.ACKNOWLEDGEABLE
    code = ast.parse("def f(x):\n    if x:\n        return 'a'\n    return 'b' if x else 'c'")
    assert constants(ast.parse("f(x)", mode="eval").body, code, "here") == {"a", "b", "c"}
    for unclear in ("f(x)", "x", "a.f()", "'a' + 'b'"):
        with pytest.raises(AssertionError, match="so that this test can read it"):
            constants(ast.parse(unclear, mode="eval").body, ast.parse(""), "here")


@pytest.mark.parametrize("name", ["gates", "breakers"])
def test_every_reason_code_is_documented_and_real(name: str) -> None:
    codes = gate_codes() if name == "gates" else breaker_codes()
    documented = first_cells(table("docs/reason-codes.md", name))
    assert sorted(documented) == sorted(codes)


def test_breakers_that_may_be_acknowledged_are_named() -> None:
    rows = table("docs/reason-codes.md", "breakers").splitlines()
    yes = {re.findall(r"`([^`]+)`", row)[0] for row in rows if row.rstrip("| ").endswith("yes")}
    assert yes == breakers.ACKNOWLEDGEABLE


def test_which_breakers_stay_is_documented() -> None:
    """The column before the last: yes; no for those that end with their cause; or `self_clearing` decides."""
    rows = table("docs/reason-codes.md", "breakers").splitlines()[2:]
    stays = {re.findall(r"`([^`]+)`", row)[0]: row.strip("| ").split(" | ")[-2] for row in rows}
    assert {code for code, word in stays.items() if word == "no"} == breakers.NEVER_STAYS
    assert {code for code, word in stays.items() if word == "`self_clearing`"} == set(MAY_CLEAR)
    assert set(stays.values()) == {"yes", "no", "`self_clearing`"}


def test_every_reason_code_has_words_on_the_command_line() -> None:
    from s3gc_cli._render.plan import REASONS

    assert set(REASONS) == gate_codes()


def test_what_s3gc_keeps_in_the_bucket_is_documented() -> None:
    for prefix in (lease.LEASE_PREFIX, owner.FOLDER, drill.FOLDER, s3gc.abc.RESERVED_PREFIX):
        for page in ("docs/how-it-works.md", "docs/configuration.md"):
            assert f"`{prefix}" in read(page), page


def test_every_event_is_documented_word_by_word() -> None:
    rows = (f"| `{name}` | {text} |" for name, text in events.CATALOGUE.items())
    assert table("docs/events.md", "events") == markdown("| event | when, and with which data |", rows)


def test_every_journal_entry_is_documented_word_by_word() -> None:
    rows = (f"| `{name}` | {text} |" for name, text in journal_events.CATALOGUE.items())
    assert table("docs/events.md", "journal") == markdown("| entry | what its data holds |", rows)


def test_every_warning_of_the_log_is_documented() -> None:
    said = {
        node.args[0].value
        for path in SOURCE.rglob("*.py")
        if "testing" not in path.parts
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("warning", "error", "exception", "critical")
        and isinstance(node.args[0], ast.Constant)
    }
    assert len(said) > 10
    assert sorted(first_cells(table("docs/events.md", "warnings"))) == sorted(said)


# ---------------------------------------------------------------------------------------------- API


def test_every_hook_is_documented_with_its_arguments() -> None:
    page = read("docs/plugins.md")
    hooks = {name: hook for name, hook in vars(Hooks).items() if name.startswith("s3gc_")}
    for name, hook in hooks.items():
        arguments = ", ".join(list(inspect.signature(hook).parameters)[1:])
        assert f"| `{name}({arguments})` |" in page
    assert set(re.findall(r"^\| `(s3gc_\w+)\(", page, re.MULTILINE)) == set(hooks)


def test_every_public_name_is_documented() -> None:
    assert sorted(first_cells(table("docs/embedding.md", "names"))) == sorted(s3gc.__all__)


def public_methods(of: type) -> dict[str, str]:
    found = {}
    for name, member in vars(of).items():
        if not name.startswith("_") and (callable(member) or isinstance(member, classmethod | property)):
            function = member.__func__ if isinstance(member, classmethod) else member
            parameters = (
                [] if isinstance(function, property) else list(inspect.signature(function).parameters)[1:]
            )
            found[name] = ", ".join(p for p in parameters)
    return found


def test_every_method_of_the_collector_is_documented_with_its_arguments() -> None:
    documented = first_cells(table("docs/embedding.md", "collector"))
    assert sorted(documented) == sorted(f"{name}({text})" for name, text in public_methods(Collector).items())


def test_every_method_of_the_archive_is_documented_with_its_arguments() -> None:
    documented = first_cells(table("docs/embedding.md", "archive"))
    assert sorted(documented) == sorted(f"{name}({text})" for name, text in public_methods(Archive).items())


@pytest.mark.parametrize(
    "of",
    [
        Report,
        RestoreReport,
        Explanation,
        PlanFooter,
        Missing,
        Lead,
        Operation,
        TrippedBreaker,
        StoreState,
        StoreCapabilities,
        Health,
        SourceHealth,
    ],
    ids=lambda of: of.__name__,
)
def test_every_field_of_what_is_returned_is_documented(of: Any) -> None:
    documented = first_cells(table("docs/embedding.md", of.__name__))
    assert sorted(documented) == sorted(field.name for field in attrs.fields(of))


def test_all_that_a_plan_tells_is_documented() -> None:
    fields = {field.name for field in attrs.fields(Plan)}
    assert set(first_cells(table("docs/embedding.md", "Plan"))) == fields | set(public_methods(Plan)) | {
        "len(plan)"
    }


def test_every_error_is_documented() -> None:
    errors = {
        name
        for name, one in vars(s3gc.errors).items()
        if isinstance(one, type) and issubclass(one, s3gc.errors.S3GCError)
    }
    assert set(first_cells(table("docs/embedding.md", "errors"))) == errors


def test_every_step_of_the_builder_is_documented() -> None:
    assert set(first_cells(table("docs/configuration.md", "builder"))) == set(s3gc.builder.__all__)


@pytest.mark.parametrize(
    "of",
    [
        abc.ObjectStore,
        abc.ReferenceSource,
        abc.Vault,
        abc.Compressor,
        abc.ObjectCodec,
        abc.ObjectCoder,
        abc.Gate,
    ],
    ids=lambda of: of.__name__,
)
def test_every_method_of_a_contract_is_documented(of: type) -> None:
    assert set(first_cells(table("docs/plugins.md", of.__name__))) == set(public_methods(of))


@pytest.mark.parametrize(
    "of",
    [
        abc.ObjectStore,
        abc.ReferenceSource,
        abc.Vault,
        abc.Compressor,
        abc.ObjectCodec,
        abc.ObjectCoder,
        abc.Gate,
    ],
    ids=lambda of: of.__name__,
)
def test_every_attribute_of_a_contract_is_documented(of: type) -> None:
    page = read("docs/plugins.md")
    section = page[: page.index(f"<!-- {of.__name__}: begin -->")].rpartition("\n## ")[2]
    for name in of.__annotations__:
        assert f"`{name}`" in section, name


@pytest.mark.parametrize(
    "of", [Reference, Position, RowChange, ChangeBatch, UntrackedColumn], ids=lambda of: of.__name__
)
def test_every_field_of_what_a_source_tells_is_documented(of: Any) -> None:
    documented = first_cells(table("docs/plugins.md", of.__name__))
    assert sorted(documented) == sorted(field.name for field in attrs.fields(of))


def test_every_fake_and_every_contract_suite_is_documented() -> None:
    fakes = {
        name for name, one in vars(s3gc.testing.fakes).items()
        if isinstance(one, type) and one.__module__ == "s3gc.testing.fakes" and not name.startswith("_")
    }  # fmt: skip
    for name in fakes:
        assert f"`{name}" in read("docs/testing.md")
    suites = {
        node.name
        for path in (SOURCE / "testing").glob("*_contract.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and node.name.endswith("Contract")
    }
    assert len(suites) >= 4
    for name in suites:
        assert f"`{name}`" in read("docs/plugins.md")


def test_every_check_of_the_doctor_is_documented() -> None:
    rows = (f"| `{name}` | {what} |" for name, what in CHECKS.items())
    assert table("docs/cli.md", "doctor") == markdown("| check | what must hold |", rows)
    page = read("docs/embedding.md")
    for field in attrs.fields(Check):
        assert f"`{field.name}`" in page


def test_every_module_is_in_the_architecture() -> None:
    """One line for each file or folder of the core; private ones of a folder go with it."""
    modules = {
        f"{path.name}/" if path.is_dir() else path.name
        for path in SOURCE.iterdir()
        if path.name not in ("__pycache__", "py.typed")
    }
    assert set(first_cells(table("docs/architecture.md", "files"))) == modules


# ---------------------------------------------------------------------------------------------- command line


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        if not getattr(inner, "hidden", False):
            yield from commands(inner, (*path, name))


def options_of(command: Any) -> set[str]:
    """Long options and arguments, without --help."""
    found: set[str] = set()
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            found.add(str(parameter.metavar or parameter.name).strip("[]{}"))
        else:
            found |= {o for o in (*parameter.opts, *parameter.secondary_opts) if o.startswith("--")}
    return found - {"--help"}


def test_every_command_and_option_is_documented() -> None:
    page = read("docs/cli.md")
    root = typer.main.get_command(app)
    everywhere = options_of(root)
    sections = dict(re.findall(r"^#+ `(s3gc[^`]*)`\n(.*?)(?=^#+ |\Z)", page, re.MULTILINE | re.DOTALL))
    found = {" ".join(("s3gc", *path)): command for path, command in commands(root)}
    leaves = {name: command for name, command in found.items() if not getattr(command, "commands", {})}
    assert set(sections) == set(leaves)
    for option in everywhere:
        assert f"`{option}" in page, option
    for name, command in leaves.items():
        own = options_of(command) - everywhere
        assert set(re.findall(r"^\| `([^` =]+)", sections[name], re.MULTILINE)) == own, name


def test_every_exit_code_is_documented() -> None:
    from s3gc_cli import _errors

    codes = {value for name, value in vars(_errors).items() if name.isupper() and isinstance(value, int)}
    assert {int(code) for code in first_cells(table("docs/cli.md", "exit codes"))} == codes


# ---------------------------------------------------------------------------------------------- words

WORDS = frozenset(
    [
        "object",
        "reference",
        "source",
        "resolver",
        "registry",
        "position",
        "fence",
        "candidate",
        "gate",
        "breaker",
        "condemned",
        "plan",
        "sweep",
        "vault",
        "journal",
        "operation",
        "claim",
        "lease",
    ]
)
"""The words that s3gc is explained with; each page may use them."""


def test_the_glossary_has_every_word_once() -> None:
    words = re.findall(r"^\| \*\*([^*]+)\*\* \|", read("docs/glossary.md"), re.MULTILINE)
    assert len(words) == len(set(words))
    assert set(words) >= WORDS


# ---------------------------------------------------------------------------------------------- links


def slug(heading: str) -> str:
    """The anchor that a heading gets."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    return {slug(heading) for heading in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)}


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.stem)
def test_no_link_is_broken(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name}: {target}"
        assert ROOT in file.parents
        assert not anchor or anchor in anchors(file), f"{page.name}: {target}"


def test_every_page_is_in_the_index() -> None:
    linked = set(re.findall(r"\]\(([^)#\s]+\.md)\)", read("docs/index.md")))
    assert {page.name for page in DOCS.glob("*.md")} - {"index.md"} <= linked


def test_lines_are_readable() -> None:
    for page in pages():
        if page.name not in COVERED:
            for number, line in enumerate(prose(page).splitlines(), start=1):
                assert len(line) <= 120 or line.startswith("|"), f"{page.name}:{number}"
            for block in blocks(page):
                assert all(len(line) <= 120 for line in block.text.splitlines()), block.where
