// Follows a headrace feed in a page, with an EventSource that comes back from whatever ends it.
//
//   import { follow } from "/js/headrace.js";
//
//   const feed = follow("/tickets/events", { user: "7", cursor: "…" });
//   feed.addEventListener("message", (e) => show(e.data)); // messages without a type
//   feed.addEventListener("created", (e) => add(JSON.parse(e.data))); // one listener for each type
//   feed.addEventListener("gap", () => reload());
//   feed.addEventListener("statechange", () => label(feed.state));
//
// All tabs of an origin that follow the same URL for the same user share one connection. One of
// them leads: it holds the connection, and tells the others over a channel what comes, each event
// with the position behind it. A tab that does not lead knows at every moment from which position
// it would go on, so it can take the lead when the leader closes, crashes or freezes.
//
// A tab that joins opens a connection of its own first, and gets what any EventSource would get: the
// hello, the snapshot or the checkpoint, and what came since its cursor. As soon as it has reached a
// position that the leader has reached too, it closes that connection and listens to the leader
// from there. The same happens when a tab is not where a new leader begins. Tabs join one after the
// other, so that there are two connections at most, and one when all have joined.
//
// The words below: a tab *leads*, or it is *in step* with the leader, or it *joins*.

const second = 1000;

// quiet is after how many heartbeats without one a stream is taken for dead. It is looked at twice in
// each heartbeat, so a stall is noticed before two have passed.
const quiet = 1.5;

// patience is for a browser that comes back by itself: it waits for as long as the server has asked
// it to, which it does not tell.
const patience = 120 * second;

// longest is how many events a tab that joins remembers of the leader.
const longest = 1000;

// final says which statuses do not pass: the end of the feed, and refusals.
const final = (status) => status === 204 || (status >= 400 && status < 500 && ![408, 425, 429].includes(status));

class Feed extends EventTarget {
  #url;
  #credentials;
  #beat; // milliseconds between heartbeats
  #shared;
  #remember;
  #key; // names the locks, the channel, and the cursor in the session's storage

  #state = "connecting";
  #status = 0;
  #cursor;
  // whole says that the cursor is exactly where this tab is. A message may be mapped to several
  // events, of which only the last one has its id: between them it is not.
  #whole = true;
  #wider; // types were added, and nobody has been told yet
  #types = new Set(["message", "checkpoint", "snapshot", "gap", "close", "heartbeat"]);

  // The connection, of a tab that leads or joins.
  #source;
  #sourceTypes = 0; // how many types the source listens for
  #begun = 0; // when its first event came
  #heard = 0; // when the last one came
  #beats = false; // heartbeats are known to come
  #failures = 0;
  #again; // the next attempt,
  #due = 0; // when it is due,
  #timer; // and what makes it then
  #probe; // aborts the request that asks why there is no stream

  // The other tabs.
  #run; // aborted when the page goes away, and made anew when it comes back
  #clock;
  #channel;
  #leads = false;
  #inStep = false;
  #joining = false;
  #release; // ends the lead
  #joined; // ends the turn to join
  #term = 0; // of the leader that is listened to; later leaders have higher ones
  #count = 0; // of its words so far
  #told = 0; // when its stream last brought something
  #asked = false; // and it has not answered yet
  #log = []; // its last words, while this tab joins

  constructor(url, { cursor, user = "", credentials = false, heartbeat = 10, share = true, remember = false } = {}) {
    super();
    this.#url = new URL(url, document.baseURI);
    heartbeat = Math.min(60, Math.max(5, +heartbeat || 10)); // as the server does
    this.#url.searchParams.set("heartbeat", heartbeat);
    this.#credentials = credentials;
    this.#beat = heartbeat * second;
    this.#key = "headrace " + JSON.stringify([this.#url.href, credentials, `${user}`]);
    this.#shared = share && navigator.locks && self.BroadcastChannel;
    this.#remember = remember;
    this.#cursor = cursor || this.#stored() || "";
    this.#listen(addEventListener);
    this.#start();
  }

  get state() {
    return this.#state;
  }

