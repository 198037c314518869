"""``s3gc.toml`` → options."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, get_type_hints

from s3gc.config._checks import show, split_url
from s3gc.config._config import OPTIONS
from s3gc.config._options import nearest, refuse_unknown
from s3gc.errors import ConfigError
from s3gc.safety import Safety

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SPAN = re.compile(r"(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?")
_PRESETS = {"full": Safety.full, "none": Safety.none, "demo": Safety.demo}
_UNLIMITED = "unlimited"


def read_file(path: Path, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a file gives, with ``overrides`` laid over them."""
    values = _parse(path)
    refuse_unknown(values, (option.name for option in OPTIONS), f"option in {path}:")
    for option in OPTIONS:
        if option.secret and option.name in values:
            values[option.name] = _substituted(option.name, values[option.name])
    if "safety" in values:
        values["safety"] = read_safety(values["safety"])
    vault = values.get("vault_path", "./s3gc_vault")
    elsewhere = path.parent != Path()
    if elsewhere and isinstance(vault, str) and vault and split_url(vault) is None and vault[0] != "~":
        values["vault_path"] = path.parent / vault
    return {**values, **overrides}


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"there is no configuration file {path}: name one, or write {path} first") from None
    except OSError as error:
        raise ConfigError(f"the configuration file {path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"the configuration file {path} is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the configuration file {path} is not valid TOML: {error}") from None


def _substituted(name: str, value: Any) -> Any:
    """``${NAME}`` → the environment variable NAME, in a text or in the texts of a list."""
    if isinstance(value, list):
        return [_substituted(name, item) for item in value]
    if not isinstance(value, str):
        return value

    def variable(match: re.Match[str]) -> str:
        found = os.environ.get(match[1], "")
        if not found:
            raise ConfigError(
                f"{name} asks for the environment variable {match[1]}, which is not set or empty"
            )
        return found

    if "${" in _VARIABLE.sub("", value):
        raise ConfigError(
            f"{name} has a ${{ without a variable's name: write ${{NAME}}, or %24%7B for the characters"
        )
    return _VARIABLE.sub(variable, value)


def read_safety(table: Any) -> Safety:
    """The ``[safety]`` table: a preset, and the numbers that differ from it.

    Raises:
        ConfigError: an unknown name or preset, a malformed time, a number out of range.
    """
    if not isinstance(table, Mapping):
        raise ConfigError(
            'safety must be a table: write [safety] and below it preset = "full" or grace = "3d"'
        )
    kinds = get_type_hints(Safety)
    refuse_unknown(table, kinds, "safety number")
    preset = table.get("preset", "full")
    if not isinstance(preset, str) or preset not in _PRESETS:
        hint = nearest(str(preset), _PRESETS)
        raise ConfigError(f"safety: preset must be one of {', '.join(_PRESETS)}, got {show(preset)}{hint}")
    changes = {name: _number(name, value, kinds[name]) for name, value in table.items() if name != "preset"}
    try:
        return _PRESETS[preset]().but(**changes)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"safety: {error.args[0]}") from None


def _number(name: str, value: Any, kind: Any) -> Any:
    if name == "self_clearing":
        return value  # Safety checks it
    if kind is timedelta:
        return span(f"safety: {name}", value)
    if name == "max_deletes" and value == _UNLIMITED:
        return None
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    wanted = bool if kind is bool else float if kind is float else int
    if type(value) is not wanted:
        names = {bool: "true or false", float: "a number such as 0.5", int: "a whole number"}
        or_none = f' or "{_UNLIMITED}"' if name == "max_deletes" else ""
        raise ConfigError(f"safety: {name} must be {names[wanted]}{or_none}, got {show(value)}")
    return value


def span(name: str, value: Any) -> timedelta:
    """A time: seconds as a number, or ``"3d"``, ``"12h"``, ``"30m"``, ``"45s"``, ``"1d12h"``.

    Raises:
        ConfigError: anything else, and times that are negative or beyond what dates can hold.
    """
    problem = f'{name} must be a time such as "3d", "12h", "30m" or a number of seconds, got {show(value)}'
    try:
        if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
            return timedelta(seconds=value)
        match = _SPAN.fullmatch(value) if isinstance(value, str) and value else None
        if match is not None:
            days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
            return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    except (OverflowError, ValueError):
        pass
    raise ConfigError(problem)
