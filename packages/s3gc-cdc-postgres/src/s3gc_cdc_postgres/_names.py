"""Names of the slot and the publication."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path

from s3gc.config import Config


def names_for(config: Config) -> tuple[str, str]:
    """Slot and publication of one bucket and one vault: two collectors never share a slot."""
    vault = config.vault_path if "://" in config.vault_path else str(Path(config.vault_path).absolute())
    text = f"{config.store_url}\0{vault}"
    name = "s3gc_" + blake2b(text.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
    return name, name
