#!/usr/bin/env python3
"""Times `psictl setup` beside the Python PSI's way (delete and create each secret, at each run), and
counts the writes of podman's secrets.json by inotify. Needs root, and `make build` and `cargo build -p
fake-infisical` before. Everything is in one temporary directory.

usage: tests/measure-setup.py [SECRETS]
"""
import ctypes, http.client, json, os, shutil, socket, struct, subprocess, sys, tempfile, time, urllib.parse

COUNT = int(sys.argv[1]) if len(sys.argv) > 1 else 500
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DIST = os.environ.get("PSI_BIN", f"{ROOT}/target/dist")
PROJECT = "6f2d1b0e-0000-4000-8000-00000000000a"
directory = tempfile.mkdtemp(prefix="psi-m-", dir="/tmp")
children = []


def write(name, text, mode=0o600):
    path = f"{directory}/{name}"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)
    os.chmod(path, mode)
    return path


def start(args, env, **more):
    children.append(subprocess.Popen(args, env=env, **more))
    return children[-1]


def await_socket(path):
    for _ in range(500):
        try:
            socket.socket(socket.AF_UNIX).connect(path)
            return
        except OSError:
            time.sleep(0.02)
    sys.exit(f"nothing at {path}")


class Writes:
    """Counts how often secrets.json is written: closed after a write, or replaced."""

    def __init__(self, path):
        self.libc = ctypes.CDLL(None)
        self.fd = self.libc.inotify_init1(os.O_NONBLOCK)
        self.libc.inotify_add_watch(self.fd, path.encode(), 0x8 | 0x80)

    def count(self):
        total = 0
        while True:
            try:
                data = os.read(self.fd, 65536)
            except BlockingIOError:
                return total
            at = 0
            while at < len(data):
                _, _, _, length = struct.unpack_from("iIII", data, at)
                total += data[at + 16 : at + 16 + length].rstrip(b"\0") == b"secrets.json"
                at += 16 + length


