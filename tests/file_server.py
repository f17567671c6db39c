"""An HTTP server in this process that has files, and the faults that real ones have."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass
class Faults:
    """What the next request meets; each list is used up from its start."""

    drop_after: list[int] = field(default_factory=list)  # bytes sent before the connection is closed
    status: list[int] = field(default_factory=list)  # answered in place of the file
    shift: int = 0  # how much later than asked for a range starts
    ranges: bool = True
    length: bool = True  # is told; else the body is chunked


class FileServer:
    """``files`` by path; ``requests`` are (path, Range header) as they came."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.files: dict[str, bytes] = {}
        self.faults = Faults()
        self.requests: list[tuple[str, str | None]] = []

    def url(self, path: str) -> str:
        return f"{self.address}/{path}"

    def asked(self) -> list[tuple[str, str | None]]:
        """The requests since the last call."""
        asked, self.requests = self.requests, []
        return asked


@contextmanager
def serving() -> Iterator[FileServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as listener:
        server = FileServer(f"http://127.0.0.1:{listener.server_address[1]}")
        listener.files = server  # type: ignore[attr-defined]
        thread = Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        server: FileServer = self.server.files  # type: ignore[attr-defined]
        path, asked = self.path.removeprefix("/"), self.headers["Range"]
        server.requests.append((path, asked))
        self.close_connection = True
        if server.faults.status:
            self._refuse(server.faults.status.pop(0))
        elif path not in server.files:
            self._refuse(404)
        else:
            self._send(server.files[path], asked if server.faults.ranges else None, server.faults)

    def _refuse(self, status: int, content_range: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()

    def _send(self, content: bytes, asked: str | None, faults: Faults) -> None:
        start = 0
        if asked is not None:
            start = int(asked.removeprefix("bytes=").removesuffix("-")) + faults.shift
            if start >= len(content):
                self._refuse(416, f"bytes */{len(content)}")
                return
        self.send_response(200 if asked is None else 206)
        if asked is not None:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        body = content[start:]
        sent = body[: faults.drop_after.pop(0)] if faults.drop_after else body
        if faults.length:
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(sent)
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(f"{len(body):x}\r\n".encode() + sent)
        if len(sent) == len(body):
            self.wfile.write(b"\r\n0\r\n\r\n")
