"""Whether the `SPACE` of a module of one's own can be searched: ranges tried on a recipe, before anything starts."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

from fusion_models.config import Flat, Recipe, near
from fusion_models.models.own.reference import OwnModel, OwnModelError

OURS = ("train.", "loss.")
"""Keys of ours that a `SPACE` may have ranges of."""


@runtime_checkable
class Span(Protocol):
    """What a range of `spaces` shows of itself."""

    @property
    def when(self) -> Mapping[str, Container[Any]]: ...
    def parameters(self, key: str, value: Any) -> dict[str, Any]: ...
    def samples(self) -> tuple[Any, ...]: ...


def flat_key(own: OwnModel, key: str) -> str:
    """A key of `SPACE` as a recipe has it: a setting is `own.NAME`."""
    return f"own.{key}" if key in own.defaults() else key


def misfits(own: OwnModel, base: Recipe, searched: Mapping[str, Span] | None = None) -> Iterator[str]:
    """What a run around `base`, which has the module's settings, would refuse of `SPACE`: a sentence each.

    `searched`: what is searched beside `SPACE`, by flat keys, which a condition may name.
    """
    settings, flat = sorted(own.defaults()), base.flat()
    ours = [key for key in flat if key.startswith(OURS)]
    for key, span in own.space.items():
        if key not in settings and key not in ours:
            hint = near(key, [*settings, *ours]) if isinstance(key, str) else "a key is a text"
            yield (
                f"SPACE names {key!r}, which is no setting ({', '.join(settings) or 'none'}) and no train. or loss. "
                f"key of ours: {hint if len(hint) < 200 else 'name one of them'}"
            )
        elif not isinstance(span, Span):
            yield f"SPACE[{key!r}] is {span!r:.80}; give a Float, a Choice or a Weight of `spaces`"
        elif unknown := [name for name in span.when if flat_key(own, name) not in flat]:
            hint = near(str(unknown[0]), [*settings, *flat])
            yield (
                f"SPACE[{key!r}] is asked when {unknown[0]!r} has some value, which is no setting and no key: "
                f"{hint if len(hint) < 200 else 'name one'}"
            )
        else:
            yield from _refused(own, base, searched or {}, key, span)


def outside(own: OwnModel, base: Recipe) -> Iterator[str]:
    """Settings whose default does not lie in their range, of a `SPACE` without misfits: a sentence each."""
    flat = base.flat()
    for key, span in own.space.items():
        name = flat_key(own, key)
        if key in own.defaults() and all(flat[flat_key(own, k)] in values for k, values in span.when.items()):
            try:
                span.parameters(name, flat[name])
            except ValueError as error:
                yield f"the default lies outside SPACE: {error}"


def _refused(own: OwnModel, base: Recipe, searched: Mapping[str, Span], key: str, span: Span) -> Iterator[str]:
    """The first value of a range that a recipe or the module's settings refuse, where the range is asked.

    Nothing is tried where a key of ours has none of the values under which it is asked: a phase may yet search it.
    """
    try:
        values = span.samples()
        conditions: Flat = {}
        for k, allowed in span.when.items():
            found = _some_of(own, base, searched, k, allowed)
            if not found and k not in own.defaults() and k not in own.space:
                return
            if not found:
                raise OwnModelError(f"it is asked when {k} is {allowed!r}, which it never is")
            conditions[flat_key(own, k)] = found[0]
        for value in values:
            own.settings_of(base.updated(conditions | {flat_key(own, key): value}))
    except ValueError as error:
        said = str(error).removeprefix(f"{own.reference} ")
        yield f"SPACE[{key!r}] holds values that a run refuses: {said}"


def _some_of(own: OwnModel, base: Recipe, searched: Mapping[str, Span], key: str, allowed: Container[Any]) -> list[Any]:
    """Values of a condition's key under which the range is asked; the base's first where it will do."""
    name = flat_key(own, key)
    span = own.space.get(key, searched.get(name))
    named = list(allowed) if isinstance(allowed, Iterable) else []
    tried = [base.flat()[name], *named, *(span.samples() if isinstance(span, Span) else ())]
    return [value for value in tried if value in allowed]
