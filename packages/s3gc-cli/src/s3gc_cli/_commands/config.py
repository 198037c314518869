"""``s3gc config show``."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import attrs
from rich.console import Console
from rich.text import Text

from s3gc import Safety
from s3gc.config import OPTIONS, Config
from s3gc_cli._errors import DONE
from s3gc_cli._keys import show_text
from s3gc_cli._render.plan import table, title
from s3gc_cli._run import Session
from s3gc_cli._text import span


async def show(session: Session) -> int:
    """Show the configuration; opens no connection."""
    config, found = session.config()
    options = config.redacted()
    session.answer(
        {"from": found, "digest": config.digest, "options": options},
        f"{found}: {config!r}",
        lambda console: _show(console, config, options, found),
    )
    return DONE


def _show(console: Console, config: Config, options: dict[str, Any], found: str) -> None:
    console.print(title("Configuration", f"from {found}"), soft_wrap=True)
    rows = table("option", "value", "")
    shown = {**options, "safety": _safety(config.safety)}
    for option in OPTIONS:
        changed = getattr(config, option.name) != option.default
        rows.add_row(
            option.name,
            Text(_value(shown[option.name]), style="bold" if changed else "dim"),
            "" if changed else Text("default", style="dim"),
        )
    console.print(rows)


def _safety(safety: Safety) -> dict[str, Any]:
    """The safety numbers with their units."""
    found = {field.name: getattr(safety, field.name) for field in attrs.fields(Safety)}
    return {
        name: span(value) if isinstance(value, timedelta) else "no limit" if value is None else value
        for name, value in found.items()
    }


def _value(value: Any) -> str:
    if value is None or value in ([], (), {}):
        return "-"
    if isinstance(value, dict):
        return "\n".join(f"{name}: {_value(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_value(inner) for inner in value)
    return show_text(value) if isinstance(value, str) else json.dumps(value)
