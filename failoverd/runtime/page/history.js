// The last changes of primary, the newest first and open: who and why, how long clients were without service, and each
// phase with where in time it lay. Between them, in a line each, what operators asked for that changed no primary.
import { h } from "./dom.js";
import { badge, code, coded, distance, duration, moment, rule, seconds } from "./words.js";

const SHOWN = 10;
const KINDS = { switchover: "Switchover", failover: "Failover", forced: "Forced failover", adoption: "Adoption" };
const OUTCOMES = { done: "good", failed: "bad", refused: "warn", "under-way": "warn" };

export function history({ history: document, trouble, now }) {
  const failed = trouble.history && h("p", { class: "warned" }, badge("bad", "could not be read"), ` ${trouble.history}`);
  if (document === null) return [failed || h("p", {}, "Not read yet.")];
  const requests = new Set(document.changes.map((one) => one.request));
  // A request that came to a change is told by the change.
  const events = document.events.filter((event) => event.id === "" || !requests.has(event.id));
  const newest = document.changes[0];
  const all = [
    ...document.changes.map((one) => [one.began, h("li", { "data-key": one.id }, whole(one, one === newest, now))]),
    ...events.map((one) => [one.time, h("li", { class: "event", "data-key": `${one.time} ${one.text}` }, line(one, now))]),
  ].sort(([one], [other]) => (one < other ? 1 : one > other ? -1 : 0));
  return [
    failed,
    all.length === 0 && h("p", {}, "None is on record."),
    h("ol", { class: "changes" }, all.slice(0, SHOWN).map(([, element]) => element)),
    all.length > SHOWN && h("p", { class: "small" }, `${all.length - SHOWN} older ones: failoverctl history`),
    document.unseen.length > 0 && [
      h("h3", {}, "What could not be looked at"),
      h("ul", { class: "reasons" }, document.unseen.map((reason) => h("li", {}, code(reason.code), ` ${reason.reason}`))),
    ],
  ];
}

// "Failover mail1 → mail2"
export function change({ kind, previous, holder }) {
  const from = previous && previous !== holder ? `${previous} → ${holder ?? "nobody"}` : (holder ?? "nobody");
  return `${KINDS[kind] ?? kind} ${from}`;
}

function line({ time, text, outcome, by, result, code: reason }, now) {
  return [
    badge(OUTCOMES[outcome] ?? "unknown", outcome),
    h("span", { class: "what" }, text),
    h("span", { class: "small" }, moment(time), ` · ${distance(time, now)}`),
    by && h("span", {}, `by ${by}`),
    (reason || result) && h("span", { class: "result" }, reason && [code(reason), " "], result),
  ];
}

function whole(one, open, now) {
  const { term, by, reason, rule: id, began, ended, outcome, phases } = one;
  return h(
    "details",
    { open, class: "change" },
    h(
      "summary",
      {},
      badge(OUTCOMES[outcome] ?? "unknown", outcome),
      h("span", { class: "what" }, change(one)),
      h("span", { class: "small" }, moment(began), ` · ${distance(began, now)}`),
      h("span", { class: "outage" }, outage(one)),
    ),
    h(
      "dl",
      { class: "facts" },
      fact("Term", String(term)),
      id && fact("Rule", rule(id)),
      by && fact("By", by),
      reason && fact("Why", coded(reason)),
      fact("Took", ended ? seconds(new Date(ended) - new Date(began)) : outcome === "under-way" ? "not ended yet" : "end not known"),
    ),
    phases.length > 0 ? timeline(phases) : h("p", { class: "small" }, "No phase is on record."),
  );
}

function outage({ kind, outage_ms, outcome }) {
  if (kind === "adoption") return "nothing moved";
  if (outage_ms !== null) return `outage ${seconds(outage_ms)}`;
  return outcome === "under-way" ? "outage not over" : "outage not known";
}

function fact(name, ...words) {
  return h("div", {}, h("dt", {}, name), h("dd", {}, ...words));
}

function timeline(phases) {
  const last = Math.max(1, ...phases.map((phase) => phase.ended_ms ?? phase.began_ms));
  return h(
    "table",
    { role: "table", class: "phases" },
    h("caption", { class: "unseen" }, "Phases, in time after the beginning"),
    h(
      "thead",
      { role: "rowgroup" },
      h("tr", { role: "row" }, ["Phase", "Node", "At", "Took", "Outcome"].map((title) => h("th", { scope: "col", role: "columnheader" }, title)), h("td", { "aria-hidden": "true", class: "bar" })),
    ),
    h("tbody", { role: "rowgroup" }, phases.map((phase) => row(phase, last))),
  );
}

const ENDS = { succeeded: "good", done: "good", ok: "good", failed: "bad", unknown: "unknown", refused: "bad" };

function row({ name, node, began_ms, ended_ms, outcome, code: reason }, last) {
  const kind = ENDS[outcome] ?? "off";
  const begin = (100 * began_ms) / last;
  const width = Math.max(0.8, (100 * ((ended_ms ?? last) - began_ms)) / last);
  const cell = (label, ...words) => h("td", { role: "cell", "data-label": label }, ...words);
  return h(
    "tr",
    { role: "row" },
    h("th", { scope: "row", role: "rowheader" }, name),
    cell("Node", node),
    cell("At", `${(began_ms / 1000).toFixed(3)} s`),
    cell("Took", ended_ms === null ? "–" : duration(ended_ms - began_ms)),
    cell("Outcome", outcome ? badge(kind, outcome) : "–", reason && [" ", code(reason)]),
    h(
      "td",
      { "aria-hidden": "true", class: `bar ${kind}` },
      h("svg", { viewBox: "0 0 100 8", preserveAspectRatio: "none" }, h("rect", { x: Math.min(begin, 99.2), y: 0, width, height: 8, rx: 0.4 })),
    ),
  );
}
