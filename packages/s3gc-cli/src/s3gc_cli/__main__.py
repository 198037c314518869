"""``python -m s3gc_cli`` is the command ``s3gc``."""

from s3gc_cli import main

main()
