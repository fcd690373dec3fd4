"""`fastmax data fetch` against archives made here, from files and from a server that misbehaves on request."""

import gzip
import hashlib
import http.server
import io
import json
import random
import subprocess
import tarfile
import threading
import time

import pytest
from program import PROGRAM, document, run

ANY = "--accept-any-hash"


def fetch(task, data, *arguments, code=0, **options):
    done = run("data", "fetch", task, "--data-dir", data, "--json", *arguments, code=code, **options)
    if code == 0:
        return json.loads(done.stdout)
    assert done.stdout == ""
    line = done.stderr.splitlines()[-1]
    assert line.startswith("fastmax: error: "), done.stderr
    return line


def nothing_left(data, task):
    """Neither the task's folder nor one in the making."""
    return not [path for path in data.glob(f"{task}*")]


def cifar():
    """A tar.gz in CIFAR-10's layout: 4 records a file, of noise, which does not get smaller."""
    noise = random.Random(0)
    return archive(
        {
            f"cifar-10-batches-bin/{name}.bin": b"".join(bytes([i]) + noise.randbytes(3072) for i in range(4))
            for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
        }
    )


def archive(files, links=()):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for name, target, kind in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            tar.addfile(info)
    return out.getvalue()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves server.files with ranges. The first server.breaks answers of bodies break off half-way."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        server = self.server
        body = server.files.get(self.path)
        server.requests.append((self.path, self.headers.get("Range")))
        if body is None:
            return self.send_error(404)
        start = 0
        if server.ranges and self.headers.get("Range"):
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                return self.send_error(416)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        rest = body[start:]
        if server.breaks > 0:
            server.breaks -= 1
            rest = rest[: len(rest) // 2]
        self.wfile.write(rest)


@pytest.fixture
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.requests, server.breaks, server.ranges = {}, [], 0, True
    server.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_download(server, tmp_path):
    body = cifar()
    server.files["/copy.tar.gz"] = body
    source = fetch("image", tmp_path, "--from", f"{server.address}/copy.tar.gz", ANY)
    assert source["folder"] == str(tmp_path / "image")
    assert source["known_copy"] is False
    assert source["files"][0]["sha256"] == hashlib.sha256(body).hexdigest()
    inside = tmp_path / "image" / "cifar-10-batches-bin"
    assert len(list(inside.iterdir())) == 6 and (inside / "test_batch.bin").stat().st_size == 4 * 3073
    assert not (tmp_path / "downloads").exists()
    # Once there it is not asked for again.
    fetch("image", tmp_path, "--from", f"{server.address}/copy.tar.gz", ANY)
    assert len(server.requests) == 1
    there = {s["task"]: s["there"] for s in document("data", "list", "--data-dir", tmp_path)["sets"]}
    assert there["image"] and not there["text"]


def test_a_broken_connection_is_taken_up_again(server, tmp_path):
    server.files["/cifar-10-binary.tar.gz"] = body = cifar()
    server.breaks = 1
    fetch("image", tmp_path, "--from", server.address + "/", ANY)  # an address of a folder
    assert [r for _, r in server.requests] == [None, f"bytes={len(body) // 2}-"]


@pytest.mark.parametrize("ranges", [True, False])
def test_the_next_call_goes_on(server, tmp_path, ranges):
    server.files["/a"] = body = cifar()
    server.breaks, server.ranges = 3, ranges
    line = fetch("image", tmp_path, "--from", f"{server.address}/a", ANY, code=1)
    (part,) = (tmp_path / "downloads").glob("*-cifar-10-binary.tar.gz.part")
    assert str(part) in line and f"{server.address}/a" in line
    there = part.stat().st_size
    assert body[:there] == part.read_bytes() and there > 0
    assert nothing_left(tmp_path, "image")
    fetch("image", tmp_path, "--from", f"{server.address}/a", ANY)
    assert server.requests[-1 if ranges else -2][1] == f"bytes={there}-"
    assert (tmp_path / "image" / "source.json").exists()


def test_a_part_that_is_all_there_is_enough(server, tmp_path):
    server.files["/a"] = body = cifar()
    server.breaks = 3
    fetch("image", tmp_path, "--from", f"{server.address}/a", ANY, code=1)
    (part,) = (tmp_path / "downloads").iterdir()
    part.write_bytes(body)
    fetch("image", tmp_path, "--from", f"{server.address}/a", ANY)
    assert server.requests[3:] == [("/a", f"bytes={len(body)}-")]


def test_wrong_hash(server, tmp_path):
    server.files["/a"] = cifar()
    line = fetch("image", tmp_path, "--from", f"{server.address}/a", code=2)
    assert "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd" in line
    assert hashlib.sha256(server.files["/a"]).hexdigest() in line and ANY in line
    assert nothing_left(tmp_path, "image") and not any((tmp_path / "downloads").iterdir())


@pytest.mark.parametrize("bad", [b"not an archive", cifar()[:-2000], archive({"a": b"x"})], ids="text cut other".split())
def test_a_bad_download_is_not_kept(server, tmp_path, bad):
    server.files["/a"] = bad
    fetch("image", tmp_path, "--from", f"{server.address}/a", ANY, code=2)
    assert not any((tmp_path / "downloads").iterdir())
    server.files["/a"] = cifar()
    fetch("image", tmp_path, "--from", f"{server.address}/a", ANY)
    assert (tmp_path / "image" / "source.json").exists()


@pytest.mark.parametrize("header", ["ETag", "Last-Modified"])
def test_a_part_of_another_state_of_the_file_is_not_continued(server, tmp_path, header):
    versions = {"ETag": ['"1"', '"2"'], "Last-Modified": ["Mon, 01 Jan 2024 00:00:00 GMT", "Tue, 02 Jan 2024 00:00:00 GMT"]}

    class Versioned(Handler):
        """As servers do: a range only of the version that is asked for."""

        def do_GET(self):
            asked = self.headers.get("If-Range")
            asked_for.append(asked)
            if asked and asked != self.server.version:
                del self.headers["Range"]
            super().do_GET()

        def end_headers(self):
            self.send_header(header, self.server.version)
            super().end_headers()

    asked_for = []
    server.RequestHandlerClass = Versioned
    first, second = versions[header]
    server.files["/a"], server.version, server.breaks = cifar(), first, 3
    fetch("image", tmp_path, "--from", f"{server.address}/a", ANY, code=1)
    assert asked_for == [None, first, first]  # it is the same, so it went on
    noise = random.Random(1)
    server.files["/a"] = body = archive(
        {
            f"cifar-10-batches-bin/{name}.bin": bytes([3]) + noise.randbytes(3072)
            for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
        }
    ) + bytes(20_000)  # longer than what is there of the first
    server.version = second
    source = fetch("image", tmp_path, "--from", f"{server.address}/a", ANY)
    assert asked_for[3] == first and source["files"][0]["sha256"] == hashlib.sha256(body).hexdigest()
    assert not (tmp_path / "downloads").exists()


def test_404_and_no_server(server, tmp_path):
    line = fetch("image", tmp_path, "--from", f"{server.address}/none", ANY, code=1)
    assert f"{server.address}/none" in line and "404" in line
    line = fetch("image", tmp_path, "--from", "http://127.0.0.1:1/a", ANY, code=1)
    assert "http://127.0.0.1:1/a" in line
    assert nothing_left(tmp_path, "image")


def test_more_than_can_be_is_not_taken(server, tmp_path):
    server.files["/a"] = bytes(2_300_000)
    line = fetch("shakespeare", tmp_path, "--from", f"{server.address}/a", ANY, code=1)
    assert "at most 2230788 bytes" in line


def test_from_files(tmp_path):
    """A path, a file:// address, and for a set of several files their folder."""
    (tmp_path / "c.tgz").write_bytes(cifar())
    (tmp_path / "i.txt").write_text("To be, or not to be\n")
    fetch("image", tmp_path / "1", "--from", tmp_path / "c.tgz", ANY)
    fetch("image", tmp_path / "2", "--from", f"file://{tmp_path}/c.tgz", ANY)
    fetch("shakespeare", tmp_path / "2", "--from", tmp_path / "i.txt", ANY)
    assert (tmp_path / "2/shakespeare/input.txt").read_text() == "To be, or not to be\n"
    assert (tmp_path / "c.tgz").exists()
    for part in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            (tmp_path / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(kind.encode()))
    fetch("mnist", tmp_path / "1", "--from", tmp_path, ANY)
    assert (tmp_path / "1/mnist/t10k-labels-idx1-ubyte").read_bytes() == b"labels-idx1"
    line = fetch("mnist", tmp_path / "2", "--from", tmp_path / "nowhere", ANY, code=2)
    assert "train-images-idx3-ubyte.gz" in line


def test_what_was_there_before(tmp_path):
    (tmp_path / "c").write_bytes(cifar())
    for name in ("image.tmp-1", "mnist.tmp-1"):  # of processes that were killed
        (tmp_path / name / "cifar-10-batches-bin").mkdir(parents=True)
    fetch("image", tmp_path, "--from", tmp_path / "c", ANY)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".image.lock", "c", "image", "mnist.tmp-1"]
    (tmp_path / "image" / "source.json").write_text("{")
    assert "source.json: expected JSON" in fetch("image", tmp_path, "--from", tmp_path / "c", ANY, code=2)
    (tmp_path / "image" / "source.json").unlink()
    assert "holds other files" in fetch("image", tmp_path, "--from", tmp_path / "c", ANY, code=2)


