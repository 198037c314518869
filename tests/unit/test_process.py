"""What s3gc sets in a process of its own."""

from __future__ import annotations

import subprocess
import sys

from s3gc import process


def test_the_command_tunes_its_process_and_the_library_does_not() -> None:
    asked = [
        subprocess.check_output([sys.executable, "-c", f"import {what}; print(gc.get_threshold())"])
        for what in ("gc", "gc, s3gc, s3gc.collector")
    ]
    assert asked[0] == asked[1]
    run = (
        "import atexit, gc; from s3gc_cli import main; atexit.register(lambda: print(gc.get_threshold()));"
        "main(['--config', 'no-such.toml', 'status'])"
    )
    done = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == str(process.CYCLES_AFTER)
