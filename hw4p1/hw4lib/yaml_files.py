"""The YAML of a configuration: sections, numbers and texts, and nothing that surprises."""

from pathlib import Path

import yaml

from .errors import UserError
from .reading import shown

LARGEST_FILE = 100_000  # bytes of a configuration; the shipped one has 4,000
DEEPEST = 12  # sections and lists in each other
LONGEST_NUMBER = 40  # characters
_PLAIN_TAGS = (":bool", ":int", ":float", ":null")


def read_yaml(path: str | Path) -> dict:
    """The sections of a file. UserError that names it, and the line, if it has none."""
    try:
        with open(path, "rb") as file:  # a pipe is welcome here
            content = file.read(LARGEST_FILE + 1)
        text = content.decode("utf-8")
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read as a configuration ({error.strerror}); give another path"
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    except ValueError as error:  # a name with a zero byte
        raise UserError(f"{path}: cannot be read ({error}); give another path") from None
    config = parse_yaml(text, str(path))
    if not isinstance(config, dict):
        raise UserError(
            f"{path}: not a configuration; write sections with keys as in config.yaml"
        )
    return config


def parse_yaml(text: str, source: str) -> object:
    """The value of a text, which comes from `source`. UserError if it is too long or no YAML."""
    if len(text) > LARGEST_FILE:
        raise UserError(f"{source}: more than {LARGEST_FILE:,} characters; shorten it")
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{source}:{mark.line + 1}" if mark else source
        raise UserError(
            f"{place}: not YAML ({getattr(error, 'problem', None) or 'unreadable'}); mend it"
        ) from None


class _Loader(yaml.SafeLoader):
    """Values of YAML that a configuration has: no alias, tag, date or merge key, nothing deep.

    With aliases a few lines may stand for more values than there is memory.
    """

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag.endswith(_PLAIN_TAGS)]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, stream):
        super().__init__(stream)
        self.depth = 0

    def compose_node(self, parent, index):
        event = self.peek_event()
        problem = None
        if isinstance(event, yaml.AliasEvent):
            problem = f"*{event.anchor[:30]} stands for a value elsewhere; write it out"
        elif event.tag is not None:
            problem = f"the tag {event.tag[:30]}; write the value alone"
        elif self.depth == DEEPEST:
            problem = f"more than {DEEPEST} lists and sections in each other"
        if problem:
            raise yaml.composer.ComposerError(None, None, problem, event.start_mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_object(self, node, deep=False):
        number = node.tag.endswith((":int", ":float"))
        if number and len(node.value) > LONGEST_NUMBER:
            problem = f"a number of {len(node.value):,} characters"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        try:
            return super().construct_object(node, deep)
        except (ValueError, OverflowError):  # such as 0x_
            problem = f"{shown(node.value)} looks like a number and is none"
            raise yaml.constructor.ConstructorError(
                None, None, problem, node.start_mark
            ) from None
