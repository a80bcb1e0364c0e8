"""The tab Train: the form, what it will do, and Start."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

import backend.demo
from backend.config.presets import load_preset, preset_names
from backend.config.toml_file import config_text
from backend.faults import Faults
from backend.runs.queue import Queue
from backend.runs.worker import ensure_worker
from backend.tools.demo import PRESET as DEMO_PRESET
from backend.tools.demo import DemoOptions, training_values
from gui.draft import PRESET, Checked, Draft, check, command_line, read_draft
from gui.form import Form, shown
from gui.marks import changed_fields, faults_by_field, idle_fields, stylesheet, summaries
from gui.plan import plan_html
from gui.text import text

COMMAND, FAMILY = "train_network", "lora"
HERE = Path(__file__).resolve().parents[1]
NOW = "() => [window.darkroom.text()]"
TO_RUN = "id => { if (id) { localStorage.setItem('darkroom.run', id); localStorage.setItem('darkroom.tab', 'runs') } window.lookAtRuns?.() }"


class TrainTab:
    """The form of a LoRA beside its plan. Made inside of a Tab."""

    def __init__(self, state: Any, language: str):
        self.state, self.language = state, language
        self.queue = Queue(state.state_dir)
        with gr.Row(elem_classes="two", equal_height=False):
            with gr.Column(elem_classes="main"):
                self.make_top()
                self.form = Form(COMMAND, language)
            with gr.Column(elem_classes="side"):
                self.make_side()
        self.defaults = self.form.defaults()
        self.restored = [*self.form.fields.values(), self.preset, self.marks, self.plan, self.command, self.toml]

    def make_top(self) -> None:
        """What fills the form at once."""
        self.bus = gr.HTML("{}", elem_id="bus", html_template="", js_on_load=(HERE / "bus.js").read_text(encoding="utf-8"))
        self.marks = gr.HTML("", elem_id="marks", html_template="<style>${value}</style>")
        self.started = gr.Textbox("", visible="hidden")
        with gr.Row(elem_classes=["card", "top-row"]):
            self.preset = gr.Dropdown(preset_choices(self.word("no_preset")), value="", label=self.word("preset"), elem_id="preset", elem_classes="grow", interactive=True)
            self.reset = gr.Button(self.word("reset"), elem_id="reset", scale=0, min_width=0)
            self.demo = gr.Button(self.word("try_demo"), elem_id="try-demo", scale=0, min_width=0)

    def make_side(self) -> None:
        """The plan, Start, and the same as command and as file."""
        with gr.Column(elem_classes="card"):
            self.plan = gr.HTML("", elem_id="plan")
            self.start = gr.Button(self.word("start"), variant="primary", elem_id="start")
        with gr.Accordion(self.word("command_and_toml"), open=False, elem_classes="sec", elem_id="as-text"):
            self.command = gr.Textbox(label=self.word("command"), lines=3, max_lines=8, buttons=["copy"], interactive=False, elem_classes="code")
            self.toml = gr.Textbox(label="TOML", lines=8, max_lines=16, buttons=["copy"], interactive=False, elem_classes="code")

    def word(self, key: str) -> str:
        """A word of this page."""
        return text(f"page.{key}", self.language)

    def wire(self, tabs: gr.Tabs) -> None:
        """What happens when."""
        for name, component in {**self.form.fields, PRESET: self.preset}.items():
            component.change(None, component, None, js=f"v => {{ window.darkroom.set('{name}', v) }}")
        told = [self.marks, self.plan, self.command, self.toml]
        self.bus.input(self.tell, self.bus, told, show_progress="hidden", trigger_mode="always_last")
        filled = [*self.form.fields.values(), self.preset]
        self.preset.input(self.take_preset, [self.bus, self.preset], filled, js="(_, preset) => [window.darkroom.text(), preset]", show_progress="hidden")
        self.reset.click(self.take_defaults, self.bus, filled, js=NOW, show_progress="hidden")
        self.demo.click(self.take_demo, self.bus, filled, js=NOW, show_progress="hidden")
        begun = self.start.click(self.begin, self.bus, [*told, self.started, tabs], js=NOW, show_progress="hidden")
        begun.then(None, self.started, None, js=TO_RUN)

    def checked(self, draft: Draft) -> Checked:
        """What there is to say of a draft."""
        return check(COMMAND, draft.given(self.defaults), self.state.runs_dir, self.allowed() if self.state.shared else None)

    def allowed(self) -> list[Path]:
        """Where a shared page may read and write: the folders it was given, its runs, and the demo."""
        return [*self.state.allowed, self.state.runs_dir, self.state.state_dir / "demo", Path(backend.demo.__file__).parent]

    def tell(self, written: str) -> list[Any]:
        """Marks, plan, command and TOML of what stands in the form."""
        draft = read_draft(written, self.defaults)
        return self.said(draft, self.checked(draft), insist=False)

    def said(self, draft: Draft, checked: Checked, insist: bool) -> list[Any]:
        """The same in HTML and text. insist: also mark the fields that nobody has touched."""
        given = draft.given(self.defaults)
        faults = faults_by_field(checked.faults, list(self.defaults))
        if not insist:
            faults = {name: words for name, words in faults.items() if name in given}
        marks = stylesheet(summaries(checked.config, self.language), changed_fields(draft.fields, self.basis(draft.preset)), faults,
                           idle_fields(checked.config, self.defaults, given))
        read = [name for name in given if name in checked.config.given]
        toml = config_text(checked.config) if not checked.faults else ""
        return [marks, plan_html(checked, self.language, insist), command_line(COMMAND, checked.config, read), toml]

    def basis(self, preset: str) -> dict[str, Any]:
        """What the form shows with nothing but a preset: where that has no word, the default stands."""
        try:
            values = load_preset(preset, COMMAND).values if preset in preset_names() else {}
        except Faults:
            values = {}
        return {**self.defaults, **{name: shown(value) for name, value in values.items() if name in self.defaults}}

    def fill(self, written: str, wanted: dict[str, Any], preset: str) -> list[Any]:
        """Values for all fields and the preset's name; what stands there already is left alone."""
        now = {**self.defaults, **read_draft(written, self.defaults).fields}
        return [*(gr.skip() if now[name] == wanted[name] else wanted[name] for name in self.form.fields), preset]

    def take_preset(self, written: str, preset: str) -> list[Any]:
        """Fill the form with a preset."""
        return self.fill(written, self.basis(preset), preset)

    def take_defaults(self, written: str) -> list[Any]:
        """Fill the form with the defaults."""
        return self.fill(written, self.defaults, "")

    def take_demo(self, written: str) -> list[Any]:
        """Fill the form with a run that works at once."""
        values = training_values(DemoOptions(demo_dir=str(self.state.state_dir / "demo")))
        wanted = {**self.defaults, **{name: shown(value) for name, value in values.items() if name in self.defaults}}
        return self.fill(written, wanted, DEMO_PRESET)

    def restore(self, written: str, tab: str) -> list[Any]:
        """The form as this browser left it, and the tab."""
        draft = read_draft(written, self.defaults)
        fields = [draft.fields.get(name, gr.skip()) for name in self.form.fields]
        preset = draft.preset if draft.preset in preset_names() else ""
        return [*fields, preset, *self.said(draft, self.checked(draft), insist=False), gr.Tabs(selected="runs" if tab == "runs" else "train")]

    def begin(self, written: str) -> list[Any]:
        """Check everything; put the run into the queue and go to it, or show what is wrong where it is."""
        draft = read_draft(written, self.defaults)
        checked = self.checked(draft)
        said = self.said(draft, checked, insist=True)
        if checked.faults:
            return [*said, "", gr.skip()]
        try:
            job = self.queue.add(checked.config, checked.config.saving.output_name)
            ensure_worker(self.state.state_dir)
        except Faults as faults:
            return [*self.said(draft, replace(checked, prepared=None, faults=faults.messages), insist=True), "", gr.skip()]
        return [*said, str(job), gr.Tabs(selected="runs")]


def preset_choices(nothing: str) -> list[tuple[str, str]]:
    """The presets of this way to train, each with its line on when to use it."""
    names = [name for name in preset_names() if name.startswith(f"{FAMILY}/")]
    return [(nothing, ""), *((f"{title(name)}: {load_preset(name, COMMAND).about}", name) for name in names)]


def title(name: str) -> str:
    """lora/sd15_character as a person says it."""
    return name.split("/")[-1].replace("sd15", "SD 1.5").replace("_", " ").capitalize().replace("Sd", "SD")
