// What machines and people write goes into the page by textContent and attributes only, never as
// markup.
import { follow } from "/js/headrace.js";
import { $, client, clock, el, onPress, request, showConnection, svg, timeOf } from "/look.js";

// ---- the stream

let site = "";
export let feed;
let user = "";             // as whom the page follows: tabs of the same person share a connection
export let me = null;      // whom the server takes this page for, as the stream said last
export let connections = 0; // since the page began anew
export const openSensors = new Map(); // alarms that are not over: list items by sensor

// restart forgets everything and begins with what the server retains. The cursor goes too: it has
// passed what this page was not to see, and somebody else may see it.
function restart() {
	feed?.close();
	me = null;
	connections = 0;
	lanes.clear();
	openSensors.clear();
	received = 0;
	$("no-lanes").hidden = false;
	$("no-alarms").textContent = "Loading the alarms.";
	$("lanes").replaceChildren();
	$("alarms").replaceChildren();
	countAlarms();
	showCounts();
	connect();
}

function connect() {
	const own = feed = follow("/sites/" + encodeURIComponent(site) + "/events?client=" + client, { user });
	const shown = showConnection(own);
	let resumed = false;
	const on = (type, f) => own.addEventListener(type, (event) => {
		if (feed !== own) return;
		f(event.data && JSON.parse(event.data));
		shown();
	});
	on("statechange", () => {
		if (own.state === "live") connections++;
		else resumed = Boolean(own.cursor);
		showCounts();
	});
	on("hello", greet);
	on("point", (p) => add(p, false));
	on("calibration", (p) => add(p, true));
	on("alarm", showAlarm);
	on("note", (n) => list("note", n.sensor, n.text, "maintenance", n.at));
	on("checkpoint", () => {}); // moves the cursor past what is not for this page
	// Something between is gone. What is left of the last minutes is a better picture than one with
	// a hole that nobody sees.
	on("gap", () => { if (resumed) setTimeout(() => { if (feed === own) restart(); }, 500); });
}

// greet is called at the begin of each connection.
function greet(hello) {
	if (user !== hello.name) {
		user = hello.name; // another tab has signed somebody else in
		restart();
		return;
	}
	me = hello;
	$("no-lanes").hidden = true;
	$("no-alarms").textContent = "Nothing in the last minutes.";
	for (const sensor of hello.sensors) if (!lanes.has(sensor.name)) lanes.set(sensor.name, newLane(sensor));
	measure();
	$("axis").replaceChildren(...[4, 3, 2, 1, 0].map((n) => el("span", {}, n ? "−" + Math.round(n * hello.seconds / 4) + " s" : "now")));
	for (const button of $("people").children) button.setAttribute("aria-pressed", button.dataset.name === hello.name);
	for (const button of $("sites").children) button.setAttribute("aria-pressed", button.dataset.site === hello.site);
	const all = hello.role === "operator";
	$("rights").textContent = hello.name + " is " + (all ? "an operator and sees everything, maintenance too." : "a viewer: what concerns maintenance is not sent to this page.");
	$("key").hidden = !all;
}

// ---- the chart

export const lanes = new Map(); // by sensor
let received = 0;        // points since the page began anew
let newest = 0;          // time of the newest point, by the machines' clock
let ahead = -Infinity;   // what that clock is ahead of performance.now(): the page's own clock may be wrong
let epoch = 0;           // where x is 0

const height = 150, padding = 12, right = 14;

