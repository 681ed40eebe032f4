"""`transformers serve` answers with thoughts: one question after the other, streamed, many at once.

Needs `pip install 'latentcot[serving]'`. The server listens on loopback and is stopped in the end.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from transformers.utils.import_utils import is_serve_available

from latentcot import load
from latentcot.runs.checkpoint import SHIPPED
from latentcot.tasks.prosqa.generator import make_splits
from latentcot.tasks.prosqa.options import options_named

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not is_serve_available(), reason="fastapi, uvicorn or openai is not installed"
    ),
]
SERVE = "import sys; from transformers.cli.transformers import main; sys.exit(main())"
QUESTIONS = [
    example.question
    for example in make_splits(
        options_named("two-family", layers=3, shared=0), {"test": 40}, seed=90_210
    )["test"]
]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """An OpenAI client of a server with the shipped checkpoint."""
    from openai import OpenAI

    folder = tmp_path_factory.mktemp("serving")
    shutil.copytree(SHIPPED / "quickstart", folder / "model")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    words = ["serve", str(folder / "model"), "--trust-remote-code", "--device", "cpu"]
    environment = {**os.environ, "HF_MODULES_CACHE": str(folder / "modules")}
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-c", SERVE, *words, "--host", "127.0.0.1", "--port", str(port)],
            stdout=log, stderr=log, env=environment,
        )  # fmt: skip
    try:
        while not is_up(f"{url}/health"):
            assert server.poll() is None, (folder / "log").read_text()
            time.sleep(0.5)
        with OpenAI(base_url=f"{url}/v1", api_key="none") as asking:
            yield asking.with_options(default_headers={"x-model": str(folder / "model")})
    finally:
        server.terminate()
        server.wait()


def is_up(url: str) -> bool:
    try:
        with urllib.request.urlopen(url) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def completion(client: Any, question: str) -> str:
    found = client.completions.create(model=model_of(client), prompt=question, max_tokens=8)
    return str(found.choices[0].text)


def chat(client: Any, question: str) -> str:
    messages = [{"role": "user", "content": question}]
    found = client.chat.completions.create(model=model_of(client), messages=messages)
    return str(found.choices[0].message.content)


def streamed(client: Any, question: str) -> str:
    parts = client.completions.create(
        model=model_of(client), prompt=question, max_tokens=8, stream=True
    )
    return "".join(choice.text or "" for part in parts for choice in part.choices)


def streamed_chat(client: Any, question: str) -> str:
    messages = [{"role": "user", "content": question}]
    parts = client.chat.completions.create(model=model_of(client), messages=messages, stream=True)
    return "".join(choice.delta.content or "" for part in parts for choice in part.choices)


def model_of(client: Any) -> str:
    return str(client.default_headers["x-model"])


@pytest.mark.parametrize("ask", [completion, chat, streamed, streamed_chat])
def test_it_answers_as_latentcot_does(ask: Callable[..., str], client: Any) -> None:
    expected = [one.text for one in load("quickstart", device="cpu").generate(QUESTIONS)]
    assert [ask(client, question) for question in QUESTIONS[:20]] == expected[:20]
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda question: ask(client, question), QUESTIONS))
    assert answers == expected


def test_a_question_that_cannot_be_read_ends_nothing(client: Any) -> None:
    from openai import APIError

    with pytest.raises(APIError) as caught:
        streamed(client, "zebra")
    assert "a word that the model's vocabulary lacks" in str(caught.value.body)
    with pytest.raises(APIError):
        completion(client, "zebra")
    assert completion(client, QUESTIONS[0]).startswith("[A]")
