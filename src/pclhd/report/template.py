"""The report page's frame: its style and its outline, into which the sections are set."""

from __future__ import annotations

from string import Template

STYLE = """\
:root {
  color-scheme: light dark;
  --ink: #1d2025; --soft: #5b616b; --grid: #d9dce1; --page: #ffffff; --card: #f5f6f8; --link: #00568a;
  --right: #00704f; --wrong: #b93a00;
  --blue: #0072b2; --vermillion: #d55e00; --green: #00865f; --purple: #b0568c; --amber: #ad7400; --sky: #3795cf;
  --grey: #6b717a;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e6e8ec; --soft: #a4abb6; --grid: #383e47; --page: #14171b; --card: #1d2126; --link: #8cc9f2;
    --right: #45cf9f; --wrong: #ff9160;
    --blue: #4fb0ea; --vermillion: #fb8f4c; --green: #45cf9f; --purple: #e29bc8; --amber: #e5b04a; --sky: #9ad4f5;
    --grey: #a4abb6;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 2rem 1.25rem 3rem; max-width: 1100px; background: var(--page); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif;
}
h1 { margin: 0 0 .5rem; font-size: 1.75rem; line-height: 1.2; }
h2 { margin: 2.5rem 0 .75rem; padding-top: .75rem; border-top: 1px solid var(--grid); font-size: 1.25rem; }
h3 { margin: 1.25rem 0 .25rem; font-size: 1rem; }
p, figcaption, ul { max-width: 75ch; }
p { margin: .5rem 0; }
code, pre { font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; font-size: .875em; }
pre { margin: .5rem 0; padding: 1rem; overflow-x: auto; background: var(--card); }
code { overflow-wrap: anywhere; }
.lead { font-size: 1.1rem; }
.soft, figcaption, caption { color: var(--soft); font-size: .9rem; }
.absent { padding: .75rem 1rem; background: var(--card); }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin: 1rem 0 0; padding: 0; list-style: none; }
a { color: var(--link); }
.facts { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1.25rem 0 0; padding: 0; }
.facts div { flex: 1 1 9.5rem; padding: .75rem 1rem; background: var(--card); }
.facts dt { color: var(--soft); font-size: .85rem; }
.facts dd { margin: 0; font-size: 1.4rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.facts dd small { display: block; color: var(--soft); font-size: .8rem; font-weight: 400; }
.scroll { overflow-x: auto; padding-left: .8rem; margin-left: -.8rem; }
table { margin-left: -.8rem; border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .95rem; }
caption { padding: 0 0 .5rem .8rem; text-align: left; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid var(--grid); text-align: left; white-space: nowrap; }
th { font-weight: 600; vertical-align: top; }
tbody th { font-weight: 400; }
tbody th[scope="rowgroup"] { font-weight: 600; }
.number { text-align: right; }
table.facts-table { min-width: min(100%, 28rem); }
td.long { white-space: normal; overflow-wrap: anywhere; }
figure { margin: 1rem 0; }
figure svg { display: block; width: 100%; height: auto; }
figure img { display: block; max-width: 100%; height: auto; }
figure.narrow { max-width: 560px; }
figure.wide .scroll svg { min-width: 680px; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 0 2rem; }
details { margin: .75rem 0; }
summary { cursor: pointer; font-weight: 600; }
.example { display: grid; grid-template-columns: 88px minmax(0, 1fr); gap: 0 1.25rem; margin: 1.25rem 0; }
.example h3 { grid-column: 1 / -1; }
.example .lists { min-width: 0; }
.ranked { display: grid; grid-template-columns: repeat(10, minmax(52px, 84px)); gap: .4rem; margin: 0 0 .75rem;
  padding: 0; overflow-x: auto; list-style: none; max-width: none; }
.shot { margin: 0; font-size: .75rem; line-height: 1.3; text-align: center; color: var(--soft); }
.shot img, .shot .missing { display: block; box-sizing: content-box; width: calc(100% - 6px); aspect-ratio: 1 / 2;
  object-fit: contain;
  background: var(--card); border: 3px solid var(--soft); }
.shot .missing { background: var(--grid); color: var(--ink); overflow: hidden;
  font-size: .65rem; text-align: left; overflow-wrap: anywhere; }
.shot.right img, .shot.right .missing { border-color: var(--right); }
.shot.wrong img, .shot.wrong .missing { border-color: var(--wrong); border-style: dashed; }
.right b { color: var(--right); }
.wrong b { color: var(--wrong); }
footer { margin-top: 3rem; padding-top: .75rem; border-top: 1px solid var(--grid); }
@media print {
  :root {
    color-scheme: light;
    --ink: #000; --soft: #444; --grid: #d9dce1; --page: #fff; --card: #f5f6f8; --link: #000;
    --right: #00704f; --wrong: #b93a00;
    --blue: #0072b2; --vermillion: #d55e00; --green: #00865f; --purple: #b0568c; --amber: #ad7400; --sky: #3795cf;
    --grey: #6b717a;
  }
  body { padding: 0; max-width: none; font-size: 10pt; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  nav { display: none; }
  .facts dd { font-size: 1.1rem; }
  h2, h3, caption { break-after: avoid; }
  figure, .example, tr { break-inside: avoid; }
  /* Grids are torn apart between pages; floats inside a block are not. */
  .example { display: flow-root; }
  .example > figure { float: left; width: 68px; }
  .example .lists { margin-left: 84px; }
  .scroll, .ranked, pre { overflow: visible; }
  figure.wide .scroll svg { min-width: 0; }
  pre { white-space: pre-wrap; }
}
"""

PAGE = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="pclhd $version">
<title>$title</title>
<style>
$style</style>
</head>
<body>
<header>
<h1>$title</h1>
$headline
<nav aria-label="Sections"><ul>
$contents</ul></nav>
</header>
<main>
$sections</main>
<footer>
<p class="soft">$use</p>
</footer>
</body>
</html>
""")
"""Everything set into the page is HTML already: escape what comes from users before."""

RESPONSIBLE_USE = (
    "Responsible use: re-identification links images of people without their taking part. Use it only on data that was "
    "collected and is kept with a lawful basis, never as the sole ground for a decision about a person, and expect the "
    "error rates above, or worse ones on other cameras and other people. Share this page only as widely as the images "
    "on it may be shared."
)
