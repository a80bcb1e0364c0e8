"""How the page looks: one theme and one stylesheet."""

from pathlib import Path
from typing import Any

import gradio as gr

CSS = Path(__file__).with_name("style.css")
ACCENT = gr.themes.Color("#fbe9e4", "#f7d5cc", "#efb3a4", "#e58b75", "#db6348", "#cf3f24", "#b8371f", "#99301d", "#7a281a", "#3a221c", "#241511", name="accent")
FONTS = ["system-ui", "DejaVu Sans", "Noto Sans CJK SC", "sans-serif"]


def look() -> dict[str, Any]:
    """The arguments of launch() and mount_gradio_app() that make the page look as it should."""
    return {"theme": theme(), "css_paths": [CSS], "footer_links": [], "run_history": False, "ssr_mode": False}


def theme() -> gr.themes.Base:
    """Quiet grounds, one accent, one radius."""
    made = gr.themes.Base(primary_hue=ACCENT, neutral_hue="zinc", radius_size="md", text_size="md", font=FONTS,
                          font_mono=["ui-monospace", "DejaVu Sans Mono", "monospace"])
    return made.set(
        body_background_fill="#f7f7f8", body_background_fill_dark="#141518", background_fill_primary="#ffffff", background_fill_primary_dark="#1d1f24",
        block_background_fill="transparent", block_background_fill_dark="transparent", block_border_width="0px", block_padding="0px", block_shadow="none",
        border_color_primary="#e3e4e8", border_color_primary_dark="#2f323a", body_text_color="#1c1d22", body_text_color_dark="#eceef2",
        body_text_color_subdued="#5f636e", body_text_color_subdued_dark="#9aa0ad", color_accent_soft="#fbe9e4", color_accent_soft_dark="#3a221c",
        input_background_fill="#f7f7f8", input_background_fill_dark="#141518", input_border_width="1px", input_border_color="#e3e4e8", input_border_color_dark="#2f323a",
        input_shadow="none", input_shadow_focus="none", button_primary_background_fill="#cf3f24", button_primary_background_fill_hover="#b8371f",
        button_primary_background_fill_dark="#cf3f24", button_primary_background_fill_hover_dark="#b8371f", button_primary_text_color="#ffffff",
        button_secondary_background_fill="#ffffff", button_secondary_background_fill_dark="#1d1f24", button_secondary_border_color="#e3e4e8",
        button_secondary_border_color_dark="#2f323a", button_border_width="1px",
        block_label_text_weight="600", block_title_text_weight="600", block_title_text_size="12.5px", block_info_text_size="11.5px", layout_gap="12px", form_gap_width="0px")