class Podman(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(f"{directory}/podman.sock")

    def call(self, method, target, body=b""):
        self.request(method, f"/v4.0.0/libpod{target}", body, {"Content-Type": "application/octet-stream"})
        answer = self.getresponse()
        return answer.status, answer.read()


def measure(what, work):
    writes.count()
    began = time.monotonic()
    told = work()
    print(f"{what:58} {time.monotonic() - began:8.2f} s {writes.count():6} writes of secrets.json  {told or ''}", flush=True)


try:
    secrets = {f"KEY_{number:04}": f"value {number}" for number in range(COUNT)}
    seed = {
        "identities": [{"id": "i", "name": "h", "clientId": "client", "clientSecrets": [{"id": "s", "secret": "hunter2"}]}],
        "projects": [{"id": PROJECT, "slug": "p", "environments": ["prod"], "secrets": {"prod": {"/app": secrets, "/other": {"KEY_0000": "x"}}}}],
    }
    fake = start([f"{ROOT}/target/debug/fake-infisical", "--seed", write("seed.json", json.dumps(seed))], os.environ, stdout=subprocess.PIPE)
    told = json.loads(fake.stdout.readline())
    control = urllib.parse.urlparse(told["control"]).netloc

    def config(sources):
        sources = ", ".join(f'{{ project = "p", path = "{path}" }}' for path in sources)
        write("etc/config.toml", f"""[cache]
backend = "tpm"
[providers.infisical]
api_url = "{told['url']}"
[providers.infisical.auth]
method = "universal-auth"
client_id = "client"
client_secret_credential = "infisical-client-secret"
[providers.infisical.projects.p]
id = "{PROJECT}"
environment = "prod"
[workloads.app]
provider = "infisical"
secrets = [{sources}]
""")

    config(["/app"])
    os.makedirs(f"{directory}/cred")
    with open(f"{directory}/cred/psi-cache-key", "wb") as key:
        key.write(b"7" * 32)
    write("cred/infisical-client-secret", "hunter2")
    os.makedirs(f"{directory}/net")
    env = {
        "PATH": os.environ["PATH"], "HOME": directory, "PSI_SOCKET": f"{directory}/psid.sock", "PSI_CONFIG": f"{directory}/etc/config.toml",
        "PSI_STATE_DIR": f"{directory}/state", "PSI_RUN_DIR": f"{directory}/psid", "CREDENTIALS_DIRECTORY": f"{directory}/cred",
        "CONTAINERS_STORAGE_CONF": write("storage.conf", f'[storage]\ndriver = "vfs"\ngraphroot = "{directory}/root"\nrunroot = "{directory}/run"\n'),
        "CONTAINERS_CONF": write("containers.conf", f'[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\nlock_type = "file"\ntmp_dir = "{directory}/tmp"\n[network]\nnetwork_config_dir = "{directory}/net"\n'),
    }
    psid = start([f"{DIST}/psid", "--log-level", "warn"], env)
    await_socket(f"{directory}/psid.sock")
    start(["podman", "system", "service", "--time=0", f"unix://{directory}/podman.sock"], env, stderr=subprocess.DEVNULL)
    await_socket(f"{directory}/podman.sock")
    subprocess.run(["podman", "secret", "ls"], env=env, stdout=subprocess.DEVNULL, check=True)
    os.makedirs(f"{directory}/root/secrets", exist_ok=True)
    writes = Writes(f"{directory}/root/secrets")

    def setup(*more):
        args = [f"{DIST}/psictl", "setup", "--json", "--program", f"{DIST}/psi-driver", "--quadlets", f"{directory}/quadlets", *more]
        told = json.loads(subprocess.run(args, env=env, check=True, stdout=subprocess.PIPE).stdout)
        return f"({told['podman_writes']} told, {told['psid_writes']} of psid's)"

    options = {verb: f"exec {DIST}/psi-driver {verb}" for verb in ("lookup", "store", "delete", "list")}
    query = urllib.parse.urlencode({"driver": "shell", "driveropts": json.dumps(options)})

    def python_way(prefix):
        podman = Podman("podman")
        for key in secrets:
            podman.call("DELETE", f"/secrets/{prefix}--{key}")
            reference = json.dumps({"provider": "infisical", "project": "p", "path": "/app", "key": key})
            status, body = podman.call("POST", f"/secrets/create?name={prefix}--{key}&{query}", reference.encode())
            assert status == 200, body

    print(f"{COUNT} secrets; {subprocess.run(['podman', '--version'], stdout=subprocess.PIPE, text=True).stdout.strip()}", flush=True)
    measure(f"Python PSI's way, {COUNT} new", lambda: python_way("py"))
    measure("Python PSI's way, nothing changed", lambda: python_way("py"))
    podman = Podman("podman")
    for key in secrets:
        podman.call("DELETE", f"/secrets/py--{key}")
    measure(f"psictl setup, {COUNT} new", setup)
    measure("psictl setup, nothing changed", setup)
    config(["/app", "/other"])
    psid.send_signal(1)
    time.sleep(1)
    measure("psictl setup, one leads elsewhere", setup)
    connection = http.client.HTTPConnection(control)
    connection.request("PUT", "/secret", json.dumps({"project": PROJECT, "environment": "prod", "path": "/app", "key": "NEW", "value": "x"}))
    assert connection.getresponse().status == 200
    measure("psictl setup, one new", setup)
    os.symlink(f"{DIST}/psi-driver", f"{directory}/psi-driver")

    def other_program():
        args = [f"{DIST}/psictl", "setup", "--json", "--program", f"{directory}/psi-driver", "--quadlets", f"{directory}/quadlets"]
        told = json.loads(subprocess.run(args, env=env, check=True, stdout=subprocess.PIPE).stdout)
        return f"({told['podman_writes']} told)"

    measure(f"psictl setup, {COUNT} with stale commands", other_program)
    measure("psictl setup --dry-run", lambda: subprocess.run([f"{DIST}/psictl", "setup", "--dry-run", "--program", f"{directory}/psi-driver", "--quadlets", f"{directory}/quadlets"], env=env, check=True, stdout=subprocess.DEVNULL) and None)
finally:
    for child in reversed(children):
        child.kill()
        child.wait()
    shutil.rmtree(directory, ignore_errors=True)
