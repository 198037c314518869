"""The number under which we read the log: servers and readers of one log must not share one."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path

from s3gc.config import Config


def server_id_for(config: Config) -> int:
    """The same for one bucket and one vault: what a crashed process has left reading is ended by its heir."""
    vault = config.vault_path if "://" in config.vault_path else str(Path(config.vault_path).absolute())
    text = f"{config.store_url}\0{vault}"
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).digest()
    return int.from_bytes(digest, "big") | 0x80000000  # people choose small ones
