"""The page as a whole: its bar, its tabs."""

from dataclasses import dataclass
from html import escape
from pathlib import Path

import gradio as gr

from gui.tabs.runs import RunsView, runs_tab, served
from gui.tabs.train import TrainTab
from gui.text import text

HERE = Path(__file__).parent
AT_LOAD = """(...values) => {
  document.documentElement.lang = '%s';
  return [localStorage.getItem('darkroom.draft.1') || '{}', localStorage.getItem('darkroom.tab') || 'train'];
}"""


@dataclass(frozen=True)
class PageState:
    """What a page belongs to. allowed: the folders that a shared page may use."""

    state_dir: Path
    runs_dir: Path
    allowed: list[Path]
    shared: bool


def build(language: str, state: PageState) -> gr.Blocks:
    """The page in one language. Launch or mount it with the arguments of gui.theme.look()."""
    view = RunsView(state, language)
    with gr.Blocks(title="Darkroom", fill_width=True, analytics_enabled=False) as page:
        gr.HTML(bar(language), elem_id="top", js_on_load=(HERE / "runs.js").read_text(encoding="utf-8"), server_functions=served(view))
        asked_draft, asked_tab = gr.Textbox("{}", visible="hidden"), gr.Textbox("train", visible="hidden")
        with gr.Tabs(elem_id="nav", overflow_behavior="wrap", selected="train") as tabs:
            with gr.Tab(text("page.train", language), id="train"):
                form = TrainTab(state, language)
            with gr.Tab(text("page.runs", language), id="runs") as runs:
                runs_tab()
        form.wire(tabs)
        # Which tab is shown is remembered at the click: a select event also comes while the page is being made.
        runs.select(None, None, None, js="() => { window.lookAtRuns?.() }")
        page.load(form.restore, [asked_draft, asked_tab], [*form.restored, tabs], js=AT_LOAD % language, show_progress="hidden")
    return page


def bar(language: str) -> str:
    """The bar's brand and its chip."""
    gone = escape(f'<span class="chip r">{escape(text("page.gone", language))}</span>')
    return f'<div class="bar-top"><h1 class="brand"><i></i>Darkroom</h1><span id="runs-chip" data-gone="{gone}"></span></div>'