def test_only_what_is_wanted_is_kept(tmp_path):
    parts = ("train", "eval", "test")
    pairs = {f"lra_release/lra_release/tsv_data/new_aan_pairs.{p}.tsv": b"1.0\ta\tb\tx\ty\n" for p in parts}
    (tmp_path / "lra").write_bytes(archive({"lra_release/listops-1000/basic_train.tsv": b"x", **pairs}))
    line = fetch("retrieval", tmp_path, "--from", tmp_path / "lra", code=2)
    assert ANY in line and "no checksum" in line
    source = fetch("retrieval", tmp_path, "--from", tmp_path / "lra", ANY)
    assert source["data"].startswith("AAN-proxy: pairs of ACL papers")
    assert source["sizes"]["new_aan_pairs.eval.tsv"] == 12
    said = run("data", "fetch", "retrieval", "--data-dir", tmp_path).stdout
    assert said.startswith("AAN-proxy: pairs of ACL papers")
    assert len(list((tmp_path / "retrieval").iterdir())) == 4  # and source.json
    kinds = ("neg/0_1", "pos/0_9")
    reviews = {f"aclImdb/{s}/{kind}.txt": b"x" for s in ("train", "test") for kind in kinds}
    others = {"aclImdb/train/unsup/0_0.txt": b"x", "aclImdb/README": b"x"}
    (tmp_path / "imdb").write_bytes(archive({**reviews, **others}))
    fetch("text", tmp_path, "--from", tmp_path / "imdb", ANY)
    assert sorted(p.name for p in (tmp_path / "text/aclImdb/train").iterdir()) == ["neg", "pos"]


