#!/usr/bin/env python3
"""Carries out the Dockerfile's stages in throw-away Debian roots, for machines that cannot pull an image.

    run_in_root.py [STAGE]...        default: build and runtime; needs root and debootstrap

Each stage gets a root of its own, made from a bare Debian 12 or from the stage it is FROM. COPY, RUN, WORKDIR, ENV and USER are done as
Docker would do them, with chroot for a container. For the runtime stage the program is then started as the Dockerfile's USER, must pass its
own HEALTHCHECK, take a checkpoint and give it back, and stop on SIGTERM with exit code 0.
"""

import fnmatch
import json
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import time

SOURCE = pathlib.Path(__file__).resolve().parent.parent.parent
PLACE = pathlib.Path(os.environ.get("SCONCE_DOCKER_ROOTS", "/var/tmp/sconce-docker-roots"))
BASE_IMAGES = {"debian:12-slim": "bookworm"}


def instructions(text):
    """The Dockerfile as (keyword, rest) pairs, continuation lines joined, comments dropped."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            keyword, _, rest = line.strip().partition(" ")
            yield keyword.upper(), rest.strip()


def words_of(rest):
    """An exec-form (JSON) or shell-form argument list."""
    return json.loads(rest) if rest.startswith("[") else ["/bin/sh", "-c", rest]


def split_flags(rest):
    words = shlex.split(rest)
    flags = dict(word[2:].split("=", 1) for word in words if word.startswith("--"))
    return flags, [word for word in words if not word.startswith("--")]


class Stage:
    """One stage: its root, and what later instructions and the final run need to know."""

    def __init__(self, name, root):
        self.name, self.root = name, root
        self.workdir, self.user, self.env = "/", "root", {}
        self.entrypoint, self.command, self.healthcheck = [], [], []

    def in_root(self, path):
        return self.root / os.path.join(self.workdir, path).lstrip("/")

    def chroot_command(self, words, user=None):
        env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/", **self.env}
        inside = f"cd {shlex.quote(self.workdir)} && exec " + shlex.join(words)
        name = user or self.user
        as_user = [] if name == "root" else [f"--userspec={name}:{name}"]
        return ["env", "-i", *(f"{k}={v}" for k, v in env.items()), "chroot", *as_user, str(self.root), "/bin/sh", "-c", inside]

    def run(self, words, **options):
        return subprocess.run(self.chroot_command(words), check=True, **options)


def bare_root(release, target):
    base = PLACE / f"base-{release}"
    if not (base / ".ready").exists():
        shutil.rmtree(base, ignore_errors=True)
        mirror = []
        for sources in ("/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"):
            if os.path.exists(sources):
                found = [w for line in open(sources, encoding="utf-8") if line.startswith(("URIs:", "deb ")) for w in line.split() if "://" in w]
                mirror = mirror or found[:1]
        subprocess.run(["debootstrap", "--variant=minbase", release, str(base), *mirror], check=True, stdout=subprocess.DEVNULL)
        (base / ".ready").touch()
    clone(base, target)


def furnish(root):
    """What every container has: /proc, the harmless devices, and /dev/fd."""
    subprocess.run(["mount", "-t", "proc", "proc", str(root / "proc")], check=True)
    for node in ("null", "zero", "full", "random", "urandom"):
        subprocess.run(["cp", "-a", f"/dev/{node}", str(root / "dev")], check=True)
    (root / "dev/fd").unlink(missing_ok=True)
    (root / "dev/fd").symlink_to("/proc/self/fd")


def discard(root):
    if root.exists():
        subprocess.run(["umount", str(root / "proc")], check=False, stderr=subprocess.DEVNULL)
        if os.path.ismount(root / "proc"):
            raise SystemExit(f"run_in_root: {root}/proc is still mounted; not removing {root}")
        shutil.rmtree(root)


def clone(source, target):
    # One file system: not what is mounted in the stage it comes from.
    subprocess.run(["cp", "-ax", "--reflink=auto", str(source), str(target)], check=True)
    shutil.copy("/etc/resolv.conf", target / "etc/resolv.conf")


def ignored(name):
    patterns = (SOURCE / ".dockerignore").read_text(encoding="utf-8").split()
    return any(fnmatch.fnmatch(name, p.removeprefix("**/")) for p in patterns)


def copy_into(stage, stages, rest):
    flags, words = split_flags(rest)
    *sources, destination = words
    top = stages[flags["from"]].root if "from" in flags else SOURCE
    target = stage.in_root(destination)
    for name in sources:
        source = top / name.lstrip("/")
        if source.is_dir():
            ignore = None if "from" in flags else lambda _folder, names: [n for n in names if ignored(n)]
            shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True, ignore=ignore)
        else:
            into = target / source.name if destination.endswith("/") or target.is_dir() else target
            into.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, into)


def carry_out(wanted):
    stages, current = {}, None
    for keyword, rest in instructions((SOURCE / "Dockerfile").read_text(encoding="utf-8")):
        if keyword == "FROM":
            base, _, name = rest.split()
            current = None
            if name in wanted:
                print(f"--- stage {name} from {base}", flush=True)
                current = Stage(name, PLACE / f"run-{name}")
                discard(current.root)
                if base in stages:
                    clone(stages[base].root, current.root)
                    current.workdir, current.user, current.env = stages[base].workdir, stages[base].user, dict(stages[base].env)
                else:
                    bare_root(BASE_IMAGES[base], current.root)
                stages[name] = current
                furnish(current.root)
            continue
        if current is None:
            continue
        print(f"{keyword} {rest[:150]}", flush=True)
        if keyword == "WORKDIR":
            current.workdir = os.path.join(current.workdir, rest)
            current.in_root(".").mkdir(parents=True, exist_ok=True)
        elif keyword == "COPY":
            copy_into(current, stages, rest)
        elif keyword == "RUN":
            current.run(words_of(rest), stdin=subprocess.DEVNULL)
        elif keyword == "ENV":
            current.env.update(word.split("=", 1) for word in shlex.split(rest))
        elif keyword == "USER":
            current.user = rest
        elif keyword == "ENTRYPOINT":
            current.entrypoint = words_of(rest)
        elif keyword == "CMD":
            current.command = words_of(rest)
        elif keyword == "HEALTHCHECK":
            current.healthcheck = words_of(rest.partition("CMD ")[2])
        elif keyword not in ("VOLUME", "EXPOSE"):
            raise SystemExit(f"run_in_root: the Dockerfile uses {keyword}, which this script does not know")
    return stages


def try_out(stage):
    """Starts the image's program, and uses it."""
    server = subprocess.Popen(stage.chroot_command(stage.entrypoint + stage.command))
    try:
        deadline = time.monotonic() + 60
        while subprocess.run(stage.chroot_command(stage.healthcheck), check=False).returncode != 0:
            if server.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"run_in_root: not healthy, exit code {server.poll()}")
            time.sleep(0.2)
        sample = next((SOURCE / "tests/data").glob("general_*"))
        shutil.copy(sample, stage.root / "tmp/in.pt")
        os.chmod(stage.root / "tmp/in.pt", 0o644)
        stage.run(["sconce", "push", "/tmp/in.pt", "docker"])
        stage.run(["sconce", "pull", "docker@latest", "-o", "/tmp/out.pt", "--map-location", "cpu"])
        stage.run(["sconce", "ls", "docker"])
        if not (stage.root / "tmp/out.pt").stat().st_size:
            raise SystemExit("run_in_root: pulled an empty file")
        server.send_signal(signal.SIGTERM)
        if server.wait(60) != 0:
            raise SystemExit(f"run_in_root: exit code {server.returncode} after SIGTERM")
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()


def main():
    wanted = sys.argv[1:] or ["build", "runtime"]
    if os.geteuid() != 0 or not shutil.which("debootstrap"):
        print("run_in_root: needs root and debootstrap (scripts/setup.sh --with roots)")
        return 77
    PLACE.mkdir(parents=True, exist_ok=True)
    try:
        stages = carry_out(wanted)
        if "runtime" in stages:
            try_out(stages["runtime"])
    finally:
        for name in wanted:
            discard(PLACE / f"run-{name}")
    print("run_in_root: " + ", ".join(wanted) + " done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
