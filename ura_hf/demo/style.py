"""Looks of the page, light and dark: theme and style sheet. Every font is the reader's own, so no other host is asked."""

from __future__ import annotations

import gradio as gr


def theme() -> gr.themes.Base:
    """The page's theme: quiet greys with a teal accent."""
    return gr.themes.Default(
        primary_hue="teal",
        neutral_hue="slate",
        font=["ui-sans-serif", "system-ui", "sans-serif"],
        font_mono=["ui-monospace", "Consolas", "monospace"],
    )


CSS = """
.gradio-container { --bad: #b42318; --good: #067647; --mark: #101828; max-width: 1200px !important; margin: 0 auto; }
.dark .gradio-container, .gradio-container.dark { --bad: #f97066; --good: #47cd89; --mark: #f9fafb; }

header h1 { font-size: 1.7rem; line-height: 1.25; font-weight: 700; margin: 1.2rem 0 .4rem; text-wrap: balance; }
header p { font-size: 1.05rem; color: var(--body-text-color-subdued); max-width: 46rem; margin: 0 0 .8rem; }
#details h2 { font-size: 1.25rem; font-weight: 650; margin: 1.6rem 0 .2rem; }

.verdict { border: 1px solid var(--border-color-primary); border-left-width: 6px; border-radius: 10px;
  padding: 1rem 1.25rem 1.1rem; background: var(--block-background-fill); --tone: var(--body-text-color-subdued);
  border-left-color: var(--tone); }
.verdict.is-anomalous { --tone: var(--bad); }
.verdict.is-normal { --tone: var(--good); }
.verdict p { margin: 0; color: var(--body-text-color); }
.verdict .verdict-word { font-size: 1.6rem; line-height: 1.3; font-weight: 700; color: var(--tone); }
.verdict .verdict-word span { margin-right: .5rem; color: inherit; }
.verdict.is-empty .verdict-word { font-size: 1.2rem; }
.verdict .verdict-detail { color: var(--body-text-color-subdued); font-size: .92rem; }
.verdict .verdict-score { font-variant-numeric: tabular-nums; }

.scale { margin: 1rem .5rem .5rem; }
.scale-bar { position: relative; height: 10px; border-radius: 5px; border: 1px solid var(--border-color-primary);
  background: linear-gradient(to right, color-mix(in srgb, var(--good) 28%, transparent) 50%,
  color-mix(in srgb, var(--bad) 28%, transparent) 50%); }
.scale-bar i { position: absolute; top: 50%; transform: translate(-50%, -50%); }
.scale-threshold { width: 2px; height: 22px; background: var(--mark); }
.scale-score { width: 18px; height: 18px; border-radius: 50%; background: var(--tone);
  border: 3px solid var(--block-background-fill); box-shadow: 0 0 0 1px var(--tone); }
.scale-ticks, .legend-ticks { position: relative; height: 1.3rem; margin-top: .45rem; font-size: .82rem;
  color: var(--body-text-color-subdued); }
.scale-ticks span { position: absolute; transform: translateX(-50%); white-space: nowrap; }

.caption h3 { font-size: 1.02rem; font-weight: 650; margin: .6rem 0 .1rem; }
.caption p { margin: 0 0 .5rem; color: var(--body-text-color-subdued); }
.legend { min-height: 2.1rem; }
.legend-bar { height: 10px; border-radius: 5px; overflow: hidden; border: 1px solid var(--border-color-primary);
  background: repeating-conic-gradient(#d0d5dd 0 25%, #f2f4f7 0 50%) 0 0 / 8px 8px; }
.legend-bar i { display: block; height: 100%; }
.legend-ticks { margin-top: .15rem; }
.legend-ticks span { position: absolute; white-space: nowrap; }
.legend-ticks .at-middle { transform: translateX(-50%); }
.legend-ticks .at-end { transform: translateX(-100%); }
.caption .legend-note { font-size: .82rem; margin: 0; }
.picture img { width: 100%; object-fit: contain; }
"""
