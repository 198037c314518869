"""Who holds a lease: the lock file that a collector works under, by a name that no other has."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from s3gc import _threads
from s3gc.errors import VaultError

ID_FILE = "collector.id"


async def holder_of(folder: Path, new_id: str) -> str:
    """The name of this folder's lock on this machine.

    Two collectors with one name can't run at once (the lock forbids it), so one may go on where the other
    died. The machine's name belongs to it: a copy of the folder on another host is another holder.

    Args:
        new_id: the name's first part, if the folder has none yet.

    Raises:
        VaultError: the folder can't be read or written.
    """
    return f"{await _threads.run(lambda: _id(folder / ID_FILE, new_id))}@{platform.node()}"


def _id(path: Path, new_id: str) -> str:
    try:
        # Made whole under another name, so that a crash leaves no half of it.
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        if not path.exists():
            draft.write_text(new_id, encoding="utf-8")
            draft.replace(path)
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise VaultError(f"{path} can't be used ({error.strerror}): is the folder read-only?") from None
