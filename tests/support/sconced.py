"""Starts, kills and stops the real server for tests written in Python."""

import os
import pathlib
import re
import select
import signal
import subprocess
import time

SOURCE = pathlib.Path(__file__).resolve().parent.parent.parent
BIN = pathlib.Path(os.environ.get("SCONCE_BIN_DIR", SOURCE / "build/bin"))


class Server:
    """One `sconced` on a data directory. Its address is of its own choosing (port 0) unless given; it is ready when start() returns."""

    def __init__(self, data_dir, flags=(), log=None):
        self.data_dir = pathlib.Path(data_dir)
        self.flags = list(flags)
        self.log = pathlib.Path(log or f"{data_dir}.log")
        self.process = None
        self.target = None
        self.ready_line = ""

    def start(self, timeout=60):
        command = [BIN / "sconced", "--data-dir", self.data_dir, "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", *self.flags]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=log)
        self.ready_line = self._wait_for_ready_line(timeout)
        self.target = re.search(r"127\.0\.0\.1:\d+", self.ready_line)[0]
        return self

    def _wait_for_ready_line(self, timeout):
        give_up = time.monotonic() + timeout
        pipe, line = self.process.stdout, b""
        while not line.endswith(b"\n"):
            left = give_up - time.monotonic()
            if left <= 0 or not select.select([pipe], [], [], left)[0]:
                raise TimeoutError(f"sconced is not ready after {timeout} s: {self.log_tail()}")
            byte = os.read(pipe.fileno(), 1)
            if not byte:
                raise RuntimeError(f"sconced ended with {self.process.wait()}: {self.log_tail()}")
            line += byte
        return line.decode()

    def log_tail(self, count=4000):
        return self.log.read_text(encoding="utf-8", errors="replace")[-count:] if self.log.exists() else ""

    def stubs(self):
        # Not before it is needed: the generated package is called `sconce`, as is the client library, whose tests start servers too.
        import stubs  # pylint: disable=import-outside-toplevel

        return stubs.Stubs(self.target)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()

    def stop(self, timeout=60):
        """SIGTERM; returns the exit code."""
        if self.process is None or self.process.poll() is not None:
            return self.process and self.process.returncode
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self.process.stdout.close()

    def own_memory_bytes(self):
        """RssAnon + RssShmem: what the server holds itself. Pages of mapped files are the page cache's."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return sum(int(kib) << 10 for kib in re.findall(r"^Rss(?:Anon|Shmem):\s+(\d+) kB", status, re.MULTILINE))

    def sconce(self, *arguments, check=True, text=True, **options):
        """Runs the command-line tool against this server."""
        environment = {**os.environ, "SCONCE_TARGET": self.target, "NO_COLOR": "1"}
        command = [str(BIN / "sconce"), *map(str, arguments)]
        result = subprocess.run(command, env=environment, capture_output=True, text=text, check=False, timeout=300, **options)
        if check and result.returncode != 0:
            raise AssertionError(f"{' '.join(command)} ended with {result.returncode}:\n{result.stdout}{result.stderr}")
        return result
