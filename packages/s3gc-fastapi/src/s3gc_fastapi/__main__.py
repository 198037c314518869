"""``python -m s3gc_fastapi``: the admin by itself, configured by the environment."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until stopped. Returns the exit code: 2 for a configuration that can't be meant."""
    parser = argparse.ArgumentParser(
        prog="python -m s3gc_fastapi", description="The admin of s3gc by itself."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on (8000)")
    chosen = parser.parse_args(arguments)
    try:
        import uvicorn
    except ModuleNotFoundError:
        print("the server isn't installed: pip install 's3gc-fastapi[server]'", file=sys.stderr)
        return 2

    from s3gc import process
    from s3gc.errors import ConfigError
    from s3gc_fastapi._service import config_of_service, create_service, log_as_json

    log_as_json()
    process.tune()
    try:
        app = create_service(config_of_service())
    except ConfigError as error:
        print(f"s3gc: {error}", file=sys.stderr)
        return 2
    uvicorn.run(
        app,
        host=chosen.host,
        port=chosen.port,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,  # pages that show progress keep a connection open
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
