"""Where modules lay before version 0.1: only what the documentation named is still found here."""
