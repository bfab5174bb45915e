// The connection to this node's daemon: its events as they come, and the truth about whether they still do.
//
// A node that lost its power says nothing at all: no end of the connection ever comes. The daemon sends a status each
// second, so silence for SILENT_MS is an end too. Then the connection is made anew, again and again, and what is shown is
// marked as old until the next status is there.

export const SILENT_MS = 4000;
const RETRY_MS = 1500;
const ATTEMPT_MS = 6000;
const CHECK_MS = 10_000;
const HISTORY_MS = 30_000;

export class Live {
  // `changed` is called whenever something is new.
  constructor(changed) {
    this.changed = changed;
    this.status = null;
    this.check = null;
    this.history = null;
    this.trouble = {}; // by what could not be read: status, check, history
    this.lost = false;
    this._heard = null; // both clocks at the last status
    this._source = null;
    this._retry = null;
    this._opened = 0;
    this._asked = { check: 0, history: 0 };
    this._known = "";
  }

  start() {
    this._open();
    setInterval(() => this._look(), 500);
    addEventListener("online", () => this._open());
    addEventListener("visibilitychange", () => this._look());
    addEventListener("pagehide", () => this._close());
    addEventListener("pageshow", (event) => event.persisted && this._open());
  }

  // How old the status is. Either clock may have stood still (a laptop that slept) or been set: the larger one counts.
  get age() {
    if (this._heard === null) return Infinity;
    return Math.max(0, performance.now() - this._heard.steady, Date.now() - this._heard.wall);
  }

  get heardAt() {
    return this._heard && new Date(this._heard.wall);
  }

  get old() {
    return this.lost || this.age > SILENT_MS;
  }

  _open() {
    this._close();
    this._opened = performance.now();
    const source = new EventSource("v1/events");
    this._source = source;
    source.addEventListener("status", (event) => this._heardStatus(event.data));
    source.addEventListener("history", (event) => {
      this._take("history", event.data);
      this.changed();
    });
    source.addEventListener("error", () => source === this._source && this._lose());
  }

  _close() {
    clearTimeout(this._retry);
    this._source?.close();
    this._source = null;
  }

  _lose() {
    this._close();
    this._retry = setTimeout(() => this._open(), RETRY_MS);
    this.lost = true;
    this.changed();
  }

  _heardStatus(data) {
    if (!this._take("status", data)) return;
    const first = this.lost || this._heard === null;
    this._heard = { steady: performance.now(), wall: Date.now() };
    this.lost = false;
    const found = JSON.stringify([this.status.nodes.map((node) => [node.name, node.findings, node.fresh]), this.status.refused, this.status.store.reachable]);
    const changed = `${this.status.term} ${this.status.holder} ${this.status.lease.state}`;
    if (first || found !== this._known) this._ask("check");
    if (first || changed !== this._changed) this._ask("history");
    this._known = found;
    this._changed = changed;
    this.changed();
  }

  _take(what, data) {
    try {
      this[what] = JSON.parse(data);
      delete this.trouble[what];
    } catch (error) {
      this.trouble[what] = `what the node sent is not understood: ${error.message}`;
    }
    return !(what in this.trouble);
  }

  async _ask(what) {
    this._asked[what] = performance.now();
    try {
      const answer = await fetch(`v1/${what}`, { cache: "no-cache", signal: AbortSignal.timeout(ATTEMPT_MS) });
      if (answer.ok) this._take(what, await answer.text());
      else this.trouble[what] = `the node answered ${answer.status}`;
    } catch (error) {
      this.trouble[what] = `the node did not answer: ${error.message}`;
    }
    this.changed();
  }

  _look() {
    const now = performance.now();
    const silent = this.age > SILENT_MS && now - this._opened > (this.lost ? ATTEMPT_MS : SILENT_MS);
    if (this._source !== null && silent) this._lose();
    if (!this.old) {
      if (now - this._asked.check > CHECK_MS) this._ask("check");
      if (now - this._asked.history > HISTORY_MS) this._ask("history");
    }
    this.changed();
  }
}
