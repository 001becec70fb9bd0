"""Reads dashboards into the model that Grafana generates from its schema, and says what does not fit.

Usage: schema.py DASHBOARD.json...   (with `grafana-foundation-sdk`)

What the model does not know is lost on the way through it, what has another type or is none of the words allowed is told
by the model's own type annotations. One line for each finding; none, and the name and number of panels, when all fits.
"""

import enum
import json
import sys
import typing

from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard

# What Grafana's Prometheus source adds to an annotation. Models of Grafana 10 and 11 leave it out, later ones have it.
OF_THE_SOURCE = {"tagKeys", "textFormat", "titleFormat"}


def written(model):
    """The JSON of a model, as Python reads it."""
    return json.loads(json.dumps(model, cls=JSONEncoder))


def lost(before, after, path):
    """What stands in `before` and not in `after`. What is new there are defaults."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            if key in after:
                yield from lost(value, after[key], f"{path}/{key}")
            elif not (path.startswith("/annotations/") and key in OF_THE_SOURCE):
                yield f"{path}/{key} is unknown"
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (one, other) in enumerate(zip(before, after)):
            yield from lost(one, other, f"{path}/{number}")
    elif before != after:
        yield f"{path} is read as {after!r} instead of {before!r}"


def fits(value, kind):
    """Whether a value is of the annotated kind, as far as its own fields are not concerned."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Union:
        return any(fits(value, one) for one in arguments)
    if origin is typing.Literal:
        return value in arguments
    if origin is list:
        return isinstance(value, list) and all(fits(one, arguments[0]) for one in value)
    if origin is dict:
        return isinstance(value, dict) and all(fits(one, arguments[1]) for one in value.values())
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return isinstance(value, kind) or value in [word.value for word in kind]
    if isinstance(value, dict) and hasattr(kind, "from_json"):
        return not any(lost(value, written(kind.from_json(value)), ""))
    return isinstance(value, kind) if isinstance(kind, type) else True


def unfit(value, path):
    """Fields of the model, however deep, whose value is not of their kind."""
    if isinstance(value, list):
        for number, one in enumerate(value):
            yield from unfit(one, f"{path}/{number}")
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from unfit(one, f"{path}/{key}")
    elif hasattr(value, "to_json") and not isinstance(value, enum.Enum):
        kinds = typing.get_type_hints(type(value))
        for name, one in vars(value).items():
            if name in kinds and not fits(one, kinds[name]):
                yield f"{path}/{name} is {one!r}, which is no {kinds[name]}"
            yield from unfit(one, f"{path}/{name}")


def main():
    plugins.register_default_plugins()
    for name in sys.argv[1:]:
        with open(name, encoding="utf-8") as file:
            document = json.load(file)
        model = dashboard.Dashboard.from_json(document)
        for finding in [*lost(document, written(model), ""), *unfit(model, "")]:
            print(finding)
        print(f"{model.uid}: {len(model.panels)} panels read")


main()
