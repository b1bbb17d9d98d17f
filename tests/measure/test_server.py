"""A real server with a real worker process on loopback; one for the file, because a worker imports torch and an exporter."""

import ast
import http.client
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
from torch import nn

from nas.errors import MeasureError, NasError, UsageError
from nas.measure.latency import Latency
from nas.measure.protocol import Limits
from nas.measure.reference import DEPTHS, REFERENCE_SHAPE, Anchors, reference_net
from nas.measure.remote import Address, Ssh, connect, find_token, is_loopback, remote_status
from nas.measure.server import Desk, MeasureServer
from nas.measure.target import check_target, measure_at
from nas.measure.wire import PROTOCOL, write_frame
from nas.net.lower import lower
from nas.space.parse import parse_page
from nas.space.search_space import Architecture

ROOT = Path(__file__).parents[2]
LENIENT = Limits(tolerance=0.2, min_pairs=20, min_s=0.02, max_s=1.0, warmup_s=0.02, max_half_width=5.0, max_rejected=0.99,
                 max_drift=1000.0, max_speedup=1000.0, attempts=5)  # fmt: skip
ONNX = pytest.mark.skipif(not all(map(find_spec, ("onnx", "onnxscript", "onnxruntime"))), reason="nas[onnx] is not installed")
TOKEN = "a-token-for-the-tests"


def graph():
    spec = parse_page({"name": "tiny", "input": [3, 8, 8], "num_classes": 4, "network": [
        {"op": "conv_bn_act", "out_channels": 8}, "global_avg_pool", "classifier"]})  # fmt: skip
    return lower(Architecture(spec))


@contextmanager
def serving(*devices, **words):
    """A server in a thread of this process; its workers are processes of their own."""
    server = MeasureServer("127.0.0.1", 0, devices or ["cpu"], **words)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def server():
    with serving(token=TOKEN, allow=True, most_bytes=1 << 20) as found:
        yield found


@pytest.fixture
def token(monkeypatch):
    monkeypatch.setenv("NAS_TOKEN", TOKEN)


@ONNX
@pytest.mark.slow
def test_a_server_measures_an_exported_network_as_this_machine_would(server, token, tmp_path):
    anchors = Anchors(tmp_path)
    words = {"batch": 2, "runtime": "onnxruntime", "limits": LENIENT, "anchors": anchors}
    there = measure_at(server.url, graph(), **words)
    assert isinstance(there, Latency)
    assert (there.batch, there.runtime, there.input_shape, there.device) == (2, "onnxruntime", (3, 8, 8), "cpu")
    assert 0 < there.low_ms <= there.median_ms <= there.high_ms
    (key,) = anchors.known
    assert key.startswith(server.url)
    assert "onnxruntime" in key
    again = measure_at(server.url, graph(), **words)
    assert again.reference_ms == there.reference_ms, "the unit is ours, kept between questions"


def test_sources_are_measured_by_torch_where_they_are_allowed(server, token):
    latency = measure_at(server.url, graph(), limits=LENIENT)
    assert (latency.runtime, latency.memory_format, latency.weights) == ("eager", "channels_last", "random")
    assert latency.median_ms == pytest.approx(latency.relative * latency.reference_ms)


def test_a_target_is_checked_before_anything_is_measured(server, token):
    assert server.url in check_target(server.url)
    status = remote_status(Address.parse(server.url))
    assert (status["device"], status["waiting"], status["takes"]) == ("cpu", 0, ["onnx", "source"])
    with pytest.raises(MeasureError, match="the other machine has no tensorrt"):
        check_target(server.url, runtime="tensorrt")
    with pytest.raises(MeasureError, match=r"does not measure there; expected cpu; got 'cuda:3'"):
        check_target(f"{server.url}?device=cuda:3")


@pytest.mark.parametrize("brought", [None, "another"])
def test_without_the_token_nothing_is_answered(server, monkeypatch, brought):
    monkeypatch.delenv("NAS_TOKEN", raising=False)
    if brought:
        monkeypatch.setenv("NAS_TOKEN", brought)
    with pytest.raises(MeasureError, match=r"wants its token.*NAS_TOKEN"):
        check_target(server.url)


