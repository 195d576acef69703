"""Runs the images of scripts/images.sh as a node does, in namespaces of this machine: test_images.py FOLDER

FOLDER has operator.tar and runtime.tar. For each: its size, its user, and what it contains. Then its program runs as that
user on a read-only root with a name server, AWS and a token issuer that only this process knows: names are resolved, and
TLS is spoken with servers that the trusted authorities signed for, and with no others.

Needs root, a network namespace and a mount namespace of its own (scripts/test-images.sh).
"""

import ctypes
import fcntl
import http.server
import json
import os
import socket
import socketserver
import ssl
import struct
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import urllib.error
import urllib.request

SIZE_MAX = 40_000_000
USER = 65532
ADMIN_PORT = 9090
# Long enough for a program to start and to retry on a busy machine.
DEADLINE_S = 60
REGION = "ap-northeast-2"
ISSUER = "login.example.com"
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
# Where the operator mounts `spec.workers.caBundle`.
BUNDLE = "etc/dispatch-ca"
CITY = f"""
apiVersion: dispatch.coactus.io/v1alpha1
kind: DispatchSystem
metadata: {{ name: seoul }}
spec: {{ city: seoul, region: {REGION}, timezone: Asia/Seoul }}
"""


class Failure(Exception):
    """What an image does wrong."""


def expect(condition, what):
    if not condition:
        raise Failure(what)


def until(what, condition):
    end = time.monotonic() + DEADLINE_S
    while not condition():
        expect(time.monotonic() < end, f"{what}: not within {DEADLINE_S} s")
        time.sleep(0.1)


# --- what a node provides ---


class Names(socketserver.BaseRequestHandler):
    """A name server: every name is this machine, and has no IPv6 address."""

    asked = 0

    def handle(self):
        query, sock = self.request
        Names.asked += 1
        end = query.index(b"\0", 12) + 5
        question, kind = query[12:end], struct.unpack("!H", query[end - 4 : end - 2])[0]
        answer = b""
        if kind == 1:
            answer = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + socket.inet_aton("127.0.0.1")
        head = query[:2] + struct.pack("!HHHHH", 0x8180, 1, 1 if answer else 0, 0, 0)
        sock.sendto(head + question + answer, self.client_address)


class Services(http.server.BaseHTTPRequestHandler):
    """AWS, which denies everything, and the keys of a token issuer."""

    asked = set()

    def answer(self):
        host = (self.headers.get("host") or "").split(":")[0]
        Services.asked.add(host)
        self.rfile.read(int(self.headers.get("content-length") or 0))
        status, body = (200, b'{"keys":[]}') if host == ISSUER else (400, b'{"__type":"AccessDeniedException"}')
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer

    def log_message(self, format, *args):
        pass


def openssl(folder, *arguments):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def make_certificates(folder):
    """An authority, and a certificate for every server."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    authority = ["-addext", "basicConstraints=critical,CA:TRUE", "-keyout", "ca.key", "-out", "ca.pem"]
    openssl(folder, "req", "-x509", *key, "-days", "2", "-subj", "/CN=authority", *authority)
    openssl(folder, "req", *key, "-subj", "/CN=servers", "-keyout", "tls.key", "-out", "tls.csr")
    names = f"subjectAltName=DNS:*.{REGION}.amazonaws.com,DNS:{ISSUER}\nbasicConstraints=CA:FALSE\n"
    with open(os.path.join(folder, "names"), "w", encoding="utf-8") as file:
        file.write(names)
    signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names"]
    openssl(folder, "x509", "-req", "-in", "tls.csr", *signed, "-out", "tls.pem")


def serve(folder):
    """Starts the name server and the services. The namespace is new, so every port is free."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        # SIOCSIFFLAGS, IFF_UP: `ip link set lo up` without the program `ip`.
        fcntl.ioctl(sock, 0x8914, struct.pack("16sh14x", b"lo", 1))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.path.join(folder, "tls.pem"), os.path.join(folder, "tls.key"))
    services = http.server.ThreadingHTTPServer(("127.0.0.1", 443), Services)
    # Of each connection in its own thread, or one that waits would keep all others.
    services.socket = context.wrap_socket(services.socket, server_side=True, do_handshake_on_connect=False)
    services.handle_error = lambda *_: None
    for server in (socketserver.ThreadingUDPServer(("127.0.0.1", 53), Names), services):
        threading.Thread(target=server.serve_forever, daemon=True).start()