@pytest.mark.parametrize(
    "body, words",
    [
        (archive({"../evil": b"x"}), ["../evil"]),
        (archive({"/tmp/evil": b"x"}), ["/tmp/evil"]),
        (archive({"a/../../evil": b"x"}), ["evil"]),
        (archive({}, [("link", "/etc/passwd", tarfile.SYMTYPE)]), ["link"]),
        (archive({"a": b"x"}, [("b", "a", tarfile.LNKTYPE)]), ["link"]),
        (archive({"cifar-10-batches-bin/test_batch.bin": b"x"}), ["data_batch_1.bin"]),
        (cifar()[:-2000], ["damaged"]),
        (b"not an archive at all", ["neither"]),
        (archive({"cifar-10-batches-bin/x": bytes(201_000_000)}), ["200000000 bytes"]),
        (archive({f"cifar-10-batches-bin/{i}": b"x" for i in range(17)}), ["at most 16 files"]),
        (archive({"other/x": bytes(201_000_000)}), ["200000000 bytes"]),
        (archive({"cifar-10-batches-bin/x": bytes(101_000_000), "y": bytes(101_000_000)}), ["200000000 bytes"]),
    ],
    ids="climbs absolute climbs-late symlink hardlink lacks truncated text bomb many unwanted-bomb halves".split(),
)
def test_archives_that_are_refused(tmp_path, body, words):
    (tmp_path / "a").write_bytes(body)
    line = fetch("image", tmp_path / "data", "--from", tmp_path / "a", ANY, code=2)
    assert all(word in line for word in words), line
    assert nothing_left(tmp_path / "data", "image")
    assert not (tmp_path / "evil").exists()


