"""Looks of the page, light and dark: theme, style sheet and a script for screen readers. Nothing asks another host."""

from __future__ import annotations

import gradio as gr


def theme() -> gr.themes.Base:
    """The page's theme: quiet greys with a teal accent, in the reader's own fonts."""
    return gr.themes.Default(
        primary_hue="teal",
        neutral_hue="slate",
        font=["ui-sans-serif", "system-ui", "sans-serif"],
        font_mono=["ui-monospace", "Consolas", "monospace"],
    ).set(
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_400",
        block_label_text_color="*neutral_600",
        block_title_text_color="*neutral_700",
    )


HEAD = """<script>
new MutationObserver(() => document.querySelectorAll('#heatmap img').forEach(image => {
  const text = image.classList.contains('fixed')
    ? 'The same image with anomalous places glowing, outlined and numbered as in the table' : 'The image as it came';
  if (image.alt !== text) image.alt = text;
})).observe(document.documentElement, {childList: true, subtree: true});
</script>"""
"""Alternative texts of the image slider, which Gradio leaves empty."""

CSS = """
.gradio-container { --bad: #b42318; --good: #0f766e; --unknown: #93610a; --mark: #101828;
  width: 100%; max-width: 1240px !important; margin: 0 auto; }
.dark .gradio-container, .gradio-container.dark { --bad: #f97066; --good: #2dd4bf; --unknown: #fdb022; --mark: #f9fafb; }
.gradio-container .html-container { padding: 0; }
.gradio-container :focus-visible { outline: 2px solid var(--color-accent); outline-offset: 2px; }
.quiet { color: var(--body-text-color-subdued); font-size: .92rem; margin: 0; }

header h1 { font-size: 1.6rem; line-height: 1.25; font-weight: 700; margin: .8rem 0 .3rem; text-wrap: balance; }
header p { font-size: 1rem; color: var(--body-text-color-subdued); margin: 0 0 .4rem; }
.gradio-container h2 { font-size: 1.2rem; font-weight: 650; margin: 1.6rem 0 .35rem; }

.verdict { border: 1px solid var(--border-color-primary); border-left: 6px solid var(--tone); border-radius: 10px;
  padding: .8rem 1.2rem 1rem; background: var(--block-background-fill); --tone: var(--body-text-color-subdued); }
.verdict.is-anomalous { --tone: var(--bad); }
.verdict.is-normal { --tone: var(--good); }
.verdict.is-error { --tone: var(--unknown); }
.verdict.is-error .verdict-sentence { overflow-wrap: anywhere; }
.verdict.is-unknown, .verdict.is-review { --tone: var(--unknown); }
#verdict .pending:has(.is-known) { opacity: 1; }  /* while the photo is checked again */
#verdict:has(.is-known) [data-testid="status-tracker"] { visibility: hidden; }
.verdict p { margin: 0; color: var(--body-text-color); }
.verdict .verdict-word { font-size: 1.5rem; line-height: 1.35; font-weight: 700; color: var(--tone); }
.verdict .verdict-word span { margin-right: .5rem; color: inherit; }
.verdict:is(.is-empty, .is-error) .verdict-word { font-size: 1.2rem; }
.verdict .verdict-detail { color: var(--body-text-color-subdued); font-size: .9rem; }
.verdict .verdict-score { font-variant-numeric: tabular-nums; }

.scale { margin: .9rem .6rem .4rem; }
.scale-bar { position: relative; height: 10px; border-radius: 5px; border: 1px solid var(--border-color-primary);
  background: linear-gradient(to right, color-mix(in srgb, var(--good) 26%, transparent) var(--from),
  color-mix(in srgb, var(--unknown) 45%, transparent) var(--from) var(--at),
  color-mix(in srgb, var(--bad) 26%, transparent) var(--at)); }
.scale-bar i { position: absolute; top: 50%; transform: translate(-50%, -50%); }
.scale-threshold { width: 2px; height: 22px; background: var(--mark); }
.scale-score { width: 18px; height: 18px; border-radius: 50%; background: var(--tone);
  border: 3px solid var(--block-background-fill); box-shadow: 0 0 0 1px var(--tone); }
.scale-ticks, .legend-ticks { position: relative; height: 1.3rem; margin-top: .45rem; font-size: .8rem;
  color: var(--body-text-color-subdued); }
.scale-ticks span { position: absolute; transform: translateX(-50%); white-space: nowrap; }

.caption h3 { font-size: 1rem; font-weight: 650; margin: .5rem 0 .1rem; }
.caption p { margin: 0 0 .4rem; color: var(--body-text-color-subdued); font-size: .9rem; line-height: 1.4; }
.legend { min-height: 1.6rem; }
.legend-bar { height: 10px; border-radius: 5px; overflow: hidden; border: 1px solid var(--border-color-primary);
  background: repeating-conic-gradient(#d0d5dd 0 25%, #f2f4f7 0 50%) 0 0 / 8px 8px; }
.legend-bar i { display: block; height: 100%; }
.legend-ticks { margin-top: .15rem; font-size: .76rem; }
.legend-ticks span { position: absolute; white-space: nowrap; }
.legend-ticks .at-middle { transform: translateX(-50%); }
.legend-ticks .at-end { transform: translateX(-100%); }
.caption .legend-note { font-size: .8rem; margin: 0; }

.figures { display: grid; gap: 1.1rem 1.2rem; grid-template-columns: repeat(var(--columns), minmax(0, 1fr));
  align-items: start; }
.figures figure { margin: 0; }
.gradio-container .figures img { display: block; width: 100%; max-height: 420px; object-fit: fill; margin: 0;
  border-radius: 8px; border: 1px solid var(--border-color-primary); }

.guide b { color: var(--body-text-color); }
.fold { margin-top: 1rem; }
.fold summary { cursor: pointer; padding: .35rem 0; font-weight: 600; }

.gradio-container table.regions { width: 100%; border-collapse: collapse; margin: .2rem 0 0; font-size: .88rem;
  font-variant-numeric: tabular-nums; }
.regions caption { text-align: left; font-weight: 650; font-size: .95rem; padding-bottom: .35rem; color: var(--body-text-color); }
.gradio-container .regions :is(th, td) { border: 0; border-bottom: 1px solid var(--border-color-primary); padding: .35rem .5rem;
  text-align: right; white-space: nowrap; }
.gradio-container table.regions, .gradio-container .regions tr { border: 0; background: none; }
.gradio-container .regions th:first-child { text-align: left; }
.regions thead th { font-weight: 600; color: var(--body-text-color-subdued); }
.regions small { font-weight: 400; margin-left: .3em; }

.picker .wrap { background: var(--input-background-fill); }
#card h2 { font-size: 1.02rem; margin: 1rem 0 .2rem; }
#file, #ask, #teach-ask { display: none !important; }
#heatmap { border-radius: 10px; }
body { overflow-anchor: none; }  /* what is clicked stays under the pointer when its result comes */
#examples, #examples .grid-wrap { height: auto !important; min-height: 0 !important; }
#examples .grid-wrap { padding-top: 1.7rem; }
#examples .grid-container { grid-template-columns: repeat(4, minmax(0, 1fr)); height: auto; }
#examples .caption-label { font-size: .68rem; padding: 0 .25rem; }
#findings, #controls { gap: .8rem; }

@media (max-width: 720px) {
  .tab-container button { padding: 0 .4rem !important; font-size: .82rem !important; }
  header h1 { font-size: 1.35rem; }
  .figures { --columns: 2 !important; gap: 1rem .8rem; }
  .figures .wide { grid-column: 1 / -1; }
  .regions small { display: none; }
  table.regions :is(th, td) { padding: .35rem .25rem !important; font-size: .82rem; }
  #detect { flex-direction: column; flex-wrap: nowrap; }
  #detect > .column { display: contents; }
  #image { order: 1; }
  #examples { order: 2; }
  #verdict { order: 3; }
  #findings { order: 4; }
  #controls { order: 5; }
}
"""
