"""The commands of `mobilessd`, one module each: `add_arguments(parser)` and `run(args) -> exit code`."""
