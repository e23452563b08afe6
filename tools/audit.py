"""Whether anything that is installed has a known weakness, by pip-audit. Exit code 1 where something has, 2 where nobody said.

    python tools/audit.py PIP_AUDIT FOLDER        # the program, and the site-packages that are looked at

pip-audit asks PyPI for each package, and counts those of which PyPI says nothing as skipped, with exit code 0: behind an index
that serves packages alone these are all of them. Its --strict ends at the first one, which is this project itself, as it is no
package of PyPI's here. So what was skipped is counted from its JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys

OURS = "distribution marked as editable"  # this checkout


def main(program: str, folder: str) -> int:
    command = [program, "--skip-editable", "--progress-spinner", "off", "--format", "json", "--path", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):  # no connection, no answer: its last line says why
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1].strip()
        print(f"not audited: pip-audit gave up ({reason[:300]}); it needs https://pypi.org", file=sys.stderr)
        return 2
    weak = [one for one in found if one.get("vulns")]
    for one in weak:
        for weakness in one["vulns"]:
            mended = (
                f"mended in {', '.join(weakness['fix_versions'])}" if weakness["fix_versions"] else "not mended yet"
            )
            print(f"{one['name']} {one['version']}: {weakness['id']}, {mended}", file=sys.stderr)
    asked = [one for one in found if one.get("skip_reason") != OURS]
    unknown = [one["name"] for one in asked if "skip_reason" in one]
    print(f"{len(asked) - len(unknown)} of {len(asked)} packages audited, {len(weak)} with a known weakness")
    if unknown or not asked:
        few = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
        print(
            f"not audited: {len(unknown)} of {len(asked)} packages ({few or 'none is there'}), of which pypi.org's JSON says "
            "nothing here; run it where https://pypi.org itself is reached",
            file=sys.stderr,
        )
    return 1 if weak else 2 if unknown or not asked else 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
