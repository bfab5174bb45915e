// Who serves, who receives from whom, and who only votes: a list within a list, drawn as a tree from the virtual IP on.
//
//     virtual IP ─▶ mail1 primary ─┬▶ mail2 replica
//                                  └▶ mail3 replica        arbiter · store
import { holder } from "./answers.js";
import { h } from "./dom.js";
import { badge, duration } from "./words.js";

export function topology(view) {
  const { status } = view;
  const data = status.nodes.filter((node) => node.kind === "data");
  // Where it was last heard of counts only where nobody has it now: a dead primary said so until it died.
  const having = data.filter((node) => node.vip?.present);
  const addressed = having.some((node) => node.fresh) ? having.filter((node) => node.fresh) : having;
  const sources = new Map(data.map((node) => [node.name, sourceOf(node, data)]));
  const placed = new Set();

  const branch = (node) => {
    placed.add(node.name);
    const below = data.filter((one) => sources.get(one.name) === node.name && !placed.has(one.name));
    return h(
      "li",
      { "data-key": node.name },
      box(view, node, sources.get(node.name)),
      below.length > 0 && h("ul", { "aria-label": `receive from ${node.name}` }, below.map(branch)),
    );
  };
  const served = addressed.filter((node) => !placed.has(node.name)).map(branch);
  // Whoever else begins a chain; then, where databases receive from each other in a ring, whoever is left of it.
  const apart = data.filter((node) => !placed.has(node.name) && !sources.get(node.name)).map(branch);
  for (const node of data) if (!placed.has(node.name)) apart.push(branch(node));

  return h(
    "div",
    { class: "topology" },
    h(
      "ul",
      { class: "tree" },
      h(
        "li",
        { "data-key": "the virtual IP" },
        h("div", { class: `box vip ${vipKind(addressed)}` }, h("strong", {}, "Virtual IP"), vip(addressed)),
        served.length > 0 && h("ul", { "aria-label": "has the virtual IP" }, served),
      ),
      apart,
    ),
    h(
      "ul",
      { class: "tree apart", "aria-label": "Votes" },
      status.nodes.filter((node) => node.kind !== "data").map((node) => h("li", { "data-key": node.name }, arbiter(view, node))),
    ),
  );
}

// The name of the node that a database receives from; its address where it is no member's; none for who receives nothing.
function sourceOf(node, data) {
  const source = node.database?.replication?.source;
  return source ? (data.find((one) => one.address === source)?.name ?? "") : "";
}

const vipKind = (addressed) => (addressed.length === 1 ? (addressed[0].fresh ? "good" : "unknown") : "bad");

function vip(addressed) {
  const names = addressed.map((node) => (node.fresh ? node.name : `${node.name}, as last heard`));
  if (names.length === 0) return badge("bad", "on no node");
  if (names.length > 1) return badge("bad", `on ${names.join(" and ")}`);
  return badge(addressed[0].fresh ? "good" : "unknown", `on ${names[0]}`);
}

function box(view, node, source) {
  const { status, old, age } = view;
  const leads = node.name === status.holder;
  return h(
    "div",
    // A dead node was primary to the last that it said: only one is drawn as the one that leads.
    { class: `box node ${node.fresh ? "" : "stale"} ${leads || (node.fresh && node.actual === "primary") ? "leads" : ""}` },
    h("strong", {}, node.name),
    role(node),
    leads && h("span", { class: "small" }, old ? "lease not known now" : holder(status, age)[2]),
    serving(node, leads),
    node.database?.replication && receives(node, source),
    node.maintenance && badge("warn", "maintenance"),
    !node.fresh && badge("bad", "silent"),
  );
}

// A replica that serves nobody is as it should be, and says nothing.
function serving(node, leads) {
  if (!node.fresh || node.serving === null) return null;
  if (node.serving === leads) return leads && h("span", { class: "small" }, "serves clients");
  return badge("bad", node.serving ? "serves clients" : "its gate is closed");
}

export function role(node) {
  const known = node.actual !== null && node.fresh;
  const actual = node.actual === null ? "not known" : known ? node.actual : `was ${node.actual}`;
  const kind = !known ? "unknown" : node.actual === "fenced" ? "warn" : node.actual === "primary" ? "good" : "off";
  if (node.desired === null || node.desired === node.actual) return badge(kind, actual);
  return [badge(known ? "warn" : "unknown", actual), " ", h("span", { class: "small" }, `should be ${node.desired}`)];
}

function receives({ database: { replication }, fresh }, source) {
  const running = replication.receiver === "running" && replication.applier === "running";
  const lag = replication.lag_ms === null ? "lag not known" : `${duration(replication.lag_ms)} behind`;
  const words = running ? lag : `${replication.receiver === "running" ? "applier" : "receiver"} ${replication.receiver === "running" ? replication.applier : replication.receiver}`;
  return h(
    "span",
    { class: "small" },
    `receives from ${source || replication.source} `,
    badge(!fresh ? "unknown" : running ? "good" : "bad", words),
  );
}

function arbiter({ status }, node) {
  const keeps = status.store.node === node.name;
  return h(
    "div",
    { class: `box node ${node.fresh ? "" : "stale"}` },
    h("strong", {}, node.name),
    badge("off", "arbiter"),
    keeps && h("span", { class: "small" }, "store ", badge(status.store.reachable ? "good" : "bad", status.store.reachable ? "reachable" : "unreachable")),
    node.maintenance && badge("warn", "maintenance"),
    !node.fresh && badge("bad", "silent"),
  );
}
