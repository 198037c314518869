"""Run a program and write down what it took: ``python -IS launch.py RESULT COMMAND…``.

A process seems to have taken at least as much memory as the one that started it (Linux keeps the peak across
exec). So measured programs are started by this small one, which imports next to nothing.
"""

import os
import signal
import sys
import time


def main() -> None:
    """Run, wait, write: exit code, seconds, processor seconds, ru_maxrss."""
    result, command = sys.argv[1], sys.argv[2:]
    begin = time.perf_counter()
    pid = os.posix_spawnp(command[0], command, os.environ)
    signal.signal(signal.SIGTERM, lambda number, _: os.kill(pid, number))
    _, status, usage = os.wait4(pid, 0)
    seconds = time.perf_counter() - begin
    code = os.waitstatus_to_exitcode(status)
    with open(result, "w") as file:
        file.write(f"{code} {seconds!r} {usage.ru_utime + usage.ru_stime!r} {usage.ru_maxrss}\n")


if __name__ == "__main__":
    main()
