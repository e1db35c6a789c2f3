"""The page of a report: one HTML file that needs nothing else, light or dark as the reader's."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark; --paper:#ffffff; --page:#f4f6f8; --ink:#1d2733; --muted:#66727f;
  --line:#e3e8ed; --accent:#0b7a75; --tint:#e7f3f2; --warn:#b0671d; --warn-tint:#fbf2e8; }
@media (prefers-color-scheme: dark) { :root { --paper:#171d25; --page:#0f141a; --ink:#e3e9ef;
  --muted:#93a0ae; --line:#2c3642; --accent:#36b5a8; --tint:#16302f; --warn:#eca05c;
  --warn-tint:#2e2318; } }
* { box-sizing: border-box; }
body { margin:0; background:var(--page); color:var(--ink); line-height:1.5;
  font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif; }
main { max-width:1180px; margin:0 auto; padding:0 20px 64px; }
header { padding:44px 0 20px; }
h1 { font-size:29px; line-height:1.2; margin:0 0 6px; letter-spacing:-.015em; font-weight:650; }
h2 { font-size:19px; margin:44px 0 4px; letter-spacing:-.01em; font-weight:650; }
h3 { font-size:14px; margin:0 0 10px; font-weight:600; }
p.lead { color:var(--muted); margin:0 0 16px; max-width:76ch; }
.card { background:var(--paper); border:1px solid var(--line); border-radius:10px;
  padding:18px 20px; }
.facts { display:grid; grid-template-columns:repeat(auto-fit,minmax(240px,1fr)); gap:14px 32px;
  margin:0; }
.facts dt { color:var(--muted); font-size:12px; }
.facts dd { margin:0; overflow-wrap:anywhere; }
.tiles { display:grid; grid-template-columns:repeat(auto-fit,minmax(160px,1fr)); gap:12px;
  margin:16px 0; }
.tile .name { color:var(--muted); font-size:13px; }
.tile .value { font-size:31px; font-weight:650; letter-spacing:-.02em; line-height:1.25;
  font-variant-numeric:tabular-nums; }
.tile .unit { font-size:15px; font-weight:500; color:var(--muted); margin-left:4px; }
.tile ul { list-style:none; margin:6px 0 0; padding:0; color:var(--muted); font-size:12.5px;
  line-height:1.45; }
.two { display:grid; gap:12px; align-items:start; }
@media (min-width:900px) { .two { grid-template-columns:5fr 7fr; } }
.says { border-left:4px solid var(--accent); }
.not { border-left:4px solid var(--warn); }
.says ul, .not ul { margin:0; padding-left:18px; }
.says li, .not li { margin:0 0 7px; }
.figures { display:flex; flex-wrap:wrap; gap:12px; }
figure { margin:0; }
figure img { display:block; width:100%; height:auto; margin:0 auto; }
figcaption { color:var(--muted); font-size:13px; margin-top:8px; }
.scroll { overflow-x:auto; }
table { border-collapse:collapse; width:100%; font-variant-numeric:tabular-nums; }
th, td { padding:6px 12px 6px 0; border-bottom:1px solid var(--line); text-align:left;
  vertical-align:baseline; }
tr:last-child td { border-bottom:0; }
th { color:var(--muted); font-weight:500; font-size:13px; }
td.n, th.n { text-align:right; padding-right:0; padding-left:18px; white-space:nowrap; }
.sets td:nth-child(n+3), .sets th:nth-child(n+3) { text-align:right; padding-left:14px;
  padding-right:0; white-space:nowrap; }
td small { color:var(--muted); display:block; font-size:11.5px; }
td.best { color:var(--accent); font-weight:650; }
td.best small { font-weight:400; }
tr.group td { font-weight:600; padding-top:18px; }
.faces td, .faces th { padding:4px 6px 4px 0; vertical-align:top; }
.faces img { width:124px; height:124px; display:block; border-radius:5px; background:var(--line); }
.faces td.about { width:99%; min-width:210px; padding-left:8px; font-size:12.5px;
  color:var(--muted); line-height:1.45; overflow-wrap:anywhere; }
.faces td.about b { color:var(--ink); font-weight:600; display:block; }
.key { display:inline-block; width:9px; height:9px; border-radius:50%; margin:0 4px 0 10px; }
details { margin-top:10px; }
summary { cursor:pointer; color:var(--accent); }
pre { overflow:auto; max-height:420px; font-size:12px; line-height:1.45; background:var(--page);
  border:1px solid var(--line); border-radius:8px; padding:12px; }
code { font-size:.92em; }
footer { color:var(--muted); font-size:12.5px; margin-top:44px; }
@media print { body { background:none; } .card { break-inside:avoid; } details { display:none; } }
"""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>{{ style }}</style>
</head>
<body>
{%- macro plot(p, caption) %}
<figure class="card" style="flex:{{ p.width }} 1 {{ (0.7 * p.width)|round|int }}px">
<picture><source media="(prefers-color-scheme: dark)" srcset="{{ p.dark }}">
<img src="{{ p.light }}" alt="{{ p.alt }}" style="max-width:{{ p.width }}px"></picture>
<figcaption>{{ caption }}</figcaption>
</figure>
{%- endmacro %}
<main>
<header>
<h1>{{ title }}</h1>
<p class="lead">{{ lead }}</p>
<dl class="facts card">
{%- for name, value in facts %}
<div><dt>{{ name }}</dt><dd>{{ value }}</dd></div>
{%- endfor %}
</dl>
</header>

