"""The rules of the house, for the page's code."""

import ast
from pathlib import Path

import pytest

from tests.test_house import ARGUMENTS_WALL, DEPTH_WALL, FILE_WALL, FUNCTION_WALL, HEAVY, VAGUE, depth, imports

ROOT = Path(__file__).resolve().parents[2]
FILES = [ROOT / "app.py", *sorted((ROOT / "gui").rglob("*.py"))]


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_file_keeps_the_walls(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert len(path.read_text(encoding="utf-8").splitlines()) <= FILE_WALL and path.stem not in VAGUE
    for node in functions(tree):
        counted = len([*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]) - (node.args.args[:1] != [] and node.args.args[0].arg in ("self", "cls"))
        assert node.end_lineno - node.lineno < FUNCTION_WALL and depth(node) <= DEPTH_WALL and counted <= ARGUMENTS_WALL, node.name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_file_says_what_it_is_and_loads_nothing_heavy(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not {name.split(".")[0] for name in imports(tree)} & set(HEAVY)
    public = [node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")]
    assert not tree.body or ast.get_docstring(tree)
    assert [node.name for node in public if not ast.get_docstring(node)] == []


def test_only_the_entry_touches_the_environment():
    readers = [path.name for path in FILES for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
               if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")]
    assert set(readers) <= {"app.py"}
