"""Addresses, tokens, TLS, retries, deadlines, forks and copies of a connection."""

import concurrent.futures
import multiprocessing
import pickle
import subprocess
import sys
import textwrap
import threading

import between
import bulk
import grpc
import pytest
import sconce
from conftest import SOURCE
from sconce._connection import Connection
from sconce._options import resolve
from sconce._proto import rpc, v1
from sconce._retry import RetryPolicy

LIST = "sconce.v1.CheckpointService/ListRuns"
CREATE = "sconce.v1.CheckpointService/CreateRun"


@pytest.fixture
def proxy(server):
    watching = between.Between(server.target)
    yield watching
    watching.close()


def quick(target, waits=None, **options):
    """A connection whose waits are noted instead of waited."""
    connection = bulk.connect(target, **options)
    policy = RetryPolicy(attempts=3, sleep=(waits if waits is not None else []).append)
    connection.options = sconce._connection.Options(**{**vars(connection.options), "retry": policy})
    return connection


class TestSettings:
    def test_arguments_win_over_the_environment(self, monkeypatch, tmp_path):
        monkeypatch.setenv("SCONCE_TARGET", "far:1")
        monkeypatch.setenv("SCONCE_TOKEN", "secret")
        assert (resolve().target, resolve().token, resolve().tls) == ("far:1", "secret", False)
        assert (resolve("near").target, resolve(token="mine").token) == ("near:7433", "mine")
        roots = tmp_path / "ca.pem"
        roots.write_bytes(b"PEM")
        monkeypatch.setenv("SCONCE_CACERT", str(roots))
        assert (resolve().tls, resolve().root_certificates) == (True, b"PEM")
        assert (resolve(tls=False).tls, resolve(tls=False).root_certificates) == (False, None)
        assert resolve(root_certificates=b"other").root_certificates == b"other"

    def test_without_any(self):
        assert (resolve().target, resolve().token, resolve().tls) == ("localhost:7433", None, False)
        assert resolve(tls=True).root_certificates is None

    def test_what_cannot_be(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            resolve(root_certificates=tmp_path / "none.pem")
        with pytest.raises(ValueError, match="tls=False"):
            resolve(tls=False, client_cert=(b"c", b"k"))

    def test_secrets_are_not_printed(self):
        assert "hush" not in repr(resolve(token="hush", client_cert=(b"hush", b"hush")))
        assert "hush" not in repr(sconce.connect(token="hush"))


class TestCalls:
    def test_a_token_goes_with_every_call(self, proxy):
        seen = []
        proxy.on_call = lambda method, metadata: seen.append(metadata.get("authorization"))
        with sconce.connect(proxy.target, token="t0p") as client:
            list(client.runs())
            with pytest.raises(sconce.NotFoundError):
                next(client.run("nothing").watch())
            client._connection.dialog("sconce.v1.TransferService/UploadChunks").close()
        assert len(seen) >= 2 and set(seen) == {"Bearer t0p"}

    def test_it_says_what_it_is(self, proxy):
        seen = []
        proxy.on_call = lambda method, metadata: seen.append(metadata["user-agent"])
        list(sconce.connect(proxy.target).runs())
        assert seen[0].startswith(f"sconce-python/{sconce.__version__} ")

    def test_unavailable_is_tried_again(self, proxy):
        waits, failures = [], []

        def fail_twice(method, metadata):
            failures.append(method)
            if len(failures) <= 2:
                raise between.Cut

        proxy.on_call = fail_twice
        quick(proxy.target, waits).call(LIST, v1.ListRunsRequest())
        assert len(failures) == 3 and len(waits) == 2 and 0 <= waits[0] <= 0.2 and 0 <= waits[1] <= 0.4

    def test_but_not_for_ever_and_not_what_must_not_be(self, proxy):
        calls = []

        def fail(method, metadata):
            calls.append(method)
            raise between.Cut

        proxy.on_call = fail
        with pytest.raises(sconce.UnavailableError, match="cut in between"):
            quick(proxy.target).call(LIST, v1.ListRunsRequest())
        assert len(calls) == 3
        with pytest.raises(sconce.UnavailableError):
            quick(proxy.target).call(LIST, v1.ListRunsRequest(), repeatable=False)
        assert len(calls) == 4

    def test_other_errors_are_not_tried_again(self, proxy):
        calls = []
        proxy.on_call = lambda method, metadata: calls.append(method)
        with pytest.raises(sconce.InvalidArgumentError):
            quick(proxy.target).call(LIST, v1.ListRunsRequest(page_size=-1))
        assert len(calls) == 1

    def test_the_server_says_when(self):
        retry = rpc.RetryInfo()
        retry.retry_delay.FromMilliseconds(2500)
        waits = []
        retrying = sconce._retry.Retrying(RetryPolicy(attempts=3, sleep=waits.append))
        detail = {"@type": "google.rpc.RetryInfo", "retryDelay": "2.500s"}
        retrying.wait(sconce._errors.make_error("UNAVAILABLE", "SERVER_DRAINING", "", {}, [detail]))
        retrying.wait(sconce._errors.make_error("RESOURCE_EXHAUSTED", "SERVER_OVERLOADED", "", {}, [detail]))
        assert 2.5 <= waits[0] <= 2.7 and 2.5 <= waits[1] <= 2.9
        with pytest.raises(sconce.ResourceExhaustedError):
            sconce._retry.Retrying(RetryPolicy(sleep=waits.append)).wait(sconce._errors.make_error("RESOURCE_EXHAUSTED", "DISK_FULL", ""))

    def test_a_retried_creation_has_the_same_request_id(self, proxy, run_name):
        """The answer of the first try is lost: without its id the second would be RUN_ALREADY_EXISTS."""
        lost = []

        def lose(method, index, message):
            if not lost:
                lost.append(message)
                raise between.Cut
            return message

        proxy.on_answer = lose
        made = quick(proxy.target).call(CREATE, v1.CreateRunRequest(parent="projects/default", run_id=run_name))
        assert lost and made.name.endswith(run_name)

    def test_an_answer_that_does_not_come(self, proxy):
        go_on = threading.Event()
        proxy.on_call = lambda method, metadata: go_on.wait(60)
        try:
            with pytest.raises(TimeoutError) as error:
                bulk.connect(proxy.target, timeout=0.3).call(LIST, v1.ListRunsRequest())
        finally:
            go_on.set()
        assert isinstance(error.value, sconce.DeadlineError) and error.value.reason == "CALL_DEADLINE_EXCEEDED"

    def test_a_server_that_is_not_there(self):
        with pytest.raises(ConnectionError, match="cannot reach the server at 127.0.0.1:1: "):
            quick("127.0.0.1:1").call(LIST, v1.ListRunsRequest())

    def test_after_close(self, server):
        client = sconce.connect(server.target)
        list(client.runs())
        client.close()
        client.close()
        with pytest.raises(ValueError, match="this client is closed"):
            list(client.runs())

    def test_a_unix_socket(self, new_server, tmp_path):
        new_server(flags=["--listen", f"unix:{tmp_path}/socket"]).start()
        assert list(sconce.connect(f"unix:{tmp_path}/socket").runs()) == []

    def test_many_threads(self, server):
        with sconce.connect(server.target) as client, concurrent.futures.ThreadPoolExecutor(8) as pool:
            assert all(list(pool.map(lambda _: list(client.runs("nothing")) == [], range(64))))


def certificate(folder, name, *more):
    """A self-signed one for 127.0.0.1, and its key."""
    key, cert = folder / f"{name}.key", folder / f"{name}.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-keyout", key, "-out", cert]
    subprocess.run([*command, "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", *more], check=True, capture_output=True)
    return cert, key


