"""
Rollouts from a vLLM server: what is done until it answers, and what if it does not.

While the server generates, the trainer's devices have nothing to do, so the demonstrations of the same step run then.
A server that dies or does not answer ends the run with a checkpoint, on every process.

Only the main process talks to the server; the others wait for what it broadcasts. So a failure there is kept until
that point and raised by all together. A request that broke off in the middle is not repeated: a server that came back
in between would answer with the weights that it was started with.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from accelerate.utils import broadcast_object_list
from torch import Tensor
from trl.generation.vllm_client import VLLMClient

from ..compat import before_rollouts_are_shared
from ..runtime.checkpoints import ResumableError


if TYPE_CHECKING:
    from ..amft_trainer import AMFTTrainer


# Further attempts to connect, and after an answer that says "later"; 2, 4, 8, … seconds apart.
RETRIES = 4
NOTHING_GENERATED: dict[str, list | None] = {
    "prompt_ids": [],
    "completion_ids": [],
    "logprobs": None,
    "logprob_token_ids": None,
}


class RolloutServerError(ResumableError):
    """The vLLM server cannot be used any longer. Raised on every process."""


class GuardedClient:
    """
    TRL's client of the server, which keeps a failure for the point where all processes meet. Requests that a rollout
    function makes by itself fail as TRL's do, with an error of their own.

    Args:
        client (`VLLMClient`):
            Of the main process.
        timeout (`float`):
            Seconds that one request may take.

    Attributes:
        together (`bool`):
            Whether all processes take part and meet afterwards, so that a failure is kept.
        meanwhile (`Callable[[], None]`, *optional*):
            Called while the server generates, where all processes do so.
    """

    together = False
    meanwhile: Callable[[], None] | None = None

    def __init__(self, client: VLLMClient, timeout: float):
        # The client itself needs it, and nothing else does.
        from urllib3.util.retry import Retry

        self.client = client
        self.failure: Exception | None = None
        retry = Retry(
            connect=RETRIES,
            status=RETRIES,
            read=0,
            status_forcelist=[502, 503],
            allowed_methods=["GET", "POST"],
            backoff_factor=2,
        )
        for prefix in ("http://", "https://"):
            adapter: Any = client.session.get_adapter(prefix)
            adapter.max_retries = retry
        request = client.session.request
        session: Any = client.session
        session.request = lambda *args, **kwargs: request(*args, **{"timeout": timeout, **kwargs})

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def generate(self, *args, **kwargs) -> dict[str, Any]:
        answer: dict[str, Any] = {**NOTHING_GENERATED}

        def ask() -> None:
            nonlocal answer
            try:
                answer = self.client.generate(*args, **kwargs)
            except Exception as error:
                self.failure = error

        if self.failure is None:
            # A daemon: a run that ends meanwhile does not wait for the answer.
            request = threading.Thread(target=ask, daemon=True)
            request.start()
            if self.meanwhile is not None:
                self.meanwhile()
            request.join()
        self._raise_alone()
        return answer

    def image_features(self, images: list) -> list:
        try:
            return self.client.image_features(images)
        except Exception as error:
            self.failure = error
            self._raise_alone()
            return [None] * len(images)

    def update_named_params(self, metadata: list[tuple], named_params: Iterator[tuple[str, Tensor]]) -> None:
        try:
            self.client.update_named_params(metadata, named_params)
        except Exception as error:
            self.failure = error
            # Under ZeRO-3 every parameter is gathered by all processes.
            for _ in named_params:
                pass
            self._raise_alone()

    def reset_prefix_cache(self) -> None:
        if self.failure is not None:
            return
        try:
            self.client.reset_prefix_cache()
        except Exception as error:
            self.failure = error
            self._raise_alone()

    @contextmanager
    def all_together(self, meanwhile: Callable[[], None] | None = None) -> Iterator[None]:
        """Requests that all processes wait for. One may lie within another, and keeps what that has set."""
        before = self.together, self.meanwhile
        self.together, self.meanwhile = True, meanwhile or self.meanwhile
        try:
            yield
        finally:
            self.together, self.meanwhile = before

    def _raise_alone(self) -> None:
        """Nobody will ask for the failure of a request of its own."""
        if self.failure is not None and not self.together:
            failure, self.failure = self.failure, None
            raise failure


def guard_server(trainer: "AMFTTrainer", meanwhile: Callable[[], None]) -> None:
    """
    Watch the server of a trainer with `vllm_mode="server"` and use the time until it answers. Any other trainer is
    left alone.

    Requests time out before the other processes' collectives do.

    Args:
        trainer ([`AMFTTrainer`]):
            After its construction.
        meanwhile (`Callable[[], None]`):
            Called by every process while the server generates.
    """
    if not trainer.use_vllm or trainer.vllm_mode != "server":
        return
    generation: Any = trainer.vllm_generation
    client = None
    if trainer.accelerator.is_main_process:
        client = generation.vllm_client = GuardedClient(generation.vllm_client, 0.9 * trainer.args.ddp_timeout)
    generate, sync_weights = generation.generate, generation.sync_weights
    # Only the main process has a client.
    all_together = nullcontext if client is None else client.all_together

    def raise_together() -> None:
        failure = client.failure if client is not None else None
        shared = [None if failure is None else " ".join(str(failure).split())]
        broadcast_object_list(shared)
        if shared[0] is not None:
            if client is not None:
                client.failure = None
            raise RolloutServerError(
                f"the vLLM server failed ({shared[0]}): start it again and check its log"
            ) from failure

    def guarded_generate(*args, **kwargs):
        # The main process has done it by then; what the others wait for there is its answer.
        with all_together(meanwhile), before_rollouts_are_shared(meanwhile):
            result = generate(*args, **kwargs)
        raise_together()
        return result

    def guarded_sync_weights():
        # Generation may ask for it as well.
        with all_together():
            sync_weights()
        raise_together()

    generation.generate, generation.sync_weights = guarded_generate, guarded_sync_weights
