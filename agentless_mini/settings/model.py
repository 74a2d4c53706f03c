"""The settings of whoever answers: model servers that are asked, and those that amini starts itself.

The address, key and headers of a server are checked before anything is sent. What is refused is not repeated in the
message: it may be a secret.
"""

import enum
import re
from pathlib import Path
from typing import Annotated, ClassVar
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, SecretStr, ValidationInfo, field_validator

from agentless_mini.domain import Decoding, ScoreRoute
from agentless_mini.errors import UsageError, printable
from agentless_mini.settings.run import Flag, Section

ONE_SERVER = (
    "--base-url names one server: put several behind one address with vLLM's --data-parallel-size or its router, see "
    "`amini help models`."
)
_ADDRESS = "write it as http://HOST:PORT/v1"
_HEADER_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")


class ServerSettings(Section):
    """Where a model is served, and how patient its clients are."""

    model_config = ConfigDict(hide_input_in_errors=True)

    key_variable: ClassVar[str]
    """The variable of the environment that holds the key."""

    base_url: Annotated[str | None, Flag(metavar="TEXT", variable="AMINI_BASE_URL", single=ONE_SERVER)] = None
    """Address of the API, such as http://localhost:8000/v1 (/v1 is added where it has no path)."""
    model: Annotated[str | None, Flag(("--model", "-m"), variable="AMINI_MODEL")] = None
    """Name of the model to ask; by default the first that the server lists."""
    api_key: SecretStr = SecretStr("none")
    """Key of the API. Local servers accept anything."""
    retries: int = Field(default=5, ge=0)
    """Attempts after a failure that made no progress, before the run is given up."""
    timeout_s: float = Field(default=600.0, gt=0)
    """Seconds of silence (a queue or a long prompt before the first token counts) after which a request is repeated."""
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    """Further headers of every request, for gateways."""

    @field_validator("base_url")
    @classmethod
    def _is_http(cls, url: str | None) -> str | None:
        if url is None:
            return None
        try:
            parts = urlsplit(url)
            is_address = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError:  # a port or an IPv6 address that is none
            raise ValueError(_ADDRESS) from None
        if not is_address or not url.isprintable() or set(url) & set(" ?#"):  # a page's name would follow the query
            raise ValueError(_ADDRESS)
        if parts.username or parts.password:
            raise ValueError(f"leave the password out of the address and set {cls.key_variable}")
        return url.rstrip("/") if parts.path.strip("/") else url.rstrip("/") + "/v1"

    @field_validator("api_key")
    @classmethod
    def _is_key(cls, key: SecretStr) -> SecretStr:
        return checked_key(key, cls.key_variable)

    @field_validator("headers")
    @classmethod
    def _are_headers(cls, headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, value in headers.items():
            if not _HEADER_NAME.fullmatch(name) or not _fits_header(value.get_secret_value()):
                raise ValueError("write each as a name of letters, digits and -, and a value of printable ASCII")
        return headers


def checked_key(key: SecretStr, variable: str) -> SecretStr:
    """Return a key without the line end that a file or a shell adds. Raises ValueError for one that no header carries.

    The message does not show it.
    """
    secret = key.get_secret_value().strip()
    if not secret:
        raise ValueError(f"it is empty: set {variable} to the key, or unset it")
    if not _fits_header(secret):
        raise ValueError(f"it holds characters that no key has: copy it again to {variable}")
    return SecretStr(secret)


def _fits_header(value: str) -> bool:
    return value.isascii() and value.isprintable() and value == value.strip()


class EndpointSettings(ServerSettings):
    """The model server that is asked."""

    key_variable = "AMINI_API_KEY"

    context_window: Annotated[int | None, Flag(("--context",))] = Field(default=None, gt=0)
    """Context window in tokens; by default as the server says. The smaller of the two counts."""
    decoding: Decoding = Decoding.FREE
    """How answers to repair prompts are decoded: free, or under a grammar (vLLM and llama.cpp)."""
    max_in_flight: Annotated[int, Flag(("--in-flight",))] = Field(default=32, gt=0)
    """Requests for samples in flight at once, over all prompts; the server batches what is in flight.

    Half of what was in flight, after the server was silent for `timeout_s` under it."""
    max_samples_per_request: int = Field(default=32, gt=0)
    """Samples asked for in one request (`n`). Servers that refuse or ignore more than one are asked one by one."""
    cut_prompts: int = Field(default=3, ge=0)
    """Prompts in a row that the server may cut in silence (the first is told) before the run is given up; 0: any."""

    @field_validator("decoding", mode="before")
    @classmethod
    def _is_offered(cls, decoding: object) -> object:
        if decoding == Decoding.LINES:
            raise ValueError("line rewriting needs the embedded model: choose 'free' or 'grammar'")
        if decoding not in (Decoding.FREE, Decoding.GRAMMAR):
            raise ValueError("choose 'free' or 'grammar'")
        return decoding


class ScorerSettings(ServerSettings):
    """The reward model that selects what later rounds are shown."""

    key_variable = "AMINI_SCORER_API_KEY"

    route: ScoreRoute = ScoreRoute.SCORE
    """The page that is asked: score (a cross-encoder), classify or pooling (a model that reads chats)."""
    label: int | None = Field(default=None, ge=0)
    """Of several numbers for an answer (classify, pooling), the place of the one that counts, from 0."""
    batch: int = Field(default=16, gt=0)
    """Answers in one request to /score; the other pages take one."""
    max_in_flight: int = Field(default=16, gt=0)
    """Requests in flight at once."""

    @field_validator("label")
    @classmethod
    def _has_numbers(cls, label: int | None, others: ValidationInfo) -> int | None:
        if label is not None and others.data.get("route") is ScoreRoute.SCORE:
            raise ValueError("/score gives one number: leave the label out, or choose the route classify or pooling")
        return label


class Engine(enum.StrEnum):
    """Who answers where no endpoint is named."""

    AUTO = "auto"  # a running `amini serve`, else vLLM where there is a GPU, else the embedded model
    VLLM = "vllm"
    EMBEDDED = "embedded"


class VllmSettings(Section):
    """How vLLM is started."""

    python: Path | None = None
    """Interpreter of the virtual environment that has vLLM; by default this one's, else the `vllm` on the PATH."""
    port: int | None = Field(default=None, ge=1, le=65535)
    """Port to listen on; by default a free one."""
    max_model_len: int | None = Field(default=None, ge=256)
    """Context window in tokens; by default the model's own."""
    tensor_parallel: int | None = Field(default=None, ge=1)
    """GPUs that share the model; by default the largest power of two of those found that divides its heads."""
    dtype: str = ""
    """Number format of weights and activations; by default the model's own on a GPU, float32 on a CPU."""
    served_name: str = ""
    """Name under which requests ask for the model; by default the hub's name or the folder's."""
    adapters: tuple[Path, ...] = ()
    """Folders of LoRA adapters, each served under its folder's name; requests ask for the first by default."""
    trust_remote_code: bool = False
    """Let the model's repository run code of its own on this machine."""
    extra: tuple[str, ...] = ()
    """More flags for vLLM, verbatim and last, so that they win; paths among them must be absolute."""


def pinned(model: str) -> tuple[str, str | None]:
    """Split NAME@COMMIT of the hub. Raises `UsageError` for a revision that may move: a branch or a tag."""
    name, at, commit = model.partition("@")
    if at and not re.fullmatch("[0-9a-fA-F]{40}", commit):
        raise UsageError(f"{printable(model)} names no commit: put its 40 hexadecimal digits after @, or leave @ out.")
    return name, commit.lower() if at else None


class WeightsSettings(Section):
    """Which weights the embedded model runs on."""

    model: str | None = None
    """Path of a GGUF file, or OWNER/NAME or OWNER/NAME@COMMIT:FILE.gguf on the hub; None: the carried model."""
    decoding: Decoding | None = None
    """How the named model is made to answer; None: under a grammar."""
    hub: str = Field(default="https://huggingface.co", pattern=r"^https?://")
    """Address of the hub."""


class EmbeddedSettings(Section):
    """How llama.cpp's server is started, for embedded models that write edits."""

    port: int | None = Field(default=None, ge=1, le=65535)
    """Port to listen on; by default a free one."""
    context: int = Field(default=8192, ge=512)
    """Context window of each sample in tokens; llama.cpp lowers it to the model's own."""
    parallel: int = Field(default=8, ge=1, le=64)
    """Samples decoded at once; each holds a context window of its own in memory."""
    threads: int | None = Field(default=None, ge=1)
    """Threads to compute with; by default as llama.cpp finds fit."""


class InProcessSettings(Section):
    """How a model that ranks changes of lines runs inside amini."""

    context: int = Field(default=8192, ge=512)
    """Context window in tokens, all samples together; the model's own where that is smaller."""
    threads: int | None = Field(default=None, ge=1)
    """Threads to compute with; by default one for each core this process may use. Another number may round
    differently, and so change the order of rewrites that score alike."""
    copy_tokens: int = Field(default=1500, ge=64)
    """Most tokens of code that line rewriting copies; what the issue points at least is left out."""
