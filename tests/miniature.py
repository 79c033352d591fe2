"""A Kubernetes and an S3 in miniature, on this machine, for jobs that share no file system.

Pods are processes that start in an empty folder with an empty environment; with the rights for a
mount namespace they do not see the project either. Both answer what Snakemake's plugins ask, and no
more.
"""

import base64
import contextlib
import json
import subprocess
import threading
from email.utils import formatdate, parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

HIDING = 'mount -t tmpfs none "$0" && exec "$@"'


class Handler(BaseHTTPRequestHandler):
    """What both servers share; a subclass has ``answer(path, query, body)``."""

    protocol_version = "HTTP/1.1"

    def handle_any(self):
        address = urlsplit(self.path)
        query = {k: v[0] for k, v in parse_qs(address.query, keep_blank_values=True).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, content, *headers = self.answer(unquote(address.path), query, body)
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any

    def log_message(self, *args):
        """Says nothing."""


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}"


class Bucket(Server):
    """One bucket, whose objects are in ``objects`` by key with the time of their writing."""

    def __init__(self, name):
        super().__init__(("127.0.0.1", 0), BucketHandler)
        self.name, self.objects = name, {}


class BucketHandler(Handler):
    def answer(self, path, query, body):
        objects = self.server.objects
        bucket, _, key = path.removeprefix("/").partition("/")
        if bucket != self.server.name:
            return 404, b""
        if not key:
            listed = "".join(
                f"<Contents><Key>{escape(name)}</Key><LastModified>"
                f"{parsedate_to_datetime(written):%Y-%m-%dT%H:%M:%SZ}"
                f"</LastModified><ETag>e</ETag><Size>{len(data)}</Size></Contents>"
                for name, (data, written) in sorted(objects.items())
                if name.startswith(query.get("prefix", ""))
            )
            whole = f"<IsTruncated>false</IsTruncated>{listed}"
            return 200, f"<ListBucketResult>{whole}</ListBucketResult>".encode()
        if self.command == "PUT":
            objects[key] = body, formatdate(usegmt=True)
            return 200, b"", ("ETag", "e")
        if self.command == "DELETE":
            objects.pop(key, None)
            return 204, b""
        if key not in objects:
            return 404, b""
        data, written = objects[key]
        return 200, data, ("Last-Modified", written), ("ETag", "e")


class Cluster(Server):
    """A cluster's API; ``jobs`` are the specifications it was given, by name.

    Args:
        folder: where pods get their working directories and leave what they print.
        path: PATH of the pods' image.
        hidden: what pods must not see.
    """

    def __init__(self, folder, path, hidden):
        super().__init__(("127.0.0.1", 0), ClusterHandler)
        self.folder, self.path, self.hidden = Path(folder), path, Path(hidden)
        self.jobs, self.pods, self.secrets, self.deleted = {}, {}, {}, []
        try_it = ["unshare", "-m", "mount", "-t", "tmpfs", "none", str(self.hidden)]
        with contextlib.suppress(FileNotFoundError):
            self.isolated = subprocess.run(try_it, capture_output=True).returncode == 0
        config = {
            "clusters": [{"name": "c", "cluster": {"server": self.address}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        self.kubeconfig = self.folder / "kubeconfig"
        self.kubeconfig.write_text(json.dumps(config))

    isolated = False

    def start(self, name, spec):
        """Run a job's container."""
        (container,) = spec["template"]["spec"]["containers"]
        workdir = self.folder / name
        workdir.mkdir()
        env = {"PATH": self.path, "HOME": str(workdir)}
        for variable in container["env"]:
            wanted = variable["valueFrom"]["secretKeyRef"]
            secret = self.secrets[wanted["name"]]["data"][wanted["key"]]
            env[variable["name"]] = base64.b64decode(secret).decode()
        command = [*container["command"], *container["args"]]
        if self.isolated:
            command = ["unshare", "-m", "/bin/sh", "-c", HIDING, str(self.hidden), *command]
        with (self.folder / f"{name}.log").open("wb") as log:
            self.pods[name] = subprocess.Popen(
                command, cwd=workdir, env=env, stdout=log, stderr=subprocess.STDOUT
            )

    def __exit__(self, *_):
        for pod in self.pods.values():
            pod.kill()
            pod.wait()
        super().__exit__()


def refusal(container):
    """Why an API server refuses a container: a GPU cannot be asked for without the same limit."""
    asked = container["resources"]["requests"]
    limits = container["resources"].get("limits") or {}
    for name, value in asked.items():
        if "/" in name and limits.get(name) != value:
            return f"{name}: Limit must be set for non overcommitable resources"
    return None


class ClusterHandler(Handler):
    def answer(self, path, query, body):
        status, content = self.found(path.split("/"), query, json.loads(body or b"{}"))
        return status, json.dumps(content).encode(), ("Content-Type", "application/json")

    def found(self, path, query, body):
        cluster = self.server
        kind, name = [*path, ""][path.index("namespaces") + 2 :][:2]
        if self.command == "POST":
            name = body["metadata"]["name"]
            if kind == "secrets":
                cluster.secrets[name] = body
            elif reason := refusal(body["spec"]["template"]["spec"]["containers"][0]):
                return 422, {"kind": "Status", "message": reason}
            else:
                cluster.jobs[name] = body
                cluster.start(name, body["spec"])
            return 201, body
        if self.command == "DELETE":
            cluster.deleted.append((kind, name))
            if kind != "secrets" and cluster.pods[name].poll() is None:
                cluster.pods[name].kill()
            return 200, {}
        if path[-1] == "log":  # as a kubelet says it of a container that never restarted
            return 400, {"kind": "Status", "message": "previous terminated container not found"}
        name = name or query["labelSelector"].partition("=")[2]
        code = cluster.pods[name].poll()
        if kind == "jobs":
            ended = {} if code is None else {"failed": 1} if code else {"succeeded": 1}
            return 200, {**cluster.jobs[name], "status": ended}
        state = {"running": {}} if code is None else {"terminated": {"exitCode": code}}
        status = {
            "name": "snakemake", "image": "i", "imageID": "i", "ready": True, "restartCount": 0,
            "state": state,
        }  # fmt: skip
        pod = {"metadata": {"name": name}, "status": {"containerStatuses": [status]}}
        return 200, {"items": [pod]}
