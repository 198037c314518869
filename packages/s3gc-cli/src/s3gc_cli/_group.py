"""The outermost layer: whatever happens while parsing becomes an exit code, whoever called the app."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from s3gc_cli._errors import INTERRUPTED, USAGE

# Newer releases of typer carry their own copy of click, older ones import it: reach the class from here.
_Refused: type[Exception] = next(
    base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException"
)


class Group(TyperGroup):
    """A group of commands whose ``main`` always ends the process with an exit code."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run; raises SystemExit."""
        arguments = list(sys.argv[1:] if args is None else args)
        sys.exit(self._code(arguments, prog_name))

    def _code(self, arguments: list[str], prog_name: str | None) -> int:
        try:
            result = super().main(args=arguments, prog_name=prog_name, standalone_mode=False)
        except _Refused as error:
            error.show()  # type: ignore[attr-defined]
            if "--json" in arguments:
                self._document(error)
            return int(getattr(error, "exit_code", USAGE))
        except typer.Exit as left:
            return int(left.exit_code)
        except (typer.Abort, KeyboardInterrupt):
            print("interrupted: nothing was begun", file=sys.stderr)
            return INTERRUPTED
        return result if isinstance(result, int) else 0

    def _document(self, error: Exception) -> None:
        from s3gc_cli._output import write_document

        text = error.format_message()  # type: ignore[attr-defined]
        write_document(sys.stdout, {"error": {"type": "usage", "message": text, "exit_code": USAGE}})
