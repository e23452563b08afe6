"""What `benchmarks/goldens.py` records: a package beside the script, free of the project's own module names."""
