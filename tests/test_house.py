"""The rules of the house, kept by reading the code."""

import ast
import importlib
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from backend.config import known
from backend.config.commands import COMMANDS, fields_of
from backend.config.config import make_config
from backend.config.manual import manual
from backend.config.option import Options, choices_of, default_of, facts_of
from backend.config.values import read_value
from backend.data.options import SubsetOptions

ROOT = Path(__file__).resolve().parents[1]
FILE_WALL, FUNCTION_WALL, ARGUMENTS_WALL, DEPTH_WALL = 500, 60, 6, 3
VAGUE = ("utils", "common", "misc", "base", "manager", "handler", "helpers")
HEAVY = ("torch", "diffusers", "transformers", "accelerate", "bitsandbytes")

# Which modules of backend a package may import at its top: names of packages or modules, its own always.
FREE = ("backend.faults", "backend.files", "backend.randomness", "backend.config.option")
MODEL = "backend.models.model"
LAYERS = {
    "backend.faults": (),
    "backend.files": ("backend.faults",),
    "backend.randomness": (),
    "backend.config": ("backend",),  # but see below: only torch-free modules
    "backend.runs": ("backend",),  # likewise
    "backend.noise": FREE,
    "backend.optimizers": (*FREE, "backend.methods.method"),
    "backend.training": (*FREE, "backend.runs", "backend.noise"),
    "backend.data": (*FREE, "backend.config.values", "backend.config.known"),
    "backend.models": (*FREE, "backend.noise"),
    "backend.methods": (*FREE, MODEL, "backend.models.recognise", "backend.models.headers"),
    "backend.sampling": (*FREE, MODEL, "backend.noise"),
    "backend.checkpoints": (*FREE, MODEL, "backend.noise"),
    "backend.demo": FREE,
}
TOP = ("backend.train", "backend.tools", "backend.__main__", "backend")


