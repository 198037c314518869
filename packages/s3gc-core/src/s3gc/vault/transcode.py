"""Re-encoding a vault to plain zstd, so that nothing but zstd is needed to read it."""

from __future__ import annotations

from s3gc.model import TranscodeReport
from s3gc.vault._places import Places
from s3gc.vault._repack import Why, one_pack
from s3gc.vault.local import LocalVault


async def transcode(vault: LocalVault, operation_id: str, *, dry_run: bool) -> TranscodeReport:
    """Write each pack anew that has a backup by another codec than zstd (or none at all).

    Every copy is decoded, read back and compared, and noted before the old pack goes. A pack that can't be
    read as a whole stays. A run that is cut off has done some packs; the next one does the others.

    Raises:
        VaultError: the vault can't be read or written, or is full. What was moved stands in the journal.
    """
    encoded = moved = packs = before = after = 0
    problems: list[str] = []
    with Places() as places:
        await places.load(vault.journal)
        for plan in places.coded_packs():
            if not dry_run:
                done = await one_pack(vault, plan.pack, places, Why(operation_id), plain=True)
                if isinstance(done, str):
                    problems.append(f"{plan.pack}: {done}")
                    continue
                after += done.after
            packs += 1
            encoded += plan.coded
            moved += plan.others
            before += plan.bytes
    return TranscodeReport(operation_id, dry_run, encoded, moved, packs, before, after, tuple(problems))
