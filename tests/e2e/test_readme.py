"""README.md's tour is run as it stands: what it shows is what happens."""

import math
import os
import re
import subprocess

import conftest
import sconced
from test_lifecycle import grpcurl

README = (conftest.SOURCE / "README.md").read_text(encoding="utf-8")


def commands():
    """(command, output as shown) of the tour's console blocks, in order."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```$", README, re.MULTILINE | re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output))
    return found


def masked(output):
    """Without what differs from one run to the next."""
    output = re.sub(r'("(?:requestId|etag)": )"[0-9a-f]+"', r'\1"..."', output)
    return re.sub(r'("\w*Time": )"[^"]+"', r'\1"..."', output).rstrip()


def same(output, shown):
    """But for the last digits of what a model computed: another BLAS or processor adds in another order."""
    number = r"-?\d+\.\d{6,}"
    if re.sub(number, "#", output) != re.sub(number, "#", shown):
        return False
    return all(math.isclose(float(a), float(b), rel_tol=1e-4, abs_tol=1e-7) for a, b in zip(re.findall(number, output), re.findall(number, shown)))


def test_the_tour(server):
    folder = os.path.dirname(grpcurl())
    environment = {**os.environ, "SCONCE_TARGET": server.target, "PATH": f"{sconced.BIN}:{folder}:{os.environ['PATH']}"}
    told = commands()
    assert len(told) >= 10
    for command, shown in told:
        if "--module" in command and not (sconced.BIN / "sconce-torch-worker").exists():
            break
        here = command.replace("127.0.0.1:7433", server.target)
        result = subprocess.run(here, shell=True, cwd=conftest.SOURCE, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert same(masked(result.stdout + result.stderr), masked(shown)), f"{command}\n{result.stdout}{result.stderr}"


def test_what_it_names_is_there():
    for name in re.findall(r"`([a-z]+/[\w./]+|[A-Z]\w+(?:\.md)?)`", README):
        if not name.startswith("build/"):
            assert (conftest.SOURCE / name).exists(), name
