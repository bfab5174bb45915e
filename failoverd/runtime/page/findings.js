// The open findings, the worst first: what was found, what it means, how to mend it, and the page that has the rest.
import { h } from "./dom.js";
import { badge, code } from "./words.js";

export function findings({ check, trouble }) {
  const failed = trouble.check && h("p", { class: "warned" }, badge("bad", "could not be read"), ` ${trouble.check}`);
  if (check === null) return [failed || h("p", {}, "Not read yet.")];
  const weight = (finding) => (finding.maintenance ? 2 : finding.blocks ? 0 : 1);
  const found = [...check.findings].sort((one, other) => weight(one) - weight(other));
  return [
    failed,
    h(
      "p",
      {},
      badge(check.fit ? "good" : "bad", check.fit ? "fit to fail over" : "NOT fit to fail over"),
      found.length === 0 && check.unseen.length === 0 && " Nothing was found.",
    ),
    found.length > 0 && h("ul", { class: "findings" }, found.map(finding)),
    check.unseen.length > 0 && [
      h("h3", {}, "What could not be looked at"),
      h("ul", { class: "reasons" }, check.unseen.map((one) => h("li", {}, code(one.code), ` ${one.reason}`))),
    ],
  ];
}

function finding({ node, code: name, blocks, maintenance, reason, meaning, fix }) {
  const kind = maintenance ? "off" : blocks ? "bad" : "warn";
  return h(
    "li",
    { class: `finding ${kind}`, "data-key": `${node} ${name} ${reason}` },
    h("h3", {}, badge(kind, maintenance ? "in maintenance" : blocks ? "blocks" : "warns"), ` ${node} `, code(name)),
    h(
      "dl",
      {},
      h("dt", {}, "Found"),
      h("dd", {}, reason),
      h("dt", {}, "Means"),
      h("dd", {}, meaning),
      h("dt", {}, "Fix"),
      h("dd", {}, fix, " ", h("a", { href: `runbooks/codes/${encodeURIComponent(name)}` }, "Runbook", h("span", { class: "unseen" }, ` ${name}`))),
    ),
  );
}