def test_the_limit_is_of_all_archives_together(tmp_path):
    for part in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            (tmp_path / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(b"x" * 16_000_000, 1))
    line = fetch("mnist", tmp_path / "data", "--from", tmp_path, ANY, code=2)
    assert "at most 4 files of 60000000 bytes together" in line and "t10k-labels-idx1-ubyte.gz" in line
    assert nothing_left(tmp_path / "data", "mnist")


def test_no_room(tmp_path):
    (tmp_path / "a").write_bytes(cifar())

    def limit():
        import resource, signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))

    line = fetch("image", tmp_path / "data", "--from", tmp_path / "a", ANY, code=1, preexec_fn=limit)
    assert "cannot write" in line and nothing_left(tmp_path / "data", "image")


def test_two_processes(server, tmp_path):
    """The second one is refused while the first one waits for its server."""
    server.files["/a"] = cifar()
    waiting, go_on = threading.Event(), threading.Event()

    class Slow(Handler):
        def do_GET(self):
            waiting.set()
            go_on.wait(30)
            super().do_GET()

    server.RequestHandlerClass = Slow
    arguments = ["--data-dir", str(tmp_path), "--from", f"{server.address}/a", ANY]
    first = subprocess.Popen([PROGRAM, "data", "fetch", "image", *arguments], stdout=subprocess.DEVNULL)
    assert waiting.wait(30)
    line = fetch("image", tmp_path, "--from", f"{server.address}/a", ANY, code=2)
    assert "another process" in line and ".image.lock" in line
    go_on.set()
    assert first.wait(30) == 0


def test_interruption(server, tmp_path):
    server.files["/a"] = body = cifar()

    class Stuck(Handler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:1000])
            self.wfile.flush()
            started.set()
            go_on.wait(30)

    started, go_on = threading.Event(), threading.Event()
    ordinary, server.RequestHandlerClass = server.RequestHandlerClass, Stuck
    arguments = ["--data-dir", str(tmp_path), "--from", f"{server.address}/a", ANY]
    fetching = subprocess.Popen([PROGRAM, "data", "fetch", "image", *arguments], stderr=subprocess.PIPE, text=True)
    assert started.wait(30)
    while not [p for p in tmp_path.glob("downloads/*.part") if p.stat().st_size >= 1000]:
        time.sleep(0.01)
    fetching.terminate()
    assert fetching.wait(30) == 128 + 15 and "goes on" in fetching.stderr.read()
    go_on.set()
    server.RequestHandlerClass = ordinary
    fetch("image", tmp_path, "--from", f"{server.address}/a", ANY)
    assert server.requests[-1][1] == "bytes=1000-"