@cache
def modules():
    """Every module of backend by name, as a tree of code."""
    found = {}
    for path in sorted((ROOT / "backend").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        found[name] = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return found


def imports(tree, everywhere=True):
    """The modules that code imports, and of `from a import b` also a.b; at its top only, or everywhere."""
    nodes = ast.walk(tree) if everywhere else tree.body
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_modules(tree, everywhere=True):
    """The modules of backend that code imports."""
    names = set(imports(tree, everywhere))
    return {name if name in modules() else name.rpartition(".")[0] for name in names if name.split(".")[0] in ("backend", "gui")}


def within(name, packages):
    """Whether a module is one of these, or lies in one of them."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


@cache
def light_modules():
    """Modules that load nothing heavy, by reading: neither they nor what they import at their top."""
    heavy = {name for name, tree in modules().items() if any(found.split(".")[0] in HEAVY for found in imports(tree, everywhere=False))}
    while True:
        more = {name for name, tree in modules().items() if name not in heavy and imported_modules(tree, everywhere=False) & heavy}
        if not more:
            return sorted(set(modules()) - heavy)
        heavy |= more


def functions():
    """Every function with the name of its module."""
    for name, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield f"{name}.{node.name}", node


def depth(node, at=0):
    """How deep blocks lie within one another."""
    blocks = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.Match)
    deepest = at
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
            continue
        is_elif = isinstance(node, ast.If) and isinstance(child, ast.If) and child in node.orelse and len(node.orelse) == 1
        deepest = max(deepest, depth(child, at + (isinstance(child, blocks) and not is_elif)))
    return deepest


def option_fields():
    """Every option with its group, also those of dataset files."""
    groups = {group for command in COMMANDS.values() for group in command.groups} | {SubsetOptions}
    return [pytest.param(group, name, id=f"{group.__name__}.{name}") for group in sorted(groups, key=lambda group: group.__name__) for name in group.model_fields]


def test_layers_import_only_what_lies_below_them():
    wrong = []
    for name, tree in modules().items():
        package = ".".join(name.split(".")[:2])
        if name in TOP or within(name, TOP[:2]):
            continue
        allowed = (*LAYERS[package], package)
        wrong += [f"{name} imports {other}" for other in sorted(imported_modules(tree, everywhere=False)) if not within(other, allowed)]
    assert wrong == []


def test_nothing_in_backend_imports_the_page():
    assert [name for name, tree in modules().items() if any(other.split(".")[0] in ("gui", "gradio") for other in imports(tree))] == []


def test_a_family_never_imports_another_and_is_imported_only_by_the_registry():
    families = [path.name for path in (ROOT / "backend" / "models").iterdir() if (path / "model.py").exists()]
    assert "sd" in families
    for family in families:
        home = f"backend.models.{family}"
        users = {name for name, tree in modules().items() if any(within(other, [home]) for other in imported_modules(tree)) and not within(name, [home])}
        allowed = {"backend.models.registry", "backend.config.commands", "backend.demo.model"}
        assert users <= allowed, users - allowed


def test_options_files_import_only_the_option():
    for name, tree in modules().items():
        if name.endswith(".options"):
            assert imported_modules(tree) <= {"backend.config.option"}, name


def test_modules_that_must_be_light_are():
    wanted = {name for name in modules() if within(name, ("backend.config", "backend.runs", "backend.tools")) or name.endswith(".options")}
    wanted |= {
        "backend.__main__", "backend.faults", "backend.files", "backend.randomness", "backend.data.subsets", "backend.data.records", "backend.data.captions",
        "backend.data.buckets", "backend.data.plan", "backend.models.recognise", "backend.models.tokens", "backend.models.registry",
        "backend.checkpoints.metadata", "backend.checkpoints.manifest", "backend.sampling.prompts", "backend.optimizers.checks",
        "backend.methods.network.arguments"}
    assert sorted(wanted - set(light_modules())) == []


def test_light_modules_leave_torch_unloaded():
    script = f"import importlib, sys\nfor name in {[name for name in light_modules() if name != 'backend.__main__']!r}: importlib.import_module(name)\n" \
             f"print([name for name in {HEAVY!r} if name in sys.modules])"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert told.stdout.strip() == "[]", told.stderr


def test_no_file_passes_the_wall():
    paths = [path for folder in ("backend", "tests") for path in (ROOT / folder).rglob("*.py")]
    assert {str(path): lines for path in paths if (lines := len(path.read_text(encoding="utf-8").splitlines())) > FILE_WALL} == {}


def test_no_function_passes_the_wall():
    assert {name: lines for name, node in functions() if (lines := node.end_lineno - node.lineno + 1) > FUNCTION_WALL and name != "backend.train.train"} == {}


def test_no_function_takes_too_many_arguments():
    counts = {name: len([*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]) - (node.args.args[:1] != [] and node.args.args[0].arg in ("self", "cls"))
              for name, node in functions()}
    # Pickles of torch call this one, so its arguments are theirs.
    assert {name: count for name, count in counts.items() if count > ARGUMENTS_WALL and name != "backend.models.pickles.tensor_of_dtype"} == {}


def test_no_function_is_nested_too_deep():
    assert {name: deep for name, node in functions() if (deep := depth(node)) > DEPTH_WALL} == {}


def test_every_module_class_and_public_function_says_what_it_is():
    silent = [name for name, tree in modules().items() if tree.body and not ast.get_docstring(tree)]
    for name, tree in modules().items():
        silent += [f"{name}.{node.name}" for node in tree.body
                   if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_") and not ast.get_docstring(node)]
    assert silent == []


def test_names_say_what_a_module_does():
    assert [name for name in modules() if name.rpartition(".")[2] in VAGUE] == []


def test_the_environment_is_read_by_nobody():
    readers = [name for name, tree in modules().items() for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")]
    assert set(readers) <= {"backend.__main__", "backend.training.processes"}


@pytest.mark.parametrize("group, name", option_fields())
def test_every_option_has_help_and_an_example_that_is_another_value(group, name):
    field = group.model_fields[name]
    facts = facts_of(field)
    value, effect, *needs = facts.example
    assert facts.help.endswith(".") or facts.help[-1].isalnum()
    assert effect in ("result", "files", "plan", "speed", "words")
    read = read_value(name, field, value)
    assert read == value and type(read) is type(value)
    assert value != default_of(field) or len(choices_of(field)) == 1, "the example is the default"
    for other, setting in (needs[0] if needs else {}).items():
        home = next(fields for command in COMMANDS if name in (fields := fields_of(command)))
        assert read_value(other, home[other][1], setting) == setting


def test_every_option_is_read_somewhere():
    read = {node.attr for name, tree in modules().items() if (name == "backend.config.rules" or not within(name, ["backend.config"])) and not name.endswith(".options")
            for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    # Keys of a data set are taken by the names in a table.
    tables = {node.value for name in ("backend.data.subsets",) for node in ast.walk(modules()[name]) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    declared = {name for command in COMMANDS for name in fields_of(command)} | set(SubsetOptions.model_fields)
    assert sorted(declared - read - tables) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_no_two_groups_of_a_command_declare_the_same_name(command):
    groups = COMMANDS[command].groups
    names = [name for group in groups for name in group.model_fields] + [alias for group in groups for field in group.model_fields.values() for alias in facts_of(field).aliases]
    assert sorted(names) == sorted(set(names))


def test_no_option_is_also_listed_as_not_built():
    declared = {name for command in COMMANDS for name in fields_of(command)} | set(SubsetOptions.model_fields)
    for table in (known.OFF_AT_ZERO, known.SAME_AS_OURS, known.ONLY_WITH, known.INSTEAD, known.GUI_ONLY, known.DOOR_FLAGS):
        assert not declared & set(table)


def test_no_choice_is_also_listed_as_not_built():
    for name, choices in known.UNBUILT_CHOICES.items():
        built = fields_of("train_network")[name][1].annotation
        assert not {choice.lower() for choice in choices} & {str(choice).lower() for choice in getattr(built, "__args__", ())}


def test_what_is_said_of_names_that_are_not_built_is_about_names_that_exist():
    everywhere = {*known.sd_scripts_names(), *fields_of("train_network")}
    for table in (known.OFF_AT_ZERO, known.SAME_AS_OURS, known.ONLY_WITH, known.ONLY_WITH.values(), known.INSTEAD):
        assert set(table) <= everywhere


@pytest.mark.parametrize("command", COMMANDS)
def test_the_defaults_of_a_command_are_valid(command):
    config = make_config(command, {})
    for name, (_, field) in fields_of(command).items():
        value = config.values()[name]
        assert value is None or read_value(name, field, value, command) == value


def test_the_manual_is_fresh():
    assert (ROOT / "docs" / "OPTIONS.md").read_text(encoding="utf-8") == manual(), "write it anew: python -m backend manual"


def test_every_tool_is_a_command_and_can_run():
    files = {path.stem for path in (ROOT / "backend" / "tools").glob("*.py")} - {"__init__"}
    assert files == {name for name, command in COMMANDS.items() if command.is_tool}
    for name in files:
        module = importlib.import_module(f"backend.tools.{name}")
        assert callable(module.run) and any(issubclass(value, Options) for value in vars(module).values() if isinstance(value, type))