function newLane(sensor) {
	const id = "tone-" + sensor.name, part = (sensor.high - sensor.limit) / (sensor.high - sensor.low);
	const lane = { sensor, points: [], width: 0, stale: true, y: (value) => padding + (height - 2 * padding) * (sensor.high - value) / (sensor.high - sensor.low) };
	const limit = lane.y(sensor.limit);
	// Above the limit a line is red: the gradient changes at one place.
	const stop = (kind) => svg("stop", { class: kind, offset: (padding + part * (height - 2 * padding)) / height });
	lane.line = svg("path", { class: "line", stroke: `url(#${id})` });
	lane.test = svg("path", { class: "test" });
	lane.moving = svg("g", {}, lane.line, lane.test);
	lane.now = svg("circle", { class: "now", r: 5, cx: -20, cy: 0 });
	const across = (attributes, y) => svg("line", { ...attributes, x1: 0, x2: "100%", y1: y, y2: y });
	lane.svg = svg("svg", { role: "img", preserveAspectRatio: "none" },
		svg("defs", {}, svg("linearGradient", { id, gradientUnits: "userSpaceOnUse", x1: 0, x2: 0, y1: 0, y2: height }, stop("hot"), stop("cool"))),
		svg("rect", { class: "over", width: "100%", height: limit }), across({ class: "grid" }, lane.y(sensor.low)),
		across({ class: "limit" }, limit), lane.moving, lane.now,
		svg("text", { class: "limit-text", x: 8, y: limit - 5 }, "limit " + sensor.limit), svg("text", { x: 8, y: lane.y(sensor.low) - 5 }, String(sensor.low)));
	lane.value = el("div", { class: "value" }, "–");
	lane.tag = el("span", { class: "tag" }, "waiting");
	lane.element = el("section", { class: "lane", "data-sensor": sensor.name, "aria-label": sensor.name },
		el("div", { class: "about" }, el("h2", {}, sensor.name), lane.value, el("div", { class: "unit" }, sensor.unit), lane.tag), el("div", {}, lane.svg));
	lane.svg.setAttribute("aria-label", sensor.name);
	$("lanes").append(lane.element);
	return lane;
}

// add takes a point into its line. That it comes once and in order is the stream's business:
// nothing is sorted or dropped here.
function add(point, test) {
	const lane = lanes.get(point.sensor);
	if (!lane) return;
	received++;
	newest = Math.max(newest, point.at);
	ahead = Math.max(ahead, point.at - performance.now());
	epoch ||= point.at;
	const { points } = lane;
	points.push({ seq: point.seq, at: point.at, value: point.value, test });
	while (points[0].at < newest - (me.seconds + 5) * 1000) points.shift();
	lane.stale = true;
	lane.element.dataset.is = test ? "calibrating" : point.hot ? "hot" : "fine";
	lane.value.textContent = point.value.toFixed(lane.sensor.decimals);
	lane.tag.textContent = test ? "calibration" : point.hot ? "above the limit" : "fine";
}

// path returns what is to be drawn of the points that are tests, or of those that are not. A line
// goes from a reading to the next one and breaks where there is one between that was lost, or was
// not for this page.
function path(lane, test, scale) {
	let d = "", before = null;
	for (const p of lane.points) {
		if (p.test === test) {
			const on = before && before.seq + 1 === p.seq && before.test === test;
			d += (on ? "L" : "M") + ((p.at - epoch) * scale).toFixed(1) + " " + Math.min(height + 5, Math.max(-5, lane.y(p.value))).toFixed(1);
			if (!on) d += "h0.1"; // a point alone is a dot
		}
		before = p;
	}
	return d;
}

const calm = matchMedia("(prefers-reduced-motion: reduce)");
function draw() {
	requestAnimationFrame(draw);
	const now = calm.matches ? newest : ahead + performance.now();
	for (const lane of lanes.values()) {
		const last = lane.points.at(-1);
		if (!last) continue;
		const scale = (lane.width - right) / (me.seconds * 1000);
		if (lane.stale && lane.width) {
			lane.stale = false;
			lane.line.setAttribute("d", path(lane, false, scale));
			lane.test.setAttribute("d", path(lane, true, scale));
			lane.now.setAttribute("cy", lane.y(last.value).toFixed(1));
		}
		lane.moving.setAttribute("transform", `translate(${((lane.width - right) - (now - epoch) * scale).toFixed(2)} 0)`);
		lane.now.setAttribute("cx", ((lane.width - right) - (now - last.at) * scale).toFixed(2));
	}
}

// The lines are drawn in the pixels there are, so that they stay sharp.
function measure() {
	for (const lane of lanes.values()) {
		const width = lane.svg.parentNode.clientWidth;
		if (width === lane.width) continue;
		lane.width = width;
		lane.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
		lane.stale = true;
	}
}
new ResizeObserver(measure).observe($("lanes"));

