"""
An endpoint that answers TRL's client of a vLLM server with made-up tokens. It has no model: what is tested against it
is when the client asks for what, and what happens when no answer comes.
"""

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest.mock import patch


GENERATE, UPDATE = "/v1/completions", "/start_weight_update"
UNIFORM = -5.5


class FakeServer:
    """
    Args:
        break_at (`dict[str, int]`, *optional*):
            For a path, the number of the request from which on it breaks, counted from 0.
        how (`str`):
            `"die"` closes the connection, `"hang"` does not answer, `"busy"` answers 503 once.
        generate (`Callable[[], None]`, *optional*):
            Called before rollouts are answered.
    """

    def __init__(
        self, break_at: dict[str, int] | None = None, how: str = "die", generate: Callable[[], None] = lambda: None
    ):
        self.requests: Counter[str] = Counter()
        self.order: list[str] = []
        self.break_at = break_at or {}
        self.how = how
        self._generate = generate
        self._random = random.Random(0)
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self._answer({})

            def do_POST(self):
                self._answer(json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "{}"))

            def _answer(self, body):
                path = self.path.partition("?")[0]
                count = server.requests[path]
                server.requests[path] += 1
                server.order.append(path)
                if path in server.break_at and count >= server.break_at[path]:
                    if server.how == "hang":
                        time.sleep(20)
                    if server.how != "busy":
                        self.close_connection = True
                        return
                    if count == server.break_at[path]:
                        self._send(503, {})
                        return
                self._send(200, server.answer(path, body))

            def _send(self, status, content):
                data = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self):
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exc):
        self._http.shutdown()
        self._http.server_close()

    def answer(self, path: str, body: dict) -> dict:
        if path == "/v1/models":
            return {"data": [{"id": "model"}]}
        if path == "/server_info":
            return {"vllm_config": {"model_config": {"logprobs_mode": "processed_logprobs"}}}
        if path == "/reset_prefix_cache":
            return {"success": True}
        if path == GENERATE:
            self._generate()
            return {"choices": [self._choice(prompt) for prompt in body["prompt"] for _ in range(body["n"])]}
        return {}

    def _choice(self, prompt: list[int]) -> dict:
        ids = [self._random.randrange(2, 258) for _ in range(self._random.randint(1, 4))]
        logprobs = {"tokens": [f"token_id:{i}" for i in ids], "token_logprobs": [UNIFORM] * len(ids)}
        logprobs["top_logprobs"] = [None] * len(ids)
        return {"prompt_token_ids": prompt, "token_ids": ids, "logprobs": logprobs}


def without_gpu_transfer(sent: list[list[str]]):
    """TRL's client with the parts replaced that need NCCL. What would be sent is noted by name."""

    def broadcast(iterator, **kwargs):
        sent.append([name for name, _ in iterator])

    client = "trl.generation.vllm_client"
    return (
        patch(f"{client}.VLLMClient.init_communicator", lambda self, device: None),
        patch(f"{client}.packed_nccl_broadcast_producer", broadcast),
    )