def post(server, body, headers):
    connection = http.client.HTTPConnection(*server.server_address, timeout=20)
    words = {"Content-Type": "application/x-nas-measure", "Authorization": f"Bearer {TOKEN}", "Content-Length": str(len(body))}
    connection.request("POST", "/", body=body, headers=words | headers)
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return answer["error"]["message"]


def frame(head, body=b""):
    out = io.BytesIO()
    write_frame(out, head, body)
    return out.getvalue()


MEASURE = {"ask": "measure", "protocol": PROTOCOL, "shape": [3, 8, 8], "options": {}, "limits": {}}


@pytest.mark.parametrize(("body", "headers", "message"), [
    (frame(MEASURE, bytes(1 << 20)), {}, "too large for this server"),
    (b"no json\n", {}, "not a question"),
    (frame(MEASURE)[:-1], {}, "not a question"),
    (frame(MEASURE, b"12")[:-1], {}, "did not arrive whole"),
    (frame(MEASURE), {"Content-Type": "text/plain"}, "this is a measuring server"),
    (frame(MEASURE | {"device": "tpu"}), {}, "does not measure there"),
    (frame(MEASURE | {"device": 3}), {}, "does not measure there"),
    (frame(MEASURE | {"device": []}), {}, "does not measure there"),
    (b'{"size":0,"a":' + b"[" * 60_000 + b"\n", {}, "not a question"),
    (frame(MEASURE), {"Content-Length": "9" * 5000}, "too large for this server"),
    (frame(MEASURE | {"options": {"dtype": "bfloat16"}}), {}, "float32 or float16"),
    (frame(MEASURE | {"protocol": 0}), {}, "different protocols"),
    (frame(MEASURE | {"format": "pickle"}), {}, "other formats"),
    (frame(MEASURE, b"not onnx"), {}, "not an ONNX model"),
    (frame(MEASURE | {"shape": [3, -8]}), {}, "impossible input shape"),
    (frame(MEASURE | {"shape": [1 << 30]}), {}, "input is too large"),
    (frame(MEASURE | {"options": {"batch": "2"}}), {}, "batch has an impossible value"),
    (frame(MEASURE | {"options": {"bach": 2}}), {}, "unknown condition"),
    (frame(MEASURE | {"options": {"cores": ["all"]}}), {}, "cores are numbers"),
    (frame(MEASURE | {"options": [1]}), {}, "a mapping was expected"),
    (frame(MEASURE | {"limits": {"max_s": 1e9}}), {}, "impossible limit"),
    (frame(MEASURE | {"limits": {"patience": 1}}), {}, "impossible limit"),
    (frame(MEASURE | {"wait_s": "long"}), {}, "wait_s is a number"),
    (frame(MEASURE | {"reference": {"a": "b"}}), {}, "quiet time is a number"),
    (frame(MEASURE | {"format": "source"}, b"raise RuntimeError('bad')"), {}, "the worker failed: RuntimeError: bad"),
])  # fmt: skip
def test_what_is_wrong_is_told_and_the_server_goes_on(server, token, body, headers, message):
    assert message in post(server, body, headers)
    assert check_target(server.url)


def test_a_question_that_names_no_device_is_measured_on_the_first(token, monkeypatch):
    """The first does not exist here, which its worker tells."""
    monkeypatch.setattr(MeasureServer, "_hello", lambda self, desk: {})
    with serving("cuda:99", "cpu", token=TOKEN) as two:
        assert "no such device" in post(two, frame(MEASURE, b"not onnx"), {})
        assert "not an ONNX model" in post(two, frame(MEASURE | {"device": "cpu"}, b"not onnx"), {})


def test_a_worker_stands_in_an_empty_folder_of_its_own(server, token):
    told = post(server, frame(MEASURE | {"format": "source"}, b"import os; raise RuntimeError([os.getcwd(), *os.listdir()])"), {})
    (folder,) = ast.literal_eval(told.rpartition(": ")[2])
    assert Path(folder).name.startswith("nas-worker-")


@pytest.mark.slow
def test_a_worker_that_dies_is_told_and_replaced(server, token):
    told = post(server, frame(MEASURE | {"format": "source"}, b"import os; os._exit(7)"), {})
    assert "the worker ended while it measured (code 7)" in told
    assert measure_at(server.url, graph(), limits=LENIENT).median_ms > 0


