"""An application and its bucket, made to be collected, and the checks that nothing went wrong."""
