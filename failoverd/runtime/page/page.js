// The status page: whenever something is new, and twice a second for what time alone moves, everything is drawn from the
// newest documents and put into the page where it differs. Read-only: nothing here can change anything on a node.
import { said, title } from "./answers.js";
import { fill } from "./dom.js";
import { findings } from "./findings.js";
import { history } from "./history.js";
import { Live } from "./live.js";
import { nodes } from "./nodes.js";
import { foot, now, oldNote, seen } from "./summary.js";
import { topology } from "./topology.js";
import { badge, clock, duration } from "./words.js";

const at = (id) => document.getElementById(id);
const SETTLED_MS = 1000;
let announced = null; // what was said last
let heard = null; // what would be said, and since when
let heardSince = 0;
let software = null;

function draw() {
  const { status, check, trouble } = live;
  const view = {
    status,
    check,
    trouble,
    history: live.history,
    old: live.old,
    age: live.age,
    heardAt: live.heardAt,
    now: Date.now(),
    outdated: software !== null && status !== null && status.software !== software,
  };
  connection(view);
  if (status === null) return;
  software ??= status.software;
  document.title = title(view);
  at("title").textContent = status.cluster;
  document.body.classList.toggle("old", view.old);
  fill(at("seen"), seen(view));
  fill(at("now"), now(view));
  fill(at("topology"), topology(view));
  fill(at("nodes"), nodes(view));
  fill(at("findings"), findings(view));
  fill(at("history"), history(view));
  fill(at("foot"), foot(view));
}

function connection(view) {
  const place = at("connection");
  const live_ = view.status !== null && !view.old;
  const words = live_ ? "Live" : view.status === null && !live.lost ? "Connecting …" : "Connection lost";
  const kind = live_ ? "good" : words === "Connection lost" ? "bad" : "off";
  place.className = "connection";
  fill(place, badge(kind, words), !live_ && view.status ? ` ${clock(view.heardAt)}, ${duration(view.age)} ago` : null);
  at("old-note").hidden = words !== "Connection lost";
  if (!at("old-note").hidden) fill(at("old-note"), oldNote(view));
  announce(view, words);
}

// Only what changes whether mail is served, by whom, and whether anybody could take over is spoken; and that this page no
// longer knows. It is said once it has settled: a failover passes through states that are over before they are read out.
function announce(view, connected) {
  if (view.status === null) return;
  const words = connected === "Live" ? said(view.status) : "Connection lost: what is shown is old.";
  announced ??= words;
  if (words !== heard) [heard, heardSince] = [words, performance.now()];
  if (words === announced || performance.now() - heardSince < SETTLED_MS) return;
  at("announced").textContent = words;
  announced = words;
}

const live = new Live(draw);
live.start();
