"""Answers of a causal model in this process: many sequences at once, each with a seed of its own.

A sequence does not depend on what it is decoded together with, but for rounding: each has its own stream of uniform
numbers, one for a token. A prompt that several sequences share is computed once. vLLM is faster for a model that is
served; this is for checkpoints between two trainings, and for machines that cannot run it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import Cache, DynamicLayer

from agentless_mini.domain import SamplingParams

# The batch is made smaller whenever this share of it has ended.
_SHRINK = 0.5
# How often it is asked whether a sequence is still wanted, in tokens.
_ASK = 16
# Tokens of prompts that are computed together on a CPU.
_PIECE = 512
# Tokens that a cache has room for beyond its end when it is made, or made larger.
_ROOM = 128


@dataclass(frozen=True, slots=True)
class Draw:
    """One answer to be decoded: the prompt's tokens, and the seed of its stream of numbers."""

    prompt: tuple[int, ...]
    seed: int


@dataclass(frozen=True, slots=True)
class Decoded:
    """The tokens of an answer, without the one that ended it: `end`, None where it was cut off."""

    tokens: tuple[int, ...]
    end: int | None

    @property
    def ended(self) -> bool:
        """Return whether the answer came to its end."""
        return self.end is not None


Wanted = Callable[[int], bool]


def ends_of(model: Any, tokenizer: Any) -> frozenset[int]:  # noqa: ANN401 - transformers' have no common types
    """Return the tokens that end an answer: the tokenizer's, and those of the model's own settings, as servers do."""
    said = getattr(model.generation_config, "eos_token_id", None)
    others = [said] if isinstance(said, int) else said or []
    return frozenset({int(tokenizer.eos_token_id), *map(int, others)})


