"""What the global options say. They may stand before or after the command."""

from __future__ import annotations

from dataclasses import dataclass, replace  # not attrs: --help doesn't load s3gc, and this starts faster
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """The global options of one run."""

    config: Path | None = None
    json: bool = False
    quiet: bool = False
    verbose: int = 0
    log_json: bool = False

    @property
    def debug(self) -> bool:
        """Whether errors come with their traceback."""
        return self.verbose >= 2

    def merged(self, later: Settings) -> Settings:
        """These, with the options that stand after the command laid over them."""
        return replace(
            self,
            config=later.config or self.config,
            json=later.json or self.json,
            quiet=later.quiet or self.quiet,
            verbose=max(later.verbose, self.verbose),
            log_json=later.log_json or self.log_json,
        )
