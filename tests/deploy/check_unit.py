#!/usr/bin/env python3
"""Starts the systemd unit's own ExecStart line: as it is written, but with this build's program and a temporary folder for its state.

The environment file is deploy/sconced.env.example with every setting switched on at the value it shows, so a name that sconced does not
know or a value it refuses fails here. Where systemd-analyze is installed, it judges the unit file as well.
"""

import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile

SOURCE = pathlib.Path(__file__).resolve().parent.parent.parent
BIN = pathlib.Path(os.environ.get("SCONCE_BIN_DIR", SOURCE / "build/bin"))
UNIT = SOURCE / "deploy/systemd/sconced.service"
INSTALLED = "/usr/local/bin/"
STATE = "/var/lib/sconce"


def exec_start(unit):
    lines = re.findall(r"^ExecStart=(.+)$", unit, re.MULTILINE)
    assert len(lines) == 1, lines
    words = shlex.split(lines[0])
    assert words[0] == INSTALLED + "sconced", words
    assert STATE in words and "StateDirectory=sconce" in unit, "it keeps its data where systemd lets it write"
    return words


def example_settings():
    text = (SOURCE / "deploy/sconced.env.example").read_text(encoding="utf-8")
    settings = dict(re.findall(r"^#?(SCONCE_[A-Z_]+)=(.*)$", text, re.MULTILINE))
    assert len(settings) >= 4
    return settings


def analyze(unit, folder):
    """systemd's own opinion of the file; it wants the program to exist, so it is told of this build's."""
    if not shutil.which("systemd-analyze"):
        print("check_unit: no systemd-analyze here: the unit's syntax is not judged")
        return
    copy = folder / "sconced.service"
    copy.write_text(unit.replace(INSTALLED, f"{BIN}/"), encoding="utf-8")
    result = subprocess.run(["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False)
    complaints = [line for line in result.stderr.splitlines() if "sconced.service" in line]
    assert not complaints, "\n".join(complaints)
    print("check_unit: systemd-analyze verify has no complaint")


def main():
    unit = UNIT.read_text(encoding="utf-8")
    words = exec_start(unit)
    with tempfile.TemporaryDirectory(prefix="sconce-unit-") as name:
        folder = pathlib.Path(name)
        analyze(unit, folder)
        state = folder / "state"
        state.mkdir()
        command = [word.replace(INSTALLED, f"{BIN}/").replace(STATE, str(state)) for word in words]
        environment = {"PATH": os.environ["PATH"], **example_settings(), "SCONCE_LISTEN": f"unix:{folder}/socket"}
        server = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        try:
            ready = server.stdout.readline()
            assert "ready" in ready, f"it ended with {server.wait()}"
            health = subprocess.run([BIN / "sconce", "health"], env={**environment, "SCONCE_TARGET": f"unix:{folder}/socket"}, check=False)
            assert health.returncode == 0
            server.send_signal(signal.SIGTERM)
            assert server.wait(60) == 0, server.returncode
        finally:
            if server.poll() is None:
                server.kill()
                server.wait()
    print(f"check_unit: {shlex.join(command)} was ready, healthy, and stopped on SIGTERM")
    return 0


if __name__ == "__main__":
    sys.exit(main())