class TestTls:
    @pytest.fixture
    def pems(self, tmp_path):
        return certificate(tmp_path, "server"), certificate(tmp_path, "client")

    @pytest.fixture
    def secure(self, server, pems):
        (cert, key), (client_cert, _) = pems
        pair = [(key.read_bytes(), cert.read_bytes())]
        credentials = grpc.ssl_server_credentials(pair, client_cert.read_bytes(), require_client_auth=True)
        proxy = between.Between(server.target, credentials)
        yield proxy
        proxy.close()

    def test_both_sides_prove_who_they_are(self, secure, pems, monkeypatch):
        (cert, _), client_cert = pems
        assert list(sconce.connect(secure.target, root_certificates=cert, client_cert=client_cert).runs("nothing")) == []
        monkeypatch.setenv("SCONCE_CACERT", str(cert))
        assert list(sconce.connect(secure.target, client_cert=tuple(file.read_bytes() for file in client_cert)).runs("nothing")) == []

    def test_a_stranger_is_refused_by_either(self, secure, pems):
        (cert, _), client_cert = pems
        for options in [{"root_certificates": cert}, {"root_certificates": client_cert[0], "client_cert": client_cert}, {}]:
            with pytest.raises(sconce.UnavailableError):
                list(sconce.connect(secure.target, retries=1, **options).runs())


def in_a_process_of_its_own(server, body, calls=True):
    """Runs code with a connected `client` where nobody else uses gRPC: its servers and running streams do not take part in forks."""
    lines = [
        "import os, sys, sconce",
        "def in_a_fork(work):",
        "    child = os.fork()",
        "    if child == 0:",
        "        try:",
        "            work()",
        "            os._exit(0)",
        "        finally:",
        "            os._exit(1)",
        "    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])",
        "def is_refused(client):",
        "    try:",
        "        list(client.runs())",
        "    except RuntimeError as error:",
        "        return 'gRPC cannot be used in this process' in str(error)",
        "client = sconce.connect(sys.argv[1])",
        *(['assert list(client.runs("nothing")) == []'] if calls else []),
        textwrap.dedent(body),
    ]
    subprocess.run([sys.executable, "-c", "\n".join(lines), server.target], cwd=SOURCE / "client/python", check=True, timeout=120)


