"""An admin port that answers what a test says."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FakeNode:
    """An admin port: POSTs get the next answer of a list (the last one stays), GETs a status."""

    def __init__(self, *answers: tuple[int, object], status: object = None) -> None:
        self.asked: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        left = list(answers)
        node = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer(200, status)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                node.asked.append((self.path, json.loads(body), headers))
                code, content = left.pop(0) if len(left) > 1 else left[0]
                if content is not None:
                    self.answer(code, content)

            def answer(self, code: int, content: object) -> None:
                self.send_response(code)
                self.end_headers()
                text = content if isinstance(content, str) else json.dumps(content)
                self.wfile.write(text.encode())

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self.address = f"127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
