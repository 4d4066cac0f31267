"""Downloads: checksum, continuation after a break, and what is said without a network."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from jetsweep.data import make_dataset
from jetsweep.data.download import download
from jetsweep.errors import DataError

CONTENT = bytes(range(256)) * 4_000
MD5 = hashlib.md5(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT, with ranges; the first answer under /breaks stops half way."""

    def do_GET(self):
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        self.server.starts.append(start)
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        breaks = self.path.startswith("/breaks") and len(self.server.starts) == 1
        self.wfile.write(CONTENT[start : len(CONTENT) // 2] if breaks else CONTENT[start:])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.starts = []
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_file_is_fetched_once_and_checked_every_time(server, tmp_path):
    target = tmp_path / "new" / "file.h5"
    seen = []
    assert download(f"{server.url}/file.h5", target, md5=MD5, progress=lambda *x: seen.append(x)) == target
    assert target.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    download(f"{server.url}/file.h5", target, md5=MD5)
    assert server.starts == [0]
    target.write_bytes(b"other")
    with pytest.raises(DataError, match=rf"file\.h5: md5 is \w+, expected {MD5}; delete the file"):
        download(f"{server.url}/file.h5", target, md5=MD5)


def test_a_download_that_broke_off_goes_on(server, tmp_path):
    target = tmp_path / "file.h5"
    with pytest.raises(DataError, match=r"cannot be downloaded"):
        download(f"{server.url}/breaks/file.h5", target, md5=MD5)
    assert not target.exists()
    assert 0 < (tmp_path / "file.h5.part").stat().st_size <= len(CONTENT) // 2
    download(f"{server.url}/breaks/file.h5", target, md5=MD5)
    assert target.read_bytes() == CONTENT
    assert server.starts[0] == 0
    assert server.starts[1] > 0
    assert [p.name for p in tmp_path.iterdir()] == ["file.h5"]


def test_a_complete_part_is_taken(server, tmp_path):
    (tmp_path / "file.h5.part").write_bytes(CONTENT)
    assert download(f"{server.url}/file.h5", tmp_path / "file.h5", md5=MD5).read_bytes() == CONTENT


def test_a_wrong_checksum_is_an_error_and_keeps_nothing(server, tmp_path):
    with pytest.raises(DataError, match=r"wrong checksum, expected md5 0000; it was deleted"):
        download(f"{server.url}/file.h5", tmp_path / "file.h5", md5="0000")
    assert not list(tmp_path.iterdir())


def test_without_a_network_the_message_says_which_file_to_put_where(tmp_path, monkeypatch):
    import requests

    def unreachable(*args, **kwargs):
        raise requests.ConnectionError("no route")

    monkeypatch.setattr(requests, "get", unreachable)
    monkeypatch.setenv("JETSWEEP_DATA", str(tmp_path))
    for source, name in (
        ("top-tagging", "train.h5"),
        ("quark-gluon", "QG_jets.npz"),
        ("jetclass", "JetClass_Pythia_train_100M_part0.tar"),
    ):
        with pytest.raises(
            DataError, match=rf"cannot be downloaded .*put {name} into a folder .* option path"
        ) as caught:
            make_dataset(source, tmp_path / "out")
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