class TestProcesses:
    def test_a_fork_has_a_channel_of_its_own(self, server, forks):
        """As in a DataLoader's workers; parent and child go on using the same client. Where gRPC cannot do that, the child is told."""
        in_a_process_of_its_own(
            server,
            """
            parents = client._connection._channel._channel
            def child():
                held = client._connection._channel
                assert held._channel is None and parents in sconce._channel._of_parents
                if sconce._channel._forks_are_prepared():
                    assert list(client.runs("nothing")) == [] and held._channel is not parents
                else:
                    assert is_refused(client)
            for _ in range(5):
                assert in_a_fork(child) == 0
                assert list(client.runs("nothing")) == [] and client._connection._channel._channel is parents
            """,
        )

    def test_a_fork_before_the_first_call(self, server):
        in_a_process_of_its_own(server, """assert in_a_fork(lambda: list(client.runs("nothing"))) == 0""", calls=False)

    def test_a_fork_while_another_thread_makes_the_channel(self, server, forks):
        in_a_process_of_its_own(
            server,
            """
            held = client._connection._channel
            with held._lock, sconce._channel.calls_under_way._lock:  # by a thread that the child does not have
                assert in_a_fork(lambda: held._lock.acquire(timeout=10) and sconce._channel.calls_under_way._lock.acquire(timeout=10) or os._exit(3)) == 0
            """,
        )

    def test_a_fork_while_a_call_is_under_way(self, server, forks):
        """The child keeps away from gRPC, for its parent would crash; the parent and its watch go on."""
        bulk.manifest_of(server)  # makes the run
        in_a_process_of_its_own(
            server,
            """
            import threading
            versions = client.run("shapes").watch()
            watching = threading.Thread(target=lambda: list(versions), daemon=True)
            watching.start()
            while not sconce._channel.calls_under_way._count:
                pass
            for _ in range(5):
                assert in_a_fork(lambda: is_refused(client) or os._exit(3)) == 0
                assert list(client.runs("nothing")) == [] and watching.is_alive()
            client.close()
            watching.join()
            assert sconce._channel.calls_under_way._count == 0
            """,
        )

    def test_a_fork_at_which_grpc_hangs_is_warned_of(self, server):
        """And no other is: the warning comes before the parent hangs, so that one knows by what."""
        lines = [
            "import os, sys, sconce",
            "os.waitpid(os.fork() or os._exit(0), 0)",
            "assert list(sconce.connect(sys.argv[1]).runs('nothing')) == []",
            "print('forks', file=sys.stderr, flush=True)",
            "os.waitpid(os.fork() or os._exit(0), 0)",
            "os.waitpid(os.fork() or os._exit(0), 0)",
            "print('forked', file=sys.stderr, flush=True)",
        ]
        command = [sys.executable, "-c", "\n".join(lines), server.target]
        one = subprocess.Popen(command, cwd=SOURCE / "client/python", stderr=subprocess.PIPE, text=True)
        try:
            hangs, said = False, one.communicate(timeout=60)[1]
        except subprocess.TimeoutExpired:
            one.kill()
            hangs, said = True, one.communicate()[1]
        before, after = said.split("forks\n")
        assert ("forked\n" not in after) is hangs and "Warning" not in before
        assert after.count("RuntimeWarning: this process forks after a call") == hangs, after

    def test_it_is_warned_of_once(self, server):
        in_a_process_of_its_own(
            server,
            """
            import warnings
            sconce._channel._hangs_at_forks = lambda: True
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                for _ in range(3):
                    sconce._channel._warn_before_fork()
            assert len(caught) == 1 and str(caught[0].message).startswith("this process forks after a call"), caught
            """,
        )

    def test_copies_by_pickle(self, server):
        client = sconce.connect(server.target, project="vision", token="t", timeout=7)
        list(client.runs())
        for copy in (pickle.loads(pickle.dumps(client)), pickle.loads(pickle.dumps(client.run("r")))):
            assert copy._connection.options == client._connection.options and copy._connection._channel._channel is None
        assert pickle.loads(pickle.dumps(client)).run("r").name == "projects/vision/runs/r"

    def test_a_spawned_process(self, server):
        path = [str(SOURCE / "client/python"), str(SOURCE / "client/python/tests"), *sys.path]
        with multiprocessing.get_context("spawn").Pool(1, initializer=sys.path.__setitem__, initargs=(slice(None), path)) as pool:
            assert pool.apply(sconce.Client.__enter__, (sconce.connect(server.target),)).target == server.target

    def test_the_users_random_numbers_stay_theirs(self, server):
        """What a training draws must not depend on whether its network was well."""
        import random  # pylint: disable=import-outside-toplevel

        random.seed(1)
        before = random.getstate()
        with pytest.raises(sconce.UnavailableError):
            quick("127.0.0.1:1").call(LIST, v1.ListRunsRequest())
        assert random.getstate() == before


def test_connections_are_named_by_their_address():
    assert repr(sconce.connect("h")) == "<sconce.Client of h:7433>" and isinstance(sconce.connect("h")._connection, Connection)