class Decoder:
    """Decodes with one model."""

    def __init__(self, model: Any, ends: frozenset[int], padding: int) -> None:  # noqa: ANN401 - transformers' models
        """Use a model of transformers. `ends` are the tokens that end an answer."""
        self._model, self._ends, self._padding = model, ends, padding

    def decode(
        self, sequences: Sequence[Draw], params: SamplingParams, wanted: Wanted = lambda place: True
    ) -> Iterator[tuple[int, Decoded]]:
        """Yield the place of each sequence and what was decoded, as soon as it ends; not those no longer wanted."""
        with torch.inference_mode():
            state = self._prefilled(sequences)
            draws = torch.stack([_draws(one.seed, params.max_tokens) for one in sequences]).to(state.logits.device)
            said: list[list[int]] = [[] for _ in sequences]
            for step in range(params.max_tokens):
                chosen = _choose(state.logits, params, draws[state.places, step])
                ended = self._noted(chosen.tolist(), state, said)
                yield from ((place, Decoded(tuple(said[place]), end)) for place, end in ended)
                if step % _ASK == _ASK - 1:
                    state.living -= {place for place in state.living if not wanted(place)}
                if not state.living:
                    return
                if step + 1 < params.max_tokens:
                    state.advance(self._model, chosen)
            yield from ((place, Decoded(tuple(said[place]), None)) for place in sorted(state.living))

    def _noted(self, chosen: list[int], state: "_State", said: list[list[int]]) -> list[tuple[int, int]]:
        """Note the chosen tokens of the sequences that live, and return those that end, each with its end."""
        ended = []
        for place, token in zip(state.places.tolist(), chosen, strict=True):
            if place not in state.living:
                continue
            if token in self._ends:
                ended.append((place, token))
                state.living.discard(place)
            else:
                said[place].append(token)
        return ended

    def _prefilled(self, sequences: Sequence[Draw]) -> "_State":
        """Compute each distinct prompt once, those of like length together."""
        distinct = sorted({one.prompt for one in sequences}, key=lambda prompt: (len(prompt), prompt))
        is_whole = _empty_cache(self._model) is not None and self._model.device.type == "cpu"
        pieces = list(_pieces(distinct, _PIECE)) if is_whole else [distinct]
        computed = [self._computed(piece) for piece in pieces]
        place_of = {prompt: place for place, prompt in enumerate(distinct)}
        order = torch.tensor([place_of[one.prompt] for one in sequences], device=self._model.device)
        cache = _side_by_side([one.cache for one in computed], order) if is_whole else computed[0].cache
        if not is_whole:
            cache.batch_select_indices(order)
        logits = torch.cat([one.logits for one in computed])[order]
        longest, places = len(distinct[-1]), torch.arange(len(sequences), device=order.device)
        return _State(cache, logits, self._mask(distinct, longest)[order], places, set(range(len(sequences))))

    def _computed(self, prompts: Sequence[tuple[int, ...]]) -> "_Piece":
        """Compute prompts together, padded on the left."""
        longest = max(map(len, prompts))
        tokens = [[self._padding] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
        mask = self._mask(prompts, longest)
        done = self._model(
            input_ids=torch.tensor(tokens, device=mask.device),
            attention_mask=mask,
            position_ids=(mask.cumsum(1) - 1).clamp(min=0),
            past_key_values=_empty_cache(self._model),
            use_cache=True,
            logits_to_keep=1,
        )
        return _Piece(done.past_key_values, done.logits[:, -1])

    def _mask(self, prompts: Sequence[tuple[int, ...]], longest: int) -> torch.Tensor:
        seen = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        return torch.tensor(seen, device=self._model.device)


@dataclass(frozen=True, slots=True)
class _Piece:
    """Prompts that were computed together: their cache, and what follows each of them."""

    cache: Any
    logits: torch.Tensor


@dataclass(slots=True)
class _State:
    """A batch under way. `places` are the sequences of its rows, `living` those that have not ended."""

    cache: Any
    logits: torch.Tensor
    mask: torch.Tensor
    places: torch.Tensor
    living: set[int]

    def advance(self, model: Any, chosen: torch.Tensor) -> None:  # noqa: ANN401 - as above
        """Compute one more token of all rows; rows that have ended are dropped once they are many."""
        if len(self.living) <= _SHRINK * len(self.places):
            kept = torch.tensor(
                [row for row, place in enumerate(self.places.tolist()) if place in self.living],
                device=self.places.device,
            )
            self.cache.batch_select_indices(kept)
            chosen, self.mask, self.places = chosen[kept], self.mask[kept], self.places[kept]
        position = self.mask.sum(1, keepdim=True)
        self.mask = torch.cat([self.mask, torch.ones_like(position)], dim=1)
        done = model(
            input_ids=chosen[:, None],
            attention_mask=self.mask,
            position_ids=position,
            past_key_values=self.cache,
            use_cache=True,
        )
        self.logits = done.logits[:, -1]


class _RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """A layer of a cache with room beyond its end: one more token does not copy all those before."""

    _held: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:  # noqa: ANN401 - transformers calls it
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        begin = self.get_seq_length()
        end = begin + key_states.shape[-2]
        if self._held is None or end > self._held[0].shape[-2]:
            self._held = (_with_room(self.keys, key_states, end), _with_room(self.values, value_states, end))
        for held, new in zip(self._held, (key_states, value_states), strict=True):
            held[..., begin:end, :] = new
        return self._shown(end)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        if self._held is not None:
            end = self.get_seq_length()
            self._held = (self._held[0][indices], self._held[1][indices])
            self._shown(end)

    def _shown(self, end: int) -> tuple[Any, Any]:
        self.keys, self.values = (held[..., :end, :] for held in self._held or ())
        return self.keys, self.values


def _pieces(prompts: Sequence[tuple[int, ...]], most: int) -> Iterator[list[tuple[int, ...]]]:
    """Part prompts, sorted by length, into pieces of at most so many tokens with their padding; each has one at least.

    On a CPU nothing is gained by larger pieces, and padding is computed like any token.
    """
    piece: list[tuple[int, ...]] = []
    for prompt in prompts:
        if piece and len(prompt) * (len(piece) + 1) > most:
            yield piece
            piece = []
        piece.append(prompt)
    yield piece


def _side_by_side(caches: Sequence[Any], order: torch.Tensor) -> Cache:
    """Return one cache with the rows of several in an order, all padded on the left to the longest."""
    whole = Cache(layer_class_to_replicate=_RoomyLayer)
    for number in range(len(caches[0].layers)):
        layers = [cache.layers[number] for cache in caches]
        whole.update(
            _padded([layer.keys for layer in layers], order), _padded([layer.values for layer in layers], order), number
        )
    return whole


def _padded(parts: Sequence[torch.Tensor], order: torch.Tensor) -> torch.Tensor:
    """Return rows of [rows, heads, tokens, width] tensors in an order: [sequences, heads, longest, width]."""
    longest, rows = max(part.shape[-2] for part in parts), [row for part in parts for row in part]
    found = parts[0].new_zeros((len(order), parts[0].shape[1], longest, parts[0].shape[-1]))
    for place, row in enumerate(order.tolist()):
        found[place, :, longest - rows[row].shape[-2] :] = rows[row]
    return found


def _with_room(old: torch.Tensor, new: torch.Tensor, end: int) -> torch.Tensor:
    held = new.new_empty((*new.shape[:-2], end + _ROOM, new.shape[-1]))
    if old.numel():
        held[..., : old.shape[-2], :] = old
    return held


def _empty_cache(model: Any) -> Cache | None:  # noqa: ANN401 - as above
    """Return a cache with room, None where some layers keep less than everything: the model makes its own."""
    kinds = getattr(model.config.get_text_config(), "layer_types", None) or ()
    whole = all(kind == "full_attention" for kind in kinds)
    return Cache(layer_class_to_replicate=_RoomyLayer) if whole else None


def _draws(seed: int, count: int) -> torch.Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(seed))


def _choose(logits: torch.Tensor, params: SamplingParams, draws: torch.Tensor) -> torch.Tensor:
    """Return a token for each row: the likeliest at temperature 0, else by inversion of the distribution."""
    if params.temperature == 0:
        return logits.argmax(-1)
    likely, tokens = (logits.float() / params.temperature).softmax(-1), None
    if params.top_p < 1:
        likely, tokens = likely.sort(-1, descending=True)
        likely = likely.masked_fill(likely.cumsum(-1) - likely >= params.top_p, 0)
    summed = likely.cumsum(-1)
    places = torch.searchsorted(summed, (draws[:, None] * summed[:, -1:])).clamp(max=logits.shape[-1] - 1)
    return (places if tokens is None else tokens.gather(1, places))[:, 0]
