"""How the demo looks: numbered steps, short tables, a list of checks at the end."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from s3gc_cli._demo._checks import Check
from s3gc_cli._demo._world import World
from s3gc_cli._keys import show_key, show_text
from s3gc_cli._render.plan import table
from s3gc_cli._render.reports import verdict
from s3gc_cli._text import count, size

_LEAST = 20  # characters of an example, however narrow the terminal


def _widest(world: World) -> tuple[str, str]:
    return max((form.place for form in world.forms), key=len), max(
        (form.words for form in world.forms), key=len
    )


class Stage:
    """Where the demo is shown."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._step = 0

    def step(self, title: str, command: str = "") -> None:
        """The next step, and the command that does it in real life."""
        self._step += 1
        line = Text.assemble((f"\n{self._step}. {title}", "bold cyan"), (command and f"   {command}", "dim"))
        self.console.print(line, soft_wrap=True)

    def say(self, text: str) -> None:
        """A sentence."""
        self.console.print(Text(text))

    def quote(self, key: str, sentence: str) -> None:
        """A key and what is said of it."""
        self.console.print(Text("  ").append(show_key(key), style="bold"), soft_wrap=True)
        self.console.print(Text(f"  {show_text(sentence)}"), soft_wrap=True)

    def world(self, world: World) -> None:
        """The application and its bucket."""
        rows = table("rows", "in", "say it by", "for example", numbers=["rows"])
        room = max(_LEAST, self.console.width - sum(map(len, ("rows  ", *_widest(world)))) - 8)
        for form in world.forms:
            example = show_text(" ".join(form.example.split()))
            if len(example) > room:
                example = example[: room - 1] + "…"
            rows.add_row(
                f"{world.rows[form.place.partition('.')[0]]:,}",
                form.place,
                form.words,
                Text(example, style="dim"),
            )
        self.console.print(rows)
        self.say(
            f"{count(sum(world.rows.values()), 'row')} name {len(world.today):,} of the bucket's "
            f"{count(len(world.objects), 'object')} ({size(world.size)})."
        )

    def checks(self, checks: Sequence[Check]) -> None:
        """How all claims came out."""
        self.console.print()
        for check in checks:
            self.console.print(
                verdict(self.console, check.ok, check.claim).append(
                    f"  {show_text(check.found)}", style="dim"
                ),
                soft_wrap=True,
            )