<section class="tiles" aria-label="Headline numbers">
{%- for tile in tiles %}
<div class="tile card"><div class="name">{{ tile.name }}</div>
<div class="value">{{ tile.value }}<span class="unit">{{ tile.unit }}</span></div>
<ul>{% for note in tile.notes %}<li>{{ note }}</li>{% endfor %}</ul></div>
{%- endfor %}
</section>

<section class="two">
<div class="card says"><h3>What this shows</h3>
<ul>{% for line in findings %}<li>{{ line }}</li>{% endfor %}</ul></div>
<div class="card not"><h3>What this does not show</h3>
<ul>{% for line in limits %}<li>{{ line }}</li>{% endfor %}</ul></div>
</section>

<h2>Held-out faces</h2>
<p class="lead">Taken at even distances from each test set, not chosen. Landmarks:
<span class="key" style="background:#3cdc6e"></span>labelled
<span class="key" style="background:#ff4b3c"></span>predicted by {{ last.name|lower }}.
The true expression is drawn on the predicted identity, pose and camera.</p>
<div class="card scroll"><table class="faces">
<tr>{% for column in columns %}<th>{{ column }}</th>{% endfor %}<th></th></tr>
{%- for example in examples %}
<tr>
{%- for picture in example.pictures %}
<td><img src="{{ picture }}" alt="{{ columns[loop.index0] }} of {{ example.title }}"></td>
{%- endfor %}
<td class="about"><b>{{ example.title }}</b>
{%- for note in example.notes %}{{ note }}<br>{% endfor %}</td></tr>
{%- endfor %}
</table></div>

{%- if plots.intensity %}
<h2>Expression and its strength</h2>
<p class="lead">Intensity is the mean distance in millimetres that the vertices of the face mask
move away from the neutral face. A model that understates what it sees lies below the dashed
line.</p>
<div class="figures">
{{ plot(plots.intensity, "Dashed: perfect. Solid: least squares over all sets.") }}
{{ plot(plots.bins, "Mean distance from the true expression; thirds of the true intensity.") }}
</div>
{%- endif %}

{%- if plots.confusion or plots.affect %}
<h2>Emotion</h2>
<p class="lead">Read by the emotion head of {{ last.name|lower }} from expression and shape
coefficients alone; the image does not reach it by another way.</p>
<div class="figures">
{%- if plots.confusion %}
{{ plot(plots.confusion, "Rows: label. Percent of each class; the diagonal is the recall.") }}
{%- endif %}
{%- if plots.affect %}
{{ plot(plots.affect, "Predictions clipped to [-1, 1], as they are scored.") }}
{%- endif %}
</div>
{%- endif %}

{%- if plots.losses %}
<h2>Training</h2>
<p class="lead">Weighted terms as they enter the total, largest first; means over logging intervals.
Phases weigh different terms, so totals compare only within a phase.</p>
<div class="figures">
{%- for run, p in plots.losses %}
{{ plot(p, run.name) }}
{%- endfor %}
</div>
{%- endif %}

<h2>All numbers</h2>
<p class="lead">{{ split }} split; small: 95 % interval, resampling subjects. Emotion scores leave
sets of graded intensity out.</p>
<div class="card scroll"><table>
<tr><th>score</th>{% for run in runs %}<th class="n">{{ run.name }}</th>{% endfor %}
<th class="n">knowing nothing</th><th class="n"></th></tr>
{%- for row in numbers %}
{%- if loop.changed(row.group) %}
<tr class="group"><td colspan="{{ runs|length + 3 }}">{{ row.group }}</td></tr>
{%- endif %}
<tr><td>{{ row.name }}</td>
{%- for cell in row.cells %}
<td class="n{{ ' best' if cell.best }}">{{ cell.text }}<small>{{ cell.interval }}</small></td>
{%- endfor %}
<td class="n">{{ row.reference }}</td><td class="n"><small>{{ row.best }}</small></td></tr>
{%- endfor %}
</table></div>

<h2>Set by set</h2>
<p class="lead">no expr.: error of a model that predicts no expression; 105 points: landmark error
as a share of the inter-ocular distance.</p>
<div class="card scroll"><table class="sets">
<tr>{% for title in source_titles %}<th>{{ title }}</th>{% endfor %}</tr>
{%- for row in source_rows %}
<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{%- endfor %}
</table></div>

{%- if recalls %}
<h2>Class by class</h2>
<div class="card scroll"><table>
<tr><th>class</th>{% for row in recalls %}<th class="n">{{ row[0] }}</th>{% endfor %}</tr>
<tr><td>examples</td>{% for row in recalls %}<td class="n">{{ row[1] }}</td>{% endfor %}</tr>
<tr><td>recall</td>{% for row in recalls %}<td class="n">{{ row[2] }}</td>{% endfor %}</tr>
</table></div>
{%- endif %}

<h2>Configs</h2>
{%- for run in runs %}
<details><summary>{{ run.name }}: {{ run.workdir }}</summary>
<pre>{{ run.config|tojson(indent=2) }}</pre></details>
{%- endfor %}
<footer>Written by <code>python -m fields_jax.report</code>, fields_jax {{ version }},
{{ date }}.</footer>
</main>
</body>
</html>
"""