# --- an image ---


class Image:
    """An unpacked image."""

    def __init__(self, archive, folder):
        self.root = os.path.join(folder, "root")
        self.folder = folder
        with tarfile.open(archive) as tar:
            (manifest,) = json.load(tar.extractfile("manifest.json"))
            self.config = json.load(tar.extractfile(manifest["Config"]))
            self.size = 0
            for name in manifest["Layers"]:
                layer = tar.getmember(name)
                self.size += layer.size
                with tarfile.open(fileobj=tar.extractfile(layer)) as files:
                    files.extractall(self.root)
        self.settings = self.config["config"]
        (self.program,) = self.settings["Entrypoint"]

    def check_contents(self):
        expect(self.size < SIZE_MAX, f"{self.size} bytes; at most {SIZE_MAX}")
        expect(self.settings["User"] == f"{USER}:{USER}", f"runs as {self.settings.get('User')!r}")
        found = []
        for folder, _, names in os.walk(self.root):
            found += [os.path.relpath(os.path.join(folder, name), self.root) for name in names]
        program = self.program.lstrip("/")
        expect(program in found and CERTIFICATES in found, "the program or the certificate authorities are missing")
        libraries = (".so", "ld-linux")
        others = [name for name in found if name not in (program, CERTIFICATES) and not any(l in name for l in libraries)]
        expect(not others, f"unexpected files: {others}")

    def prepare(self, authority, files):
        """Mounts what a node mounts, and makes the rest of the root read-only."""
        files = {"etc/resolv.conf": "nameserver 127.0.0.1\n", **files}
        with open(authority, encoding="utf-8") as file:
            files[f"{BUNDLE}/00000000.0"] = file.read()
        for path, content in files.items():
            path = os.path.join(self.root, path)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(content)
        mounts = [["--bind", self.root, self.root], ["-o", "remount,ro,bind", self.root]]
        # After the root, which would hide it.
        mounts.append(["-t", "proc", "proc", os.path.join(self.root, "proc")])
        os.makedirs(os.path.join(self.root, "proc"), exist_ok=True)
        for arguments in mounts:
            subprocess.run(["mount", *arguments], check=True)
        try:
            os.mkdir(os.path.join(self.root, "written"))
            raise Failure("the test's own root is not read-only")
        except OSError:
            pass

    def start(self, arguments, trusted):
        """Starts the program as its user. `trusted`: whether it has the test's authority besides those of the image."""
        environment = dict(variable.split("=", 1) for variable in self.settings.get("Env", []))
        environment |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "RUST_LOG": "info"}
        if trusted:
            environment["SSL_CERT_DIR"] = f"/{BUNDLE}"

        def enter():
            os.chroot(self.root)
            os.chdir("/")
            os.setgroups([])
            os.setgid(USER)
            os.setuid(USER)
            # PR_SET_NO_NEW_PRIVS, as `allowPrivilegeEscalation: false`.
            ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)

        with open(os.path.join(self.folder, "log"), "ab") as log:
            return subprocess.Popen(
                [self.program, *arguments], env=environment, preexec_fn=enter, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log,
            )

    def log(self):
        path = os.path.join(self.folder, "log")
        if not os.path.exists(path):
            return ""
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()


