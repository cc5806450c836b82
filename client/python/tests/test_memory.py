"""Transfers hold a few messages, not a checkpoint."""

import subprocess
import sys

import bulk
from conftest import SOURCE
from sconce import _upload

MIB = 1 << 20
SIZE = 300 * MIB
HELD = 96 * MIB  # messages, windows of HTTP/2, and what malloc keeps: more of it on a busy machine, where they wait to be read

_CODE = """
import pathlib, re, sys
sys.path[:0] = sys.argv[1:3]
from sconce import _fetch, _upload
from sconce._connection import Connection
from sconce._options import resolve
from sconce._proto import v1

def status(field):
    return int(re.search(rf"^{field}:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text(), re.MULTILINE)[1]) << 10

def start_of_peak():
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")

connection = Connection(resolve(sys.argv[3]))
name, manifest, size = sys.argv[4], pathlib.Path(sys.argv[5]).read_bytes(), int(sys.argv[6])
whole = bytearray(b"\\x01") * size  # all pages are there before it is measured
before = start_of_peak()
with _fetch.begin_fetch(connection, name) as fetch:
    fetch.read_into([memoryview(whole)])
print(status("VmHWM") - before)
changed = memoryview(bytes(byte ^ 0xFF for byte in whole[:4096]))
for at in range(0, size, 4096):
    whole[at : at + 4096] = changed
    whole[at : at + 8] = at.to_bytes(8, "little")
before = start_of_peak()
outcome = _upload.upload(connection, v1.PushHeader(parent="projects/default/runs/other"), manifest, [memoryview(whole).toreadonly()])
assert outcome.sent_bytes == size
print(status("VmHWM") - before)
"""


def test_of_a_fetch_and_of_an_upload(server, tmp_path, run_name):
    manifest = bulk.manifest_of(server, SIZE)
    (tmp_path / "manifest").write_bytes(manifest)
    storages = bulk.random_storages(SIZE)
    name = _upload.upload(bulk.connect(server.target), bulk.header(run_name), manifest, storages).checkpoint.name
    command = [sys.executable, "-c", _CODE, SOURCE / "client/python", SOURCE / "client/python/tests", server.target, name, tmp_path / "manifest", SIZE]
    fetched, uploaded = map(int, subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True).stdout.split())
    assert fetched < HELD and uploaded < HELD, (fetched >> 20, uploaded >> 20)