function showCounts() {
	$("count").textContent = received.toLocaleString("en") + " points";
	$("resumed").textContent = connections > 1 ? "resumed " + (connections - 1) + (connections > 2 ? " times" : " time") : "";
}
setInterval(showCounts, 500);

// The chart in numbers, for those who cannot see it or want to know exactly.
function showValues() {
	const rows = [];
	for (const { sensor, points, svg } of lanes.values()) {
		const values = points.filter((p) => !p.test).map((p) => p.value);
		const number = (value) => Number.isFinite(value) ? value.toFixed(sensor.decimals) : "–";
		const [now, low, high] = [values.at(-1) ?? NaN, Math.min(...values), Math.max(...values)].map(number);
		svg.setAttribute("aria-label", `${sensor.name} in ${sensor.unit}: now ${now}, lowest ${low}, highest ${high}, limit ${number(sensor.limit)}`);
		rows.push(el("tr", {}, el("th", { scope: "row" }, sensor.name + " ", el("small", {}, sensor.unit)), ...[now, low, high, number(sensor.limit)].map((text) => el("td", {}, text))));
	}
	$("rows").replaceChildren(...rows);
}
setInterval(showValues, 1000);

// ---- the alarms

const mostEntries = 100;
function list(kind, name, text, more, at) {
	const item = el("li", { "data-kind": kind }, el("span", { class: "mark" }), el("span", { class: "what" }, el("b", {}, name), " " + text),
		timeOf(at), el("span", { class: "more" }, more));
	$("alarms").prepend(item);
	if ($("alarms").children.length > mostEntries) $("alarms").lastChild.remove();
	countAlarms();
	return item;
}

// An alarm says what is, so that of two that say the same the second changes nothing.
function showAlarm(alarm) {
	const open = openSensors.get(alarm.sensor);
	if (alarm.raised && !open) {
		const item = list("raised", alarm.sensor, alarm.text, "since then", alarm.at);
		item.dataset.at = alarm.at;
		openSensors.set(alarm.sensor, item);
		tell(alarm, alarm.sensor + " " + alarm.text + " since " + clock(alarm.at));
	} else if (!alarm.raised && open) {
		open.dataset.kind = "over";
		open.lastChild.textContent = "over after " + Math.round((alarm.at - open.dataset.at) / 1000) + " s";
		openSensors.delete(alarm.sensor);
		tell(alarm, alarm.sensor + ": the alarm is over");
	}
	countAlarms();
}

// tell has an alarm read out, unless it is one of those that the page begins with.
function tell({ at }, text) {
	if (at > newest - 5000) $("news").textContent = text;
}

function countAlarms() {
	$("no-alarms").hidden = $("alarms").children.length > 0;
	$("open-alarms").textContent = openSensors.size;
	$("open-alarms").dataset.any = openSensors.size > 0;
}

// ---- who looks at what

async function signIn(name) {
	user = (await request("POST", "/session", { name })).name;
}

function choose(next) {
	site = next;
	history.replaceState(null, "", "#" + encodeURIComponent(site));
	restart();
}

async function start() {
	let session;
	for (;;) {
		try {
			session = await (await fetch("/session")).json();
			// Nobody has signed in yet: this demonstration begins with the least rights.
			if (session.name) user = session.name;
			else await signIn(session.people[0].name);
			break;
		} catch {
			await new Promise((resolve) => setTimeout(resolve, 2000));
		}
	}
	for (const { name, role } of session.people) {
		const button = el("button", { "data-name": name, title: "sign in as " + name }, name + ", " + role);
		onPress(button, async () => {
			await signIn(name);
			restart();
		});
		$("people").append(button);
	}
	for (const name of session.sites) {
		const button = el("button", { "data-site": name }, name);
		button.onclick = () => choose(name);
		$("sites").append(button);
	}
	requestAnimationFrame(draw);
	choose(session.sites.find((name) => "#" + encodeURIComponent(name) === location.hash) ?? session.sites[0]);
}
start();
