// Runs js/headrace.js in many tabs of a browser that is made here, on a clock of its own, with a feed
// that is made here too: what happens, and when each task runs, follows from a seed. It fails unless
// each tab gets each message once and in order, and all share one connection in the end.
//
//   node model.mjs MODULE FIRST-SEED SEEDS

import { readFileSync } from "node:fs";

const [file, first, seeds] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
const load = new Function(
  "document", "window", "self", "navigator", "location", "EventSource", "BroadcastChannel", "sessionStorage",
  "addEventListener", "removeEventListener", "fetch", "Date", "setTimeout", "clearTimeout", "setInterval", "clearInterval", "Math",
  readFileSync(file, "utf8").replace(/^export /m, "") + "\nreturn follow;",
);

// random returns a generator of numbers below 1.
function random(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

class World {
  now = 1e12;
  tasks = [];
  newest = 0;
  streams = new Set();
  requests = 0;
  refusals = [];
  locks = new Map();
  channels = new Set();
  tabs = [];

  constructor(seed) {
    this.random = random(seed);
  }

  below(n) {
    return Math.floor(this.random() * n);
  }

  // later runs a task of a tab. A line is a queue that keeps its order.
  later(tab, wait, run, line = {}) {
    line.at = Math.max(line.at ?? 0, this.now + wait);
    const task = { at: line.at, tab, run };
    let i = this.tasks.length;
    while (i > 0 && this.tasks[i - 1].at > task.at) i--;
    this.tasks.splice(i, 0, task);
    return task;
  }

  async pass(time) {
    const end = this.now + time;
    while (this.tasks.length > 0 && this.tasks[0].at <= end) {
      const { at, tab, run } = this.tasks.shift();
      this.now = Math.max(this.now, at);
      if (tab?.dead) continue;
      if (tab?.hung) tab.held.push(run);
      else await this.run(run);
    }
    this.now = end;
  }

  async run(task) {
    task();
    await new Promise(setImmediate); // promises go on
  }

  publish() {
    this.newest++;
    for (const stream of this.streams) this.feed(stream);
  }

  feed(stream) {
    if (stream.stalled) return;
    while (stream.at < this.newest) {
      const n = ++stream.at;
      // A message is mapped to some events, of which the last has the id.
      for (let part = 0; part < n % 3; part++) stream.send("part", `${n}.${part}`);
      stream.send(n % 2 ? "odd" : "message", `${n}`, `${n}`);
    }
  }

  beat(stream) {
    if (!this.streams.has(stream)) return;
    if (!stream.stalled) {
      stream.send("heartbeat", "{}");
      stream.beaten = this.now;
    }
    this.later(null, 10000, () => this.beat(stream));
  }

  // answer begins a stream, or returns a status.
  answer(stated, stream) {
    this.requests++;
    if (this.refusals.length > 0) return this.refusals.shift();
    this.streams.add(stream);
    stream.at = stated === "" ? this.newest : Number(stated);
    if (stated === "") stream.send("checkpoint", "", `${stream.at}`);
    this.beat(stream);
    this.feed(stream);
    return 200;
  }

  lock(name) {
    if (!this.locks.has(name)) this.locks.set(name, { queue: [] });
    return this.locks.get(name);
  }

  grant(lock) {
    while (!lock.holder && lock.queue.length > 0) {
      const request = lock.queue.shift();
      if (!request.tab.dead) this.hold(lock, request);
    }
  }

  hold(lock, request) {
    lock.holder = request;
    this.later(request.tab, this.below(5), () =>
      Promise.resolve(request.callback({})).then(() => {
        if (lock.holder === request) {
          lock.holder = undefined;
          this.grant(lock);
        }
        request.resolve();
      }),
    );
  }

  kill(tab) {
    tab.dead = true;
    for (const stream of this.streams) if (stream.tab === tab) this.streams.delete(stream);
    for (const channel of this.channels) if (channel.tab === tab) this.channels.delete(channel);
    for (const lock of this.locks.values()) {
      if (lock.holder?.tab === tab) lock.holder = undefined;
      this.grant(lock);
    }
    this.tabs.splice(this.tabs.indexOf(tab), 1);
  }

  async wake(tab) {
    tab.hung = false;
    for (const run of tab.held.splice(0)) if (!tab.dead) await this.run(run);
  }
}

class Tab {
  hung = false;
  dead = false;
  held = [];
  start = -1;
  got = [];
  states = [];

  constructor(world) {
    const tab = this;
    const page = new EventTarget();
    this.page = page;

    class Source extends EventTarget {
      static CLOSED = 2;
      readyState = 0;
      id = "";
      constructor(url) {
        super();
        this.url = new URL(url);
        world.later(tab, 1 + world.below(50), () => this.connect());
      }
      connect() {
        if (this.readyState === 2) return;
        const line = {};
        const stream = { tab, open: true };
        stream.send = (type, data, id) =>
          world.later(tab, 1 + world.below(30), () => {
            if (this.stream !== stream || this.readyState === 2) return;
            if (id !== undefined) this.id = id;
            this.dispatchEvent(new MessageEvent(type, { data, lastEventId: this.id }));
          }, line);
        stream.cut = () => {
          world.streams.delete(stream);
          world.later(tab, 1, () => {
            if (this.stream !== stream || this.readyState === 2) return;
            this.stream = undefined;
            this.readyState = 0;
            this.dispatchEvent(new Event("error"));
            world.later(tab, 2000, () => this.connect());
          }, line);
        };
        this.stream = stream;
        const status = world.answer(this.id || (this.url.searchParams.get("lastEventId") ?? ""), stream);
        if (status !== 200) {
          this.readyState = 2;
          this.dispatchEvent(new Event("error"));
          return;
        }
        this.readyState = 1;
        this.dispatchEvent(new Event("open"));
      }
      close() {
        this.readyState = 2;
        world.streams.delete(this.stream);
      }
    }

    class Channel {
      constructor(name) {
        Object.assign(this, { name, tab, lines: new Map() });
        world.channels.add(this);
      }
      postMessage(data) {
        const copy = JSON.stringify(data);
        for (const other of world.channels) {
          if (other === this || other.name !== this.name) continue;
          if (!this.lines.has(other)) this.lines.set(other, {});
          world.later(other.tab, world.below(20), () => {
            if (world.channels.has(other)) other.onmessage({ data: JSON.parse(copy) });
          }, this.lines.get(other));
        }
      }
      close() {
        world.channels.delete(this);
      }
    }

    const locks = {
      request: (name, options, callback) =>
        new Promise((resolve, reject) => {
          const lock = world.lock(name);
          const request = { tab, callback, resolve, reject };
          if (options.steal) {
            const old = lock.holder;
            if (old) world.later(old.tab, world.below(20), () => old.reject(new Error("stolen")));
            world.hold(lock, request);
            return;
          }
          options.signal?.addEventListener("abort", () => {
            const i = lock.queue.indexOf(request);
            if (i >= 0) lock.queue.splice(i, 1);
            reject(new Error("aborted"));
          });
          lock.queue.push(request);
          world.grant(lock);
        }),
    };

    const fetched = async (url, { signal }) => {
      await new Promise((resolve) => world.later(tab, 1 + world.below(50), resolve));
      if (signal.aborted) throw new Error("aborted");
      const stream = { tab, send() {} };
      const status = world.answer(url.searchParams.get("lastEventId") ?? "", stream);
      world.streams.delete(stream);
      return { status, headers: new Headers({ "Content-Type": "text/event-stream" }) };
    };

    const timers = new Map();
    const repeat = (f, every) => {
      const timer = {};
      const again = () => {
        timer.task = world.later(tab, every, () => {
          if (timers.get(timer) !== true) return;
          again();
          f();
        });
      };
      timers.set(timer, true);
      again();
      return timer;
    };
    const once = (f, wait) => {
      const timer = {};
      timers.set(timer, true);
      world.later(tab, wait, () => timers.delete(timer) && f());
      return timer;
    };
    const clear = (timer) => timers.delete(timer);
    const on = (...args) => page.addEventListener(...args);
    const off = (...args) => page.removeEventListener(...args);
    const window = { addEventListener: on, removeEventListener: off };
    const document = { baseURI: "https://example.org/", addEventListener: on, removeEventListener: off };
    const storage = new Map();
    const math = Object.create(Math, { random: { value: world.random }, max: { value: Math.max }, min: { value: Math.min } });
    const follow = load(
      document, window, { BroadcastChannel: Channel }, { locks }, {}, Source, Channel,
      { getItem: (k) => storage.get(k) ?? null, setItem: (k, v) => storage.set(k, v) },
      on, off, fetched, { now: () => world.now }, once, clear, repeat, clear, math,
    );
    this.feed = follow("/feed", { user: 7 });
    this.feed.addEventListener("checkpoint", (e) => {
      if (this.start < 0) this.start = Number(e.lastEventId);
    });
    this.types = ["message", "odd", "part"].slice(0, 3 - (world.below(6) % 3));
    for (const type of this.types) this.feed.addEventListener(type, (e) => this.got.push(e.data));
    this.feed.addEventListener("statechange", () => this.states.push([this.feed.state, world.now]));
  }

  // wrong says what is wrong about what this tab has got.
  wrong(newest) {
    const want = [];
    for (let n = this.start + 1; n <= newest; n++) {
      const parts = this.types.includes("part") ? n % 3 : 0;
      for (let part = 0; part < parts; part++) want.push(`${n}.${part}`);
      if (this.types.includes(n % 2 ? "odd" : "message")) want.push(`${n}`);
    }
    let at = 0;
    for (const [i, data] of this.got.entries()) {
      // The position is before a message until all of its events have come: its parts may come again.
      if (data.endsWith(".0") && want[at] !== data && at > 0 && want.slice(Math.max(0, at - 2), at).includes(data)) at = want.indexOf(data);
      if (data !== want[at++]) {
        return `behind ${this.start}, ${this.types}, event ${i}, among ${this.got.slice(Math.max(0, i - 6), i + 4)}: ${want[at - 1]} was to come`;
      }
    }
    return at === want.length ? "" : `behind ${this.start}, ${this.types}: has not got ${want[at]}, of ${newest}`;
  }
}

async function story(seed) {
  const world = new World(seed);
  const { tabs } = world;
  const done = [];
  const any = () => tabs[world.below(tabs.length)];
  const leader = () => [...world.streams][0]?.tab;
  const left = new Set();
  const leave = (tab) => {
    if (!tab || left.has(tab) || tab.hung) return;
    left.add(tab);
    tab.page.dispatchEvent(new Event("pagehide"));
  };
  const happenings = {
    open: () => tabs.length < 8 && tabs.push(new Tab(world)),
    kill: () => tabs.length > 1 && world.kill(any()),
    killLeader: () => tabs.length > 1 && leader() && world.kill(leader()),
    hang: () => tabs.length > 1 && (any().hung = true),
    hangLeader: () => leader() && (leader().hung = true),
    wake: () => world.wake(any()),
    leave: () => leave(any()),
    leaveLeader: () => leave(leader()),
    back: () => {
      for (const tab of left) {
        if (tab.hung) continue;
        left.delete(tab);
        if (!tab.dead) tab.page.dispatchEvent(new Event("pageshow"));
      }
    },
    cut: () => [...world.streams].forEach((stream) => stream.cut?.()),
    stall: () => [...world.streams].forEach((stream) => (stream.stalled = true)),
    refuse: () => world.refusals.push(503, 503),
    burst: () => Array.from({ length: 5 }).forEach(() => world.publish()),
  };
  const names = Object.keys(happenings);
  tabs.push(new Tab(world));
  for (let i = 0; i < 60; i++) {
    const name = names[world.below(names.length)];
    done.push(`${world.now - 1e12} ${name}`);
    await happenings[name]();
    for (let j = world.below(20); j >= 0; j--) {
      world.publish();
      await world.pass(world.below([10, 200, 3000][world.below(3)]));
    }
  }
  world.refusals = [];
  for (const tab of tabs) await world.wake(tab);
  happenings.back();
  await world.pass(300000);
  world.publish();
  await world.pass(30000);
  const faults = tabs.map((tab) => tab.wrong(world.newest)).filter((wrong) => wrong);
  if (world.streams.size !== 1) faults.push(`${world.streams.size} streams`);
  for (const tab of tabs) if (tab.feed.state !== "live") faults.push(`a tab is ${tab.feed.state}`);
  return faults.length > 0 ? [`seed ${seed}`, ...faults, ...(process.env.STORY ? done : [])].join("\n") : "";
}

// moments are when things happen, on a clock that nothing disturbs.
const moments = {
  // A stall is noticed within two heartbeats, by every tab.
  async stall(world, tabs) {
    await world.pass(60000);
    await world.pass(world.below(9000));
    const [stream] = world.streams;
    const heard = stream.beaten;
    stream.stalled = true;
    await world.pass(40000);
    return tabs
      .map(({ states }) => states.filter(([, at]) => at >= heard).map(([state, at]) => [state, at - heard]))
      .filter((states) => !states.some(([state, at]) => state === "stale" && at >= 15000 && at <= 20100) || states.at(-1)[0] !== "live")
      .map((states) => `a stall gave ${states.join("; ")}`);
  },
  // A leader that hangs has lost the lead a heartbeat later.
  async hang(world, tabs) {
    await world.pass(60000);
    const leader = [...world.streams][0].tab;
    leader.hung = true;
    await world.pass(26000);
    world.publish();
    await world.pass(1000);
    return tabs.filter((tab) => tab !== leader && tab.wrong(world.newest)).map((tab) => `a tab has not got the message: ${tab.states}`);
  },
  // A server that refuses is asked less and less, and found again.
  async refuse(world, tabs) {
    await world.pass(60000);
    const before = world.requests;
    world.refusals = Array.from({ length: 1000 }, () => 503);
    for (const stream of world.streams) stream.cut();
    await world.pass(600000);
    const n = world.requests - before;
    world.refusals = [];
    world.publish();
    await world.pass(31000);
    const wrong = tabs.map((tab) => tab.wrong(world.newest)).filter((wrong) => wrong);
    return n > 15 && n < 60 ? wrong : [`${n} requests in ten minutes`, ...wrong];
  },
  // What does not pass is the end, for all.
  async refuseForGood(world, tabs) {
    await world.pass(60000);
    const before = world.requests;
    world.refusals = Array.from({ length: 1000 }, () => 403);
    for (const stream of world.streams) stream.cut();
    await world.pass(600000);
    const n = world.requests - before;
    const left = tabs.filter(({ feed }) => feed.state !== "ended" || feed.status !== 403);
    // A tab that takes the lead before it has heard of the end asks for itself.
    return left.length > 0 || n > 2 * tabs.length ? [`${left.length} tabs go on, ${n} requests`] : [];
  },
};

async function moment(name, seed) {
  const world = new World(seed);
  for (let i = 0; i < 4; i++) world.tabs.push(new Tab(world));
  return (await moments[name](world, world.tabs)).map((fault) => `${name}, seed ${seed}: ${fault}`).join("\n");
}

let bad = 0;
for (let seed = first; seed < first + seeds; seed++) {
  const faults = [await story(seed)];
  if (seed < first + 10) for (const name in moments) faults.push(await moment(name, seed));
  for (const wrong of faults) {
    if (!wrong) continue;
    console.log(wrong);
    bad++;
  }
}
console.log(`${seeds} stories, ${bad} wrong`);
process.exit(bad > 0 ? 1 : 0);
