"""The form of a command, made from the declarations of its options."""

from typing import Any

import gradio as gr
from pydantic.fields import FieldInfo

from backend.config.commands import COMMANDS, fields_of
from backend.config.option import Facts, choices_of, default_of, facts_of, group_name, plain_types
from backend.config.values import admits_none
from gui.text import choice_text, text

KEPT_BY_THE_PAGE = ("runs_dir", "run_dir")  # the queue gives every run its folder
AT_HOME_IN = {"output_name": "model"}  # what belongs together for a person, though not for the trainer
OPEN = ("model", "data")  # sections that stand open at first
ORDER = ("model", "data", "network", "training", "optimizer", "sampling", "saving", "noise", "sd", "run")


class Form:
    """The fields of a command by option name. Made inside of a Blocks context, in sections that fold."""

    def __init__(self, command: str, language: str):
        self.command, self.language = command, language
        self.fields: dict[str, gr.components.Component] = {}
        groups = {group_name(group): group for group in COMMANDS[command].groups}
        sections: dict[str, dict[str, FieldInfo]] = {section: {} for section in sorted(groups, key=place_of)}
        for section, group in groups.items():
            for name, info in group.model_fields.items():
                sections[AT_HOME_IN.get(name, section)][name] = info
        for section, options in sections.items():
            self.add_section(section, options)

    def add_section(self, section: str, options: dict[str, FieldInfo]) -> None:
        """One section: what everybody needs first, the rest folded away."""
        offered = {name: info for name, info in options.items() if is_offered(name, info)}
        plain = [name for name, info in offered.items() if not facts_of(info).advanced]
        further = [name for name in offered if name not in plain]
        with gr.Accordion(text(f"section.{section}.label", self.language), open=section in OPEN, elem_id=f"sec-{section}", elem_classes="sec"):
            self.add_fields(plain or further, offered)
            if plain and further:
                with gr.Accordion(text("page.further", self.language), open=False, elem_classes="further"):
                    self.add_fields(further, offered)

    def add_fields(self, names: list[str], options: dict[str, FieldInfo]) -> None:
        """Fields side by side."""
        with gr.Column(elem_classes="grid3"):
            for name in names:
                self.fields[name] = field_for(name, options[name], self.command, self.language)

    def defaults(self) -> dict[str, Any]:
        """What every field shows at first."""
        return {name: shown(default_of(info, self.command)) for name, info in self.declared().items()}

    def declared(self) -> dict[str, FieldInfo]:
        """The declarations behind the fields."""
        return {name: fields_of(self.command)[name][1] for name in self.fields}


def place_of(section: str) -> int:
    """Where a section stands; those nobody thought of come last."""
    return ORDER.index(section) if section in ORDER else len(ORDER)


def is_offered(name: str, info: FieldInfo) -> bool:
    """Whether the form has a field for an option."""
    facts = facts_of(info)
    return facts.flag and not facts.secret and name not in KEPT_BY_THE_PAGE


def field_for(name: str, info: FieldInfo, command: str, language: str) -> gr.components.Component:
    """The field of one option. Numbers are text too, so that 1e-4, 5% and what is wrong stay as they were written."""
    facts = facts_of(info)
    common = {
        "label": label_of(name, facts, language), "info": help_of(name, facts, language), "value": shown(default_of(info, command)),
        "elem_id": f"f-{name}", "elem_classes": ["f", "w2"] if facts.path else ["f"], "interactive": True}
    if plain_types(info.annotation) == (bool,):
        return gr.Checkbox(**common)
    if choices_of(info):
        none = [(text("page.unset", language), "")] if admits_none(info.annotation) else []
        return gr.Dropdown(choices=none + [(choice_text(name, choice, language), str(choice)) for choice in choices_of(info)], **common)
    return gr.Textbox(max_lines=1, **common)


def label_of(name: str, facts: Facts, language: str) -> str:
    """The option's name, with its unit."""
    label = text(f"{name}.label", language)
    unit = text(f"unit.{facts.unit}", language) if facts.unit else ""
    return label if unit.lower() in label.lower() else f"{label} · {unit}"


def help_of(name: str, facts: Facts, language: str) -> str:
    """The option's sentence, and what values it may have."""
    words = text(f"{name}.help", language)
    low, high = facts.minimum, facts.maximum
    if low is not None and high is not None and high < 2**31:
        return f"{words} {text('page.between', language, low=low, high=high)}"
    return words


def shown(value: Any) -> Any:
    """A value as its field shows it."""
    if isinstance(value, bool):
        return value
    if value is None:
        return ""
    if isinstance(value, (list, tuple)):
        parts = [str(shown(part)) for part in value]
        return ("," if value and isinstance(value[0], int) else " ").join(parts)
    if isinstance(value, float):
        return repr(value).replace("e-0", "e-").removesuffix(".0")
    return str(value)