  get status() {
    return this.#status;
  }

  get cursor() {
    return this.#cursor;
  }

  close() {
    this.#listen(removeEventListener);
    this.#stored("");
    this.#stop();
    this.#become("ended");
  }

  addEventListener(type, ...rest) {
    super.addEventListener(type, ...rest);
    if (type !== "statechange" && !this.#types.has(type)) {
      this.#types.add(type);
      // Behind the other listeners that the caller is about to add.
      this.#wider ??= queueMicrotask(() => {
        this.#wider = undefined;
        this.#widen();
        this.#ask();
      }) ?? true;
    }
  }

  // stored returns the cursor that the page's last visit has left. It keeps another one instead if
  // there is an argument.
  #stored(cursor) {
    if (!this.#remember) return;
    try {
      if (cursor === undefined) return sessionStorage.getItem(this.#key);
      sessionStorage.setItem(this.#key, cursor);
    } catch {
      // Storage is forbidden here, or full: then a reload begins anew.
    }
  }

  // listen begins or ends to listen for what becomes of the page.
  #listen(how) {
    how.call(window, "pagehide", this.#hide);
    how.call(window, "pageshow", this.#show);
    how.call(document, "freeze", this.#hide);
    how.call(document, "resume", this.#show);
  }

  // A page that the browser keeps for the way back, or freezes, must hold neither a connection nor a
  // lock.
  #hide = () => {
    this.#stored(this.#cursor);
    this.#stop();
  };

  #show = () => {
    if (this.#run || this.#state === "ended") return;
    this.#become("reconnecting");
    this.#start();
  };

  #start() {
    const run = (this.#run = new AbortController());
    this.#told = Date.now();
    this.#clock = setInterval(() => this.#watch(), this.#beat / 2);
    if (this.#shared) {
      this.#channel = new BroadcastChannel(this.#key);
      this.#channel.onmessage = (e) => this.#receive(e.data);
      this.#queue();
      this.#join();
      return;
    }
    this.#leads = true;
    // Behind the listeners that the caller is about to add.
    queueMicrotask(() => run.signal.aborted || this.#open());
  }

  #stop() {
    this.#run?.abort();
    this.#release?.();
    this.#channel?.close();
    clearInterval(this.#clock);
    this.#drop();
    this.#run = this.#release = this.#channel = undefined;
    this.#leads = this.#inStep = this.#joining = this.#asked = false;
    this.#log = [];
  }

  #end(status = 0) {
    this.#status = status;
    this.#become("ended");
    this.#stop();
  }

  #become(state) {
    if (state === this.#state) return;
    this.#state = state;
    this.#say();
    this.dispatchEvent(new Event("statechange"));
  }

  #deliver([type, data]) {
    this.dispatchEvent(new MessageEvent(type, { data, lastEventId: this.#cursor, origin: this.#url.origin }));
  }

  // ---- the connection

  #address() {
    const url = new URL(this.#url);
    if (this.#cursor) url.searchParams.set("lastEventId", this.#cursor);
    return url;
  }

  // open opens a connection, unless there is one or an attempt at one.
  #open() {
    if (this.#source || this.#again || this.#probe) return;
    const source = (this.#source = new EventSource(this.#address(), { withCredentials: this.#credentials }));
    this.#sourceTypes = this.#types.size;
    this.#heard = Date.now();
    this.#begun = 0;
    this.#whole = true;
    // Messages can be of type open or error, too: those have data.
    const on = (type, f) => source.addEventListener(type, (e) => source === this.#source && f(e));
    for (const type of this.#types) on(type, (e) => "data" in e && this.#event(e));
    on("open", (e) => {
      if ("data" in e) return;
      this.#whole = true; // the browser came back by itself
      this.#heard = Date.now();
    });
    on("error", (e) => {
      if ("data" in e) return;
      this.#become("reconnecting");
      this.#heard = Date.now() + patience;
      if (source.readyState === EventSource.CLOSED) this.#retry(() => this.#explore());
    });
  }

  // drop gives the connection up, and the turn to join with it.
  #drop() {
    this.#disconnect();
    this.#joined?.();
    this.#joined = undefined;
  }

  #disconnect() {
    this.#source?.close();
    this.#probe?.abort();
    clearTimeout(this.#timer);
    this.#source = this.#probe = this.#again = undefined;
  }

  #event({ type, data, lastEventId }) {
    const run = this.#run;
    this.#heard = Date.now();
    this.#begun ||= this.#heard;
    this.#become("live"); // before the cursor moves: the others learn of that with the event
    if (run.signal.aborted) return; // a listener has closed the feed
    // Until a first id comes, the source does not know the cursor that its URL has stated.
    const moved = lastEventId && lastEventId !== this.#cursor;
    if (moved) this.#cursor = lastEventId;
    const beat = type === "heartbeat";
    this.#beats ||= beat;
    // A heartbeat comes between messages, and tells also of those whose type nobody listens for.
    this.#whole = moved || (beat && (this.#whole || !!this.#cursor));
    this.#say(beat ? undefined : [type, data], true);
    if (!beat) this.#deliver([type, data]);
    if (run.signal.aborted) return;
    if (type === "close") return this.#end();
    this.#settle();
    this.#widen();
  }

  // widen has the source listen for types that were added. It opens another one, because messages of
  // them may have passed unseen behind the cursor.
  #widen() {
    if (this.#source && this.#whole && this.#sourceTypes < this.#types.size) {
      this.#disconnect();
      this.#open();
    }
  }

  // retry does something after a while, which is longer each time until a stream has lasted.
  #retry(attempt) {
    this.#disconnect();
    const lasted = this.#begun && Date.now() - this.#begun > 30 * second;
    this.#begun = 0;
    this.#failures = lasted ? 1 : this.#failures + 1;
    const wait = second * Math.min(30, 2 ** (this.#failures - 1)) * (0.5 + Math.random() / 2);
    this.#due = Date.now() + wait;
    this.#again = () => {
      this.#disconnect();
      this.#become("reconnecting");
      attempt();
    };
    this.#timer = setTimeout(this.#again, wait);
  }

  // explore asks why there was no stream, which an EventSource does not tell.
  async #explore() {
    const probe = (this.#probe = new AbortController());
    this.#heard = Date.now();
    let status = 0;
    let type;
    try {
      const response = await fetch(this.#address(), {
        headers: { Accept: "text/event-stream" },
        credentials: this.#credentials ? "include" : "same-origin",
        cache: "no-store",
        signal: probe.signal,
      });
      status = response.status;
      type = response.headers.get("Content-Type");
      probe.abort(); // what it says is for an EventSource to read
    } catch {
      // It could not be reached.
    }
    if (probe !== this.#probe) return;
    this.#probe = undefined;
    if (final(status)) this.#end(status);
    else if (status === 200 && /^text\/event-stream/i.test(type)) this.#open();
    else this.#retry(() => this.#explore());
  }

  // watch looks whether the stream, and the leader, are alive. It makes an attempt that is overdue,
  // because the timers of a hidden tab are late by up to a minute.
  #watch() {
    if (this.#again && Date.now() >= this.#due) this.#again();
    const late = (since) => Date.now() - since >= quiet * this.#beat;
    if (late(this.#heard)) {
      if (this.#probe) {
        this.#retry(() => this.#explore());
      } else if (this.#source && this.#beats) {
        if (this.#state === "live") this.#become("stale");
        this.#retry(() => this.#open());
      }
    }
    if (this.#leads) return;
    if (!this.#inStep) this.#ask(); // perhaps nobody has led when it asked first
    if (!late(this.#told)) return;
    if (this.#asked) {
      this.#queue(true);
    } else {
      // A tab that was frozen itself finds the leader's words behind this one.
      if (this.#inStep && this.#beats && this.#state === "live") this.#become("stale");
      this.#asked = true;
      this.#ask();
    }
  }

  // ---- the tabs

  // queue waits for the lead, or takes it.
  #queue(steal) {
    const run = this.#run;
    let mine = false;
    const lead = () => {
      if (run.signal.aborted) return;
      mine = true;
      return new Promise((release) => {
        this.#release = release;
        this.#lead();
      });
    };
    const options = { signal: run.signal };
    if (steal) {
      // The request that waits is of no use any more; it ends with its run.
      this.#asked = false;
      delete options.signal;
      options.steal = true;
    }
    navigator.locks.request(this.#key, options, lead).catch(() => {
      if (mine && !run.signal.aborted) this.#stepDown(); // another tab has taken the lead
    });
  }

  #lead() {
    this.#leads = true;
    this.#inStep = false;
    this.#log = [];
    this.#term = Math.max(Date.now(), this.#term + 1);
    this.#count = 0;
    this.#joined?.();
    this.#joined = undefined;
    this.#open();
    this.#say();
    this.#widen();
  }

  #stepDown() {
    if (!this.#leads) return;
    this.#stop();
    this.#start();
  }

  // say tells the other tabs where the leader is, with the event that has brought it there.
  #say(event, heard = false) {
    if (!this.#leads || !this.#channel) return;
    this.#channel.postMessage({
      term: this.#term,
      count: ++this.#count,
      id: this.#cursor,
      whole: this.#whole,
      state: this.#state,
      status: this.#status,
      types: [...this.#types].slice(0, this.#sourceTypes),
      heard,
      event,
    });
  }

  // ask has the leader say where it is, and listen for what this tab wants to hear.
  #ask() {
    if (!this.#leads) this.#channel?.postMessage({ types: [...this.#types] });
  }

  #receive(word) {
    word.types.forEach((type) => this.#types.add(type));
    if (!word.term) {
      if (!this.#leads) return;
      this.#watch(); // for a tab that is seen
      this.#widen();
      this.#say();
      return;
    }
    if (word.term < this.#term || (this.#leads && word.term === this.#term)) return;
    this.#stepDown();
    this.#asked = false;
    if (word.heard) this.#told = Date.now();
    // After a change of the lead a tab is in step again at once if it is where the new leader begins.
    const follows = word.term === this.#term && word.count === this.#count + 1;
    this.#term = word.term;
    this.#count = word.count;
    if (this.#inStep && follows) return this.#take(word);
    const all = word.types.length >= this.#types.size; // that this tab listens for
    this.#inStep = false;
    if (!follows || !all) this.#log = [];
    if (all && this.#log.push(word) > longest) this.#log.shift();
    this.#settle();
    this.#join();
  }

  // take takes over what the leader says.
  #take({ id, whole, event, state, status }) {
    const run = this.#run;
    this.#cursor = id || this.#cursor;
    this.#whole = whole;
    if (event) this.#deliver(event);
    if (run.signal.aborted) return;
    if (state === "ended") this.#end(status);
    else this.#become(state);
  }

  // join opens a connection until this tab is in step. It waits for its turn.
  #join() {
    if (this.#joining || this.#joined || this.#inStep || this.#leads) return;
    this.#joining = true;
    const run = this.#run;
    this.#ask();
    const turn = () => {
      this.#joining = false;
      if (run.signal.aborted || this.#inStep || this.#leads) return;
      return new Promise((joined) => {
        this.#joined = joined;
        this.#open();
      });
    };
    navigator.locks.request(this.#key + " join", { signal: run.signal }, turn).catch(() => {});
  }

  // settle looks whether this tab has reached a position of the leader's, and listens to it from
  // there.
  #settle() {
    if (this.#leads || this.#inStep || !this.#begun || !this.#whole) return;
    const at = this.#log.findLastIndex(({ id, whole }) => whole && id === this.#cursor);
    if (at < 0) return;
    const [here, ...rest] = this.#log.splice(at);
    this.#log = [];
    this.#inStep = true;
    this.#drop();
    for (const word of [{ ...here, event: undefined }, ...rest]) if (this.#inStep) this.#take(word);
  }
}

// follow follows the feed at a URL until it ends or close is called.
export const follow = (url, options) => new Feed(url, options);