@pytest.mark.slow
def test_a_client_that_goes_gives_its_turn_up(server, token):
    """The first asks for what takes minutes and goes; the one behind it is measured."""
    gone = socket.create_connection(server.server_address)
    body = frame(MEASURE | {"format": "source"}, b"import time; time.sleep(600)")
    head = f"POST / HTTP/1.1\r\nContent-Type: application/x-nas-measure\r\nAuthorization: Bearer {TOKEN}\r\n"
    gone.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    address = Address.parse(server.url)
    while not remote_status(address)["waiting"]:
        time.sleep(0.05)
    answers = []
    behind = threading.Thread(target=lambda: answers.append(measure_at(server.url, graph(), limits=LENIENT)))
    behind.start()
    while remote_status(address)["waiting"] < 2:
        time.sleep(0.05)
    gone.close()
    behind.join(60)
    assert answers[0].median_ms > 0


def test_a_worker_has_the_time_that_its_question_may_wait_for_the_device():
    desk = Desk("cpu", allow=False, most_waiting=1, seconds=0)
    try:
        assert b"device_name" in desk.answer({"wait_s": 60}, io.BytesIO(frame({"ask": "hello"})), lambda: False)
        desk.close()
        with pytest.raises(MeasureError, match=r"took too long; expected within 0\.1 s"):
            desk.answer({"wait_s": 0.1}, io.BytesIO(frame({"ask": "hello"})), lambda: False)
    finally:
        desk.close()


def test_a_full_queue_is_told():
    desk = Desk("cpu", allow=False, most_waiting=0)
    with pytest.raises(MeasureError, match="too many measurements are waiting"):
        desk.answer({}, io.BytesIO(), lambda: False)


@pytest.mark.parametrize(("words", "message"), [
    ({"host": "0.0.0.0"}, r"others can reach needs a token.*NAS_TOKEN"),
    ({"host": "127.0.0.1", "allow": True}, r"--allow lets clients run code here"),
    ({"host": "192.0.2.1", "token": TOKEN}, "cannot listen there"),
    ({"host": "127.0.0.1", "port": 65536}, "no port; expected 0 to 65535; got 65536"),
])  # fmt: skip
def test_an_unsafe_or_impossible_server_does_not_start(words, message):
    with pytest.raises(UsageError, match=message):
        MeasureServer(**{"port": 0, "devices": ["cpu"], **words})


@pytest.mark.slow
def test_a_plain_server_takes_no_code_and_has_no_device_that_is_not_there():
    with serving() as plain:
        with pytest.raises(MeasureError, match=r"takes no code.*runtime=onnxruntime"):
            check_target(plain.url)
        with pytest.raises(MeasureError, match="takes no code"):
            measure_at(plain.url, graph(), limits=LENIENT)
    with pytest.raises(MeasureError, match="no such device"):
        MeasureServer("127.0.0.1", 0, ["cuda:99"])


def test_nothing_listening_is_told_with_what_to_start():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(MeasureError, match=r"cannot be reached.*nas measure-server"):
        check_target(f"http://127.0.0.1:{port}")


@pytest.mark.parametrize("depth", DEPTHS)
def test_the_reference_itself_is_measured_there_by_torch(server, token, depth):
    latency = measure_at(server.url, reference_net(depth), REFERENCE_SHAPE, limits=LENIENT)
    assert latency.reference_depth in DEPTHS
    assert latency.median_ms > 0


def test_a_module_of_ones_own_does_not_travel_as_source(server, token):
    with pytest.raises(MeasureError, match="does not travel as source"):
        measure_at(server.url, nn.Linear(2, 2), (2,))
    with pytest.raises(MeasureError, match="with the shape of its input"):
        measure_at("cpu", nn.Linear(2, 2))


@pytest.mark.parametrize("text", [
    "ftp://host", "http://", "http://host/path", "http://user@host", "ssh://-oProxy=x/nas", "ssh://-x@host", "ssh://a:b@host",
    "http://host:99999", "http://host?devise=cpu", "://",
])  # fmt: skip
def test_what_is_no_address_is_told(text):
    with pytest.raises(UsageError, match="this is no target"):
        check_target(text)


