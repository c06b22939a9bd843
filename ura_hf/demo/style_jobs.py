"""Looks of the tabs with long jobs: progress cards, notes, the table of metrics."""

from __future__ import annotations

JOBS_CSS = """
.job { border: 1px solid var(--border-color-primary); border-left: 6px solid var(--tone); border-radius: 10px;
  padding: .8rem 1.1rem .9rem; background: var(--block-background-fill); --tone: var(--body-text-color-subdued); }
.job:not(.is-note) { --tone: var(--color-accent); }
.job.good { --tone: var(--good); }
.job.bad { --tone: var(--bad); }
.job p { margin: 0; overflow-wrap: anywhere; }
.job .job-words { font-size: 1.08rem; line-height: 1.4; font-weight: 650; color: var(--body-text-color); }
.job .job-detail { font-size: .9rem; line-height: 1.45; margin-top: .2rem; color: var(--body-text-color-subdued);
  font-variant-numeric: tabular-nums; }
.job-bar { height: 10px; border-radius: 5px; margin: .6rem 0 .35rem; overflow: hidden; background: var(--border-color-primary); }
.job-bar i { display: block; height: 100%; border-radius: 5px; background: var(--color-accent); transition: width .4s linear; }
.gradio-container .hint { font-size: .88rem; line-height: 1.5; margin: .1rem 0 0; color: var(--body-text-color-subdued); }
.hint code { font-size: .82rem; white-space: nowrap; }

:is(#batch-gallery, .thumbnails) .grid-wrap { min-height: 0 !important; max-height: none; height: auto !important; }
#batch-table { --font-mono: var(--font); }

.histogram { margin: 2.6rem .6rem .2rem; }
.histogram-bars { --unit: 1%; position: relative; display: flex; align-items: stretch; gap: 1px; height: 170px;
  border-bottom: 1px solid var(--border-color-primary); container-type: inline-size; }
.histogram-bars > div { flex: 1; display: flex; flex-direction: column; justify-content: flex-end; }
.histogram-bars i { display: block; opacity: .75; }
.histogram-bars .is-good { background: var(--good); }
.histogram-bars .is-bad { background: var(--bad); }
.histogram-bars > b { --unit: 1cqw; position: absolute; top: -.1rem; bottom: 0; width: 0; border-left: 2px solid var(--mark); }
.histogram-bars > b.is-review { border-left: 2px dashed var(--unknown); }
.histogram-bars > b > span { position: absolute; transform: translate(-50%, -2.5rem); white-space: nowrap; font-size: .8rem;
  font-weight: 650; color: var(--body-text-color); }

.swatch { white-space: nowrap; }
.swatch i { display: inline-block; width: .7em; height: .7em; border-radius: 2px; margin-right: .35em; }

.metrics { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); gap: 0 2.5rem;
  align-items: start; }
.gradio-container .metrics table { width: 100%; border-collapse: collapse; margin: .3rem 0 .8rem; border: 0; font-size: .92rem;
  font-variant-numeric: tabular-nums; }
.gradio-container .metrics tr { border: 0; background: none; }
.gradio-container .metrics :is(th, td) { border: 0; border-bottom: 1px solid var(--border-color-primary); padding: .38rem .5rem;
  text-align: right; font-weight: 400; }
.gradio-container .metrics th:first-child { text-align: left; }
.gradio-container .metrics thead th { font-weight: 650; }
.metrics .swatch { white-space: normal; overflow-wrap: anywhere; }
.gradio-container .metrics b { font-weight: 700; color: var(--good); }

@media (max-width: 720px) {
  .gradio-container .metrics :is(th, td) { padding: .34rem .3rem; font-size: .84rem; }
  #batch-table :is(th, td, .body-cell) * { font-size: .72rem !important; word-break: normal !important;
    overflow-wrap: break-word !important; }
  #batch-table :is(th, td, .body-cell), #batch-table :is(th, td, .body-cell) > * { padding: .2rem .15rem !important; }
  :is(#batch-gallery, .thumbnails) .grid-container { grid-template-columns: repeat(2, minmax(0, 1fr)) !important; }
}
"""
