"""A browser before a web framework behind function URLs: Chromium, driven as people's tests drive it (`browser.mjs`)."""

import contextlib
import http.server
import json
import os
import pathlib
import shutil
import subprocess
import threading
import uuid

import pytest

from conftest import make_client
from hearth import environment
from urls import create

CHROMIUM = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium"))), None)
JAVASCRIPT = pathlib.Path(__file__).parent / "javascript"

# Hono: a framework of Node.js that has an adapter for functions, streaming and not.
APP = """
import { Hono } from "hono";
import { getCookie, setCookie } from "hono/cookie";
import { handle, streamHandle } from "hono/aws-lambda";
import { stream, streamSSE } from "hono/streaming";

const app = new Hono();
const page = (title, body) => `<!doctype html><meta charset="utf-8"><title>${title}</title>${body}`;

app.get("/", (c) => c.html(page("Notes", `
  <ul></ul><form method="post" action="/add"><input name="text"><button>add</button></form>
  <script src="/page.js"></script>`)));
app.get("/page.js", (c) => c.text(`
  fetch("/notes").then((answer) => answer.json()).then((notes) => {
    const list = document.querySelector("ul");
    for (const text of notes) list.append(Object.assign(document.createElement("li"), { textContent: text }));
  });`, 200, { "content-type": "text/javascript" }));
app.get("/notes", (c) => c.json(["first nöte"]));
app.post("/add", async (c) => {
  setCookie(c, "added", (await c.req.parseBody()).text, { httpOnly: true });
  return c.redirect("/done", 303);
});
app.get("/done", (c) => {
  setCookie(c, "seen", String(Number(getCookie(c, "seen") ?? 0) + 1));
  return c.html(page("Done", `<p>${getCookie(c, "added").replace("&", "&amp;")}</p>`));
});
app.get("/pixel.gif", (c) => c.body(Buffer.from(
  "R0lGODlhAQABAIAAAP///////yH5BAEKAAEALAAAAAABAAEAAAICTAEAOw==", "base64",
), 200, { "content-type": "image/gif" }));
app.all("/echo", async (c) => c.text([c.req.method, await c.req.text(), c.req.header("x-mine")].join(" "), 200, {
  "x-told": "yes", "x-hidden": "yes",
}));

// What is written is seen before the next is written: each says so in an object of its own.
const signals = JSON.parse(process.env.SIGNALS);
const until = async (signal) => {
  while (!(await fetch(signals[signal].get)).ok) await new Promise((then) => setTimeout(then, 5));
};
app.post("/saw/:signal", async (c) => {
  const answer = await fetch(signals[c.req.param("signal")].put, { method: "PUT", body: "seen" });
  return c.body(null, answer.ok ? 204 : 500);
});
app.get("/stream", (c) => stream(c, async (out) => {
  for (const piece of ["a", "b", "c"]) {
    await out.write(piece);
    await until(piece);
  }
}));
app.get("/events", (c) => streamSSE(c, async (out) => {
  for (const data of ["d", "e", "f"]) {
    await out.writeSSE({ data });
    await until(data);
  }
}));
"""


def package(handler):
    """The app with the framework, as its own package manager lays it out."""
    hono = pathlib.Path(os.environ["HEARTH_E2E_NODE"]) / "node_modules/hono"
    modules = [path for path in hono.glob("dist/**/*.js") if path.relative_to(hono).parts[1] != "cjs"]
    files = {f"node_modules/hono/{path.relative_to(hono)}": path.read_bytes() for path in modules}
    files["node_modules/hono/package.json"] = (hono / "package.json").read_bytes()
    return files | {"index.mjs": f"{APP}\nexport const handler = {handler}(app);\n"}


@pytest.fixture
def foreign():
    """A page of another origin."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>elsewhere</title>")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def signals(server):
    """Addresses of objects that are not there yet, to be asked for and to be made."""
    client = make_client(server, "s3")
    with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou):
        client.create_bucket(Bucket="signals")
    run = uuid.uuid4().hex

    def of(name):
        params = {"Bucket": "signals", "Key": f"{run}/{name}"}
        return {way: client.generate_presigned_url(f"{way}_object", Params=params) for way in ("get", "put")}

    return {name: of(name) for name in "abcdef"}


def test_a_browser_is_served_by_a_web_framework(make, client, base, foreign, signals):
    settings = {"Runtime": "nodejs20.x", "MemorySize": 256, "Environment": {"Variables": {"SIGNALS": json.dumps(signals)}}}
    streaming = create(client, make(package("streamHandle"), **settings), InvokeMode="RESPONSE_STREAM")
    cors = {
        "AllowOrigins": [foreign], "AllowMethods": ["PUT", "GET"], "AllowHeaders": ["x-mine", "content-type"],
        "ExposeHeaders": ["x-told"], "AllowCredentials": True,
    }  # fmt: skip
    buffered = create(client, make(package("handle"), **settings), Cors=cors)
    folder = base / f"browser-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    shutil.copy(JAVASCRIPT / "browser.mjs", folder)
    (folder / "node_modules").symlink_to(pathlib.Path(os.environ["HEARTH_E2E_NODE"]) / "node_modules")
    assert CHROMIUM, "Chromium is missing: script/test installs it"
    done = subprocess.run(
        ["node", "--test", "browser.mjs"],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=folder,
        env=environment(STREAMING=streaming.text, BUFFERED=buffered.text, FOREIGN=foreign, CHROMIUM=CHROMIUM),
    )
    assert done.returncode == 0, done.stdout + done.stderr