def worker_config():
    url = f"https://sqs.{REGION}.amazonaws.com/111122223333/coactus-default-seoul-"
    arn = f"{REGION}:111122223333"
    fare = {"base": 4800, "baseDistanceM": 1600, "perDistance": 100, "perDistanceM": 131, "perTime": 100, "perTimeS": 30,
            "nightSurcharges": [], "roadFactorPercent": 130, "averageSpeedKmh": 24, "roundTo": 100}
    dispatch = {"maxCandidates": 20, "maxAttempts": 10, "offerTimeoutMs": 15000, "searchBudgetMs": 60000,
                "searchRingsM": [3000], "distanceBucketM": 100, "staleAfterMs": 60000, "coolDownAfterRejectMs": 0,
                "coolDownAfterTimeoutMs": 0, "acceptanceWindowDays": 30, "autoAccept": True, "fare": fare}
    queues = {name: url + queue for name, queue in (
        ("offersUrl", "offers"), ("offersDeadLettersUrl", "offers-dlq"), ("responsesUrl", "responses"),
        ("notificationsUrl", "notifications"))}
    return json.dumps({
        "version": 1, "system": "default/seoul", "city": "seoul", "timezone": "Asia/Seoul", "currency": "KRW",
        "aws": {"region": REGION}, "leaseTable": "coactus-default-seoul-leases", "queues": queues,
        "table": {"name": "coactus-default-seoul", "gsi1Shards": 1,
                  "streamArn": f"arn:aws:dynamodb:{arn}:table/coactus-default-seoul/stream/1"},
        "notifications": {"topicArn": f"arn:aws:sns:{arn}:coactus-default-seoul-notifications"},
        "cache": {"url": "redis://redis.mobility.svc:6379"}, "dispatch": dispatch,
        "auth": {"issuer": f"https://{ISSUER}/", "audiences": ["dispatch"], "jwksUrl": f"https://{ISSUER}/keys"},
    })


# --- the tests ---


def waits():
    """What the worker waits for; empty if it does not answer yet."""
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{ADMIN_PORT}/readyz", timeout=5)
        raise Failure("the worker is ready without AWS")
    except urllib.error.HTTPError as error:
        return error.read().decode()
    except OSError:
        return ""


def test_runtime(image):
    hosts = {f"{service}.{REGION}.amazonaws.com" for service in ("dynamodb", "sqs", "sns")}
    for trusted in (False, True):
        Services.asked.clear()
        worker = image.start(["serve", "--config", "/etc/dispatch/config.json"], trusted)
        try:
            until("the worker says what it waits for", waits)
            if trusted:
                until(f"requests to {sorted(hosts)} and {ISSUER}", lambda: hosts | {ISSUER} <= Services.asked)
            else:
                until("the worker gets no answer", lambda: "silent" in waits())
                expect(Names.asked > 0, "it resolves no name")
                expect(not Services.asked, f"it speaks to servers that no authority vouches for: {Services.asked}")
            expect(worker.poll() is None, "the worker has ended")
        finally:
            worker.terminate()
            status = worker.wait(30)
        expect(status == 0, f"it ended with {status} after SIGTERM")


def test_operator(image):
    for trusted in (False, True):
        Services.asked.clear()
        planner = image.start(["plan", "-f", "/city/city.yaml"], trusted)
        status = planner.wait(DEADLINE_S)
        # Every call is denied, or no server is trusted.
        expect(status == 1, f"plan ended with {status}")
        hosts = {host.removesuffix(f".{REGION}.amazonaws.com") for host in Services.asked}
        expect(bool(hosts & {"cloudformation", "sts"}) == trusted, f"trusted: {trusted}; asked: {sorted(hosts)}")
        expect(trusted or not hosts, f"it speaks to servers that no authority vouches for: {hosts}")


def main(images):
    tests = {
        "operator": (test_operator, {"city/city.yaml": CITY}),
        "runtime": (test_runtime, {"etc/dispatch/config.json": worker_config()}),
    }
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o755)
        make_certificates(folder)
        serve(folder)
        for name, (test, files) in tests.items():
            own = os.path.join(folder, name)
            os.makedirs(own)
            image = Image(os.path.join(images, f"{name}.tar"), own)
            try:
                image.check_contents()
                image.prepare(os.path.join(folder, "ca.pem"), files)
                test(image)
            except Failure as failure:
                sys.exit(f"{name}: {failure}\n{image.log()}".rstrip())
            finally:
                subprocess.run(["umount", "--recursive", image.root], check=False, stderr=subprocess.DEVNULL)
            print(f"{name}: {image.size / 1e6:.1f} MB, user {USER}, read-only root, names and TLS: ok")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
