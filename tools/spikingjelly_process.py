"""Run a script of this folder in SpikingJelly's environment (see tools/record_spikingjelly.py)."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any


def run_spikingjelly(python: Path, script: str, *arguments: object) -> dict[str, Any]:
    """Run a script that writes its result to ``--json``, and return that.

    Args:
        python: The environment's interpreter.
        script: File name of the script, in this folder.
        arguments: Its other arguments.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [python, Path(__file__).parent / script, *arguments, "--json", report]
        done = subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            sys.exit(f"error: SpikingJelly failed\n{done.stderr[-2000:]}")
        result: dict[str, Any] = json.loads(report.read_text())
        return result