def test_addresses_say_who_where_and_what():
    a = Address.parse("ssh://me@box.local:2222/opt/nas/bin/nas?device=cuda:1")
    assert (a.user, a.host, a.port, a.command, a.device) == ("me", "box.local", 2222, "/opt/nas/bin/nas", "cuda:1")
    assert Address.parse("ssh://box").command == "nas"
    assert Address.parse("http://[::1]:80").host == "::1"
    assert [is_loopback(host) for host in ("localhost", "127.0.0.1", "::1", "0.0.0.0", "box")] == [True, True, True, False, False]


def test_the_token_is_found_in_a_file(tmp_path, monkeypatch):
    monkeypatch.delenv("NAS_TOKEN", raising=False)
    assert find_token() is None
    (tmp_path / "token").write_text("secret\n")
    monkeypatch.setenv("NAS_TOKEN_FILE", str(tmp_path / "token"))
    assert find_token() == "secret"
    (tmp_path / "empty").touch()
    for name in ("empty", "absent"):
        with pytest.raises(UsageError, match="token"):
            find_token(str(tmp_path / name))


# -- ssh -----------------------------------------------------------------------------------------------------------------


def command(folder: Path) -> Path:
    """A `nas` to be found by its path, as it would be installed on another machine."""
    script = folder / "nas"
    code = "import sys; from nas.cli import main; sys.exit(main())"
    script.write_text(f"#!/bin/sh\ncd {ROOT} && exec {sys.executable} -c '{code}' \"$@\"\n")
    script.chmod(0o755)
    return script


@pytest.fixture
def sshd(tmp_path, monkeypatch):
    """A daemon on a free port of this machine that knows one temporary key."""
    daemon = shutil.which("sshd") or "/usr/sbin/sshd"
    if not Path(daemon).exists() or shutil.which("ssh") is None or shutil.which("ssh-keygen") is None:
        pytest.skip("no OpenSSH server here")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "sshd.conf").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/user.pub\n"
        f"PidFile {tmp_path}/pid\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\n")
    (tmp_path / "ssh.conf").write_text(
        f"Host *\nIdentityFile {tmp_path}/user\nIdentitiesOnly yes\nStrictHostKeyChecking no\nUserKnownHostsFile /dev/null\n")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    log = (tmp_path / "log").open("wb")
    process = subprocess.Popen([daemon, "-D", "-e", "-f", tmp_path / "sshd.conf"], stderr=log)
    monkeypatch.setenv("NAS_SSH_COMMAND", f"ssh -F {tmp_path / 'ssh.conf'}")
    end = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            time.sleep(0.05)
    if process.poll() is not None:
        pytest.skip(f"sshd does not start here: {(tmp_path / 'log').read_text()[-200:]}")
    yield f"ssh://127.0.0.1:{port}"
    process.terminate()
    process.wait()
    log.close()


@pytest.mark.slow
def test_over_ssh_a_worker_starts_measures_and_ends_with_us(sshd, tmp_path):
    target = f"{sshd}{command(tmp_path)}"
    assert target in check_target(target)
    latency = measure_at(target, graph(), limits=LENIENT)
    assert (latency.runtime, latency.device) == ("eager", "cpu")
    ssh = connect(Address.parse(target))
    assert isinstance(ssh, Ssh)
    assert ssh._process is not None
    ssh._process.kill()
    ssh._process.wait()
    assert measure_at(target, graph(), limits=LENIENT).median_ms > 0, "a broken connection is made again"
    ssh._process.stdin.close()
    assert ssh._process.wait(20) == 0
    ssh.close()
    with pytest.raises(NasError, match=r"nas does not answer over ssh: .*absent"):
        check_target(f"{sshd}/absent/nas")


def test_an_ssh_that_cannot_log_in_is_told(monkeypatch):
    monkeypatch.setenv("NAS_SSH_COMMAND", "sh -c 'echo Permission denied >&2; exit 255'")
    with pytest.raises(MeasureError, match=r"does not answer over ssh: Permission denied.*without a password"):
        check_target("ssh://nobody@127.0.0.1:9")
    monkeypatch.setenv("NAS_SSH_COMMAND", "no-such-ssh")
    with pytest.raises(MeasureError, match="ssh cannot be started"):
        check_target("ssh://nobody@127.0.0.1:10")


