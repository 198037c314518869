"""s3gc finds this module by its entry point, and asks it for every source of the configuration."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from s3gc import ReferenceSource, Resolver, hookimpl
from s3gc.errors import ConfigError
from s3gc_source_markdown.source import MarkdownSource

__all__ = ["MarkdownSource", "s3gc_open_source"]


@hookimpl
def s3gc_open_source(url: str, resolver: Resolver) -> ReferenceSource | None:
    """``markdown:///srv/site/content``. None: the URL is of another plugin."""
    parts = urlsplit(url)
    if parts.scheme != "markdown":
        return None
    if parts.netloc or not parts.path.startswith("/"):
        raise ConfigError(f"{url!r} must be markdown:///ABSOLUTE/PATH")
    return MarkdownSource(Path(unquote(parts.path)), resolver)
