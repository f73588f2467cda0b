"""The code on a page of docs, run as it stands."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def walk(page, place, timeout):
    """Run the page's Python and bash blocks in order, in the folder `place`.

    Returns the names that the Python blocks leave, and what the bash blocks print. A command that fails is an error.
    """
    folders = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": folders, "OMP_NUM_THREADS": "1"}
    names, said = {}, ""
    for language, code in re.findall(r"^```(python|bash)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE):
        if language == "python":
            exec(compile(code, page.name, "exec"), names)
        else:
            done = subprocess.run(
                ["bash", "-euc", code],
                cwd=place,
                env=environment,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            said += done.stdout
    return names, said
