"""Install the wheel of `make wheel` in a folder of its own and ask it for its resource files (no checkout in sight)."""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path


def main(dist: Path) -> None:
    """Unpack the newest wheel and run it from an empty directory."""
    wheel = max(dist.glob("jetsweep-*.whl"))
    with tempfile.TemporaryDirectory() as folder:
        site, elsewhere = Path(folder, "site"), Path(folder, "elsewhere")
        elsewhere.mkdir()
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
        # -P and the path in front: the editable checkout of this environment must not answer
        code = (
            f"import sys; sys.path.insert(0, {str(site)!r}); import jetsweep; "
            f"assert jetsweep.__file__.startswith({str(site)!r}), jetsweep.__file__; "
            "template = jetsweep.load_experiment('part.yaml', profile='laptop'); print(template.name)"
        )
        done = subprocess.run([sys.executable, "-P", "-c", code], cwd=elsewhere, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{wheel.name} does not work outside the checkout:\n{done.stderr}")
    print(f"{wheel.name}: part.yaml found from an empty directory ({done.stdout.strip()})")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
