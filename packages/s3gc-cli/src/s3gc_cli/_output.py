"""Where a run writes: answers on stdout, everything else on stderr, and no secret on either."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from rich.console import Console
from rich.text import Text

from s3gc_cli._keys import show_text
from s3gc_cli._settings import Settings

if TYPE_CHECKING:
    from s3gc.config import Config


PIPED_COLUMNS = 120
"""Width of tables where there is no terminal."""


class Secrets:
    """Takes the secrets of a configuration out of texts, as soon as there is a configuration."""

    def __init__(self) -> None:
        self._config: Config | None = None

    def of(self, config: Config) -> None:
        """From now on, hide what this configuration holds."""
        self._config = config

    def scrub(self, text: str) -> str:
        """The text without secrets."""
        if self._config is None:
            return text
        from s3gc.config import scrub

        return scrub(text, self._config)

    def scrub_all(self, value: Any) -> Any:
        """A JSON value with every text in it scrubbed, names excepted."""
        if isinstance(value, str):
            return self.scrub(value)
        if isinstance(value, Mapping):
            return {name: self.scrub_all(inner) for name, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.scrub_all(inner) for inner in value]
        return value


class Output:
    """The two streams of a run."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.secrets = Secrets()
        for stream in (sys.stdout, sys.stderr):
            # A key that the terminal's encoding lacks is escaped, never an error after the work is done.
            reconfigure = getattr(stream, "reconfigure", None)
            if reconfigure is not None:
                reconfigure(errors="backslashreplace")
        self._stdout: TextIO = sys.stdout
        self.lines = False
        """Whether ``--json`` means JSON Lines here: many documents, an error's too, of one line each."""
        self.out = _console(sys.stdout)
        self.err = _console(sys.stderr)

    @property
    def for_people(self) -> bool:
        """Whether the answer is text: neither JSON nor one line."""
        return not self.settings.json and not self.settings.quiet

    def answer(self, document: Mapping[str, Any], line: str, show: Callable[[Console], None]) -> None:
        """Give the answer in the form that was asked for: JSON, one line, or ``show`` for people."""
        if self.settings.json:
            write_document(self._stdout, document)
        elif self.settings.quiet:
            self.out.print(Text(show_text(line)), soft_wrap=True)
        else:
            show(self.out)

    @property
    def binary(self) -> BinaryIO:
        """Stdout for bytes as they are."""
        return self._stdout.buffer

    def line(self, document: Mapping[str, Any]) -> None:
        """One document of JSON Lines on stdout, at once."""
        self._stdout.write(json.dumps(document) + "\n")
        self._stdout.flush()

    def note(self, text: str, style: str = "") -> None:
        """A line for people on stderr; not with ``--quiet``."""
        if not self.settings.quiet:
            self.err.print(Text(show_text(self.secrets.scrub(text)), style=style), soft_wrap=True)

    def log(self, line: str) -> None:
        """A log line, scrubbed, on stderr, above a progress bar if there is one."""
        self.err.print(Text(self.secrets.scrub(line)), soft_wrap=True)

    def error(self, text: str, document: Mapping[str, Any]) -> None:
        """The one line of an error on stderr, and with ``--json`` the document on stdout."""
        line = Text.assemble(("error:", "bold red"), f" {show_text(self.secrets.scrub(text))}")
        self.err.print(line, soft_wrap=True)
        if self.settings.json and self.lines:
            self.line(self.secrets.scrub_all(document))
        elif self.settings.json:
            write_document(self._stdout, self.secrets.scrub_all(document))


def _console(stream: TextIO) -> Console:
    """Nothing is guessed from the text. Files and pipes have room for whole lines; $COLUMNS wins."""
    piped = not stream.isatty() and "COLUMNS" not in os.environ and "FORCE_COLOR" not in os.environ
    return Console(
        file=stream, highlight=False, markup=False, emoji=False, width=PIPED_COLUMNS if piped else None
    )


class Rows:
    """An array of a document that is written while it is read: a plan can have millions of objects."""

    def __init__(self, rows: Iterable[Any]) -> None:
        self.rows = rows


def write_document(stream: TextIO, document: Mapping[str, Any]) -> None:
    """One JSON document in ASCII (exact for every key, whatever the stream's encoding), and a newline."""
    stream.write("{")
    for position, (name, value) in enumerate(document.items()):
        stream.write(("," if position else "") + f"\n  {json.dumps(name)}: ")
        if isinstance(value, Rows):
            separator = "["
            for row in value.rows:
                stream.write(f"{separator}\n    {json.dumps(row)}")
                separator = ","
            stream.write("[]" if separator == "[" else "\n  ]")
        else:
            stream.write(json.dumps(value, indent=2).replace("\n", "\n  "))
    stream.write("\n}\n")
    stream.flush()
